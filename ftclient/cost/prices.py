"""What hosts charge for models, and when they end, looked up by host and name. Unknown is None, never zero."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal

from ftclient.cost.book import Dates, ModelPrices, PriceBook, TokenRates, price_book, to_text
from ftclient.hosts import Host

MILLION = Decimal(1_000_000)


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a host takes for training a model."""

    usd_per_million_tokens: Decimal
    source: str
    as_of: str
    """Day on which the source said so, as YYYY-MM-DD."""
    minimum_usd: Decimal = Decimal(0)
    """What the smallest job costs."""
    at_most_times: Decimal = Decimal(1)
    """How many times the price it may be at most, by the kind of training."""

    def cost_usd(self, billed_tokens: int) -> Decimal:
        """Return the exact cost of so many tokens."""
        return max(self.minimum_usd, self.usd_per_million_tokens * billed_tokens / MILLION)

    def is_minimum(self, billed_tokens: int) -> bool:
        """Whether so many tokens would cost less than the smallest job does."""
        return self.usd_per_million_tokens * billed_tokens / MILLION < self.minimum_usd

    def most_usd(self, billed_tokens: int) -> Decimal:
        """Return what so many tokens cost at most."""
        return max(self.minimum_usd, self.usd_per_million_tokens * self.at_most_times * billed_tokens / MILLION)

    def to_json(self) -> dict[str, str]:
        """The price as a plan prints it."""
        found = {
            "usd_per_million_tokens": to_text(self.usd_per_million_tokens),
            "source": self.source,
            "as_of": self.as_of,
        }
        return {**found, "minimum_usd": to_text(self.minimum_usd)} if self.minimum_usd else found


def model_prices(host: Host, model: str, *, book: PriceBook | None = None) -> ModelPrices | None:
    """Return all that is known of `model` at `host`, by its name, an alias, or the name of a model tuned on it."""
    found = (book or price_book()).host(host.name).models
    name = base_of(model)
    if name in found:
        return found[name]
    return next((each for each in found.values() if name in each.aliases), None)


def training_price(
    host: Host, model: str, *, book: PriceBook | None = None, training_type: str | None = None
) -> Price | None:
    """Return the price of training `model` at `host`; None if it is not known, or not by the token.

    Where the price depends on the type of training and none is named, it is bounded by that of the dearest.
    """
    book = book or price_book()
    found = model_prices(host, model, book=book)
    if found is None or found.training.usd_per_million_tokens is None:
        return None
    source = book.source_of(found.training)
    return Price(
        usd_per_million_tokens=found.training.usd_per_million_tokens,
        source=source.url if source else "",
        as_of=source.as_of if source else "",
        minimum_usd=book.host(host.name).minimum_usd_per_job or Decimal(0),
        at_most_times=_at_most_times(found, training_type),
    )


def _at_most_times(found: ModelPrices, training_type: str | None) -> Decimal:
    times = found.training.at_most_times or {}
    dearest = max([Decimal(1), *times.values()])
    return times.get(training_type, dearest) if training_type else dearest


def hourly_price_usd(host: Host, model: str, *, book: PriceBook | None = None) -> Decimal | None:
    """Return what an hour of reinforcement costs, in dollars; None if that is not known."""
    found = model_prices(host, model, book=book)
    return found.training.usd_per_hour if found else None


def why_no_price(host: Host, model: str, *, book: PriceBook | None = None) -> str:
    """Return why there is no price of training, in a sentence."""
    found = model_prices(host, model, book=book)
    if found is None:
        return f"{model} at {host.title} is not in the book of prices."
    return found.training.unknown or "No price of training is known."


def chat_price(host: Host, model: str, *, book: PriceBook | None = None) -> tuple[Decimal, Decimal] | None:
    """Return what a million tokens of prompt and of answer cost with a tuned model, in dollars; None if not known."""
    found = model_prices(host, model, book=book)
    rates = found.tuned if found else TokenRates()
    return None if rates.input is None or rates.output is None else (rates.input, rates.output)


def dates_of(host: Host, model: str, *, book: PriceBook | None = None) -> Dates:
    """Return when the model ends at the host; where nothing is known of the model, when the service does."""
    book = book or price_book()
    found = model_prices(host, model, book=book)
    whole, own = book.host(host.name).dates, found.dates if found else Dates()
    return whole.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def shutdown_of(host: Host, model: str, *, book: PriceBook | None = None) -> str | None:
    """Return the day on which the host shuts `model` down, as YYYY-MM-DD, where that is known."""
    return dates_of(host, model, book=book).shutdown


def last_day_to_start(host: Host, *, book: PriceBook | None = None) -> str | None:
    """Return the last day on which the host starts jobs, as YYYY-MM-DD, where it has said so."""
    return (book or price_book()).host(host.name).dates.last_training_day


def base_of(model: str) -> str:
    """Return the base of a tuned model's name: `ft:gpt-4o-mini-2024-07-18:acme::a1b2c3d4` -> the dated name.

    Azure's names are `gpt-4.1-mini-2025-04-14.ft-<job>-suffix`.
    """
    if model.startswith("ft:") and ":" in model[3:]:
        return model.split(":")[1]
    return model.partition(".ft-")[0]


def today() -> str:
    """Return the calendar's day in UTC as YYYY-MM-DD: days of that form compare as they follow each other."""
    return dt.datetime.now(dt.timezone.utc).date().isoformat()


def days_left(host: Host, model: str, *, book: PriceBook | None = None, shutdown: str | None = None) -> int | None:
    """Return in how many days a model shuts down, by the host's own word if given; None where no day is known."""
    ends = shutdown or shutdown_of(host, model, book=book)
    return None if ends is None else (dt.date.fromisoformat(ends) - dt.date.fromisoformat(today())).days
