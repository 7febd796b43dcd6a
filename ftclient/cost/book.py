"""The book of prices and dates: a data file of this package, with files of the user's own laid over it.

Every price names its source, and every source its address and day. What is not known says why; it is never zero.
Amounts are decimal numbers, given as strings so that none is rounded on the way.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ftclient.errors import DataError

PRICES_ENV = "FTCLIENT_PRICES"
"""Environment variable with the path of a file of one's own prices."""
FORMAT = 2

Usd = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Entry):
    """Where a price was read, and when."""

    url: str
    as_of: Day
    note: str | None = None


class _Sourced(_Entry):
    source: str | None = None
    """A key of the book's `sources`; None in a file of the user's own means that file."""


class _Priced(_Sourced):
    unknown: str | None = None
    """Why there is no price, in a sentence."""
    note: str | None = None


class Training(_Priced):
    """What training takes: by the million tokens, or (reinforcement) by the hour."""

    usd_per_million_tokens: Usd | None = None
    usd_per_hour: Usd | None = None
    at_most_times: Mapping[str, Usd] | None = None
    """By type of training, how many times the price it may be at most; None: all types cost the same."""


class TokenRates(_Priced):
    """What answers take, in dollars a million tokens. None: there is no such rate."""

    input: Usd | None = None
    cached_input: Usd | None = None
    output: Usd | None = None
    batch_input: Usd | None = None
    batch_cached_input: Usd | None = None
    batch_output: Usd | None = None


class Hosting(_Priced):
    """What it takes that a tuned model can be asked at all, whether it is or not."""

    usd_per_hour: Usd | None = None


class Dates(_Sourced):
    """When a model, or the whole service, ends."""

    closed_to_newcomers: Day | None = None
    """From this day only accounts that have tuned before may train."""
    closed_to_idle: Day | None = None
    """From this day only accounts that have asked a tuned model within the last `idle_days` days may train."""
    idle_days: Annotated[int, Field(ge=1)] | None = None
    last_training_day: Day | None = None
    shutdown: Day | None = None
    """From this day neither the model nor those tuned on it answer."""


class ModelPrices(_Entry):
    """What one host takes for one model."""

    aliases: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("supervised",)
    """Ways in which it can be tuned there."""
    takes_images: bool = False
    training: Training = Training(unknown="No price of training is known.")
    tuned: TokenRates = TokenRates(unknown="No rates of the tuned model are known.")
    base: TokenRates = TokenRates(unknown="No rates of the untuned model are known.")
    hosting: Hosting = Hosting(unknown="Whether hosting costs anything is not known.")
    dates: Dates = Dates()


class HostPrices(_Entry):
    """What one host takes."""

    minimum_usd_per_job: Usd | None = None
    """What the smallest job costs; None: no minimum is known."""
    dates: Dates = Dates()
    models: Mapping[str, ModelPrices] = Field(default_factory=dict)
    usd_per_kwh: Usd | None = None
    """Price of electricity; only for the local backend."""
    watts: Usd | None = None
    """What the machine draws while it trains, where it does not measure that itself."""


class PriceBook(_Entry):
    """Prices of all hosts. `PriceBook.read(path)` lays a file of one's own over those of this package."""

    format: Literal[2]
    sources: Mapping[str, Source] = Field(default_factory=dict)
    hosts: Mapping[str, HostPrices] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path | str) -> PriceBook:
        """Return this package's prices with those of a JSON file in their place.

        The file has the form of `ftclient/cost/prices.json` and only what differs: whole entries (`training`, `tuned`,
        `base`, `hosting`, `dates`) take the place of those of the same model.

        Raises:
            DataError: The file cannot be used; the text names the field.
        """
        path = Path(path)
        try:
            own = cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DataError(f"The prices in {path} cannot be read: {error.strerror}.") from error
        except ValidationError as error:
            raise DataError(_explain(path, error)) from error
        day = dt.datetime.fromtimestamp(path.stat().st_mtime, tz=dt.timezone.utc).date()
        own.check_sources(str(path))
        return shipped().with_prices(own, source=Source(url=str(path), as_of=day.isoformat()))

    def with_prices(self, own: PriceBook, *, source: Source) -> PriceBook:
        """Return this book with another's entries in their place; those without a source get the one given."""
        name = source.url
        hosts = dict(self.hosts)
        for host, prices in own.hosts.items():
            hosts[host] = _merged_host(hosts.get(host, HostPrices()), prices, name)
        return self.model_copy(update={"sources": {**self.sources, **own.sources, name: source}, "hosts": hosts})

    def with_energy(self, *, usd_per_kwh: Decimal | None = None, watts: Decimal | None = None) -> PriceBook:
        """Return this book with another price of electricity, or another power of the machine; None leaves it."""
        given = {name: value for name, value in (("usd_per_kwh", usd_per_kwh), ("watts", watts)) if value is not None}
        local = self.host("local").model_copy(update=given)
        return self.model_copy(update={"hosts": {**self.hosts, "local": local}})

    def host(self, name: str) -> HostPrices:
        """Return what is known of a host: nothing, if it is not in the book."""
        return self.hosts.get(name, HostPrices())

    def source_of(self, entry: _Sourced) -> Source | None:
        """Return where an entry was read."""
        return self.sources.get(entry.source) if entry.source else None

    def check_sources(self, path: str) -> None:
        """Refuse an entry that names a source that is not there.

        Raises:
            DataError: The text names the place in the file.
        """
        for place, entry in _sourced(self):
            if entry.source is not None and entry.source not in self.sources:
                raise DataError(f"{path}, {place}: there is no source {entry.source!r} under `sources`.")


@lru_cache(maxsize=1)
def shipped() -> PriceBook:
    """Return the prices of this package alone."""
    return PriceBook.model_validate_json((files("ftclient.cost") / "prices.json").read_bytes())


def price_book() -> PriceBook:
    """Return the prices that hold here: this package's, with those of the file that FTCLIENT_PRICES names.

    Raises:
        DataError: That file cannot be used.
    """
    path = os.environ.get(PRICES_ENV)
    return PriceBook.read(path) if path else shipped()


def _merged_host(before: HostPrices, own: HostPrices, source: str) -> HostPrices:
    models = dict(before.models)
    for name, prices in own.models.items():
        known = next((key for key, value in models.items() if name == key or name in value.aliases), name)
        models[known] = models.get(known, ModelPrices()).model_copy(update=_given(prices, source))
    return before.model_copy(update={**_given(own, source), "models": models})


def _given(entry: _Entry, source: str) -> dict[str, Any]:
    """Return the fields that a file has set, each with its source."""
    return {name: _with_source(getattr(entry, name), source) for name in entry.model_fields_set}


def _with_source(value: Any, source: str) -> Any:
    if isinstance(value, _Sourced) and value.source is None:
        return value.model_copy(update={"source": source})
    return value


def _sourced(book: PriceBook) -> Iterator[tuple[str, _Sourced]]:
    """Yield all entries that have a source, with their places."""
    for host, prices in book.hosts.items():
        yield _place(["hosts", host, "dates"]), prices.dates
        for model, found in prices.models.items():
            for name in ("training", "tuned", "base", "hosting", "dates"):
                yield _place(["hosts", host, "models", model, name]), getattr(found, name)


def _explain(path: Path, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return f"The prices in {path} are no JSON: {first['msg'].removeprefix('Invalid JSON: ')}."
    if first["loc"] == ("format",):
        return f'The prices in {path} have no `format` that is known: write "format": {FORMAT}.'
    return f"The prices in {path} cannot be used. {_place(first['loc'])}: {first['msg']}."


def _place(parts: Iterable[str | int]) -> str:
    return " > ".join(map(str, parts))


def to_text(amount: Decimal) -> str:
    """Return an amount without an exponent, as JSON has it."""
    return f"{amount:f}"
