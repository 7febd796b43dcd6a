"""What the same job costs at every host and model that could run it, the local machine among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.jupyter import JupyterMixin

from ftclient import hosts
from ftclient.cost.book import ModelPrices, PriceBook, price_book, to_text
from ftclient.cost.epochs import resolve_epochs, resolve_host_epochs
from ftclient.cost.notes import OPEN_MODEL
from ftclient.cost.plan import Plan
from ftclient.cost.prices import dates_of, days_left, hourly_price_usd, model_prices, today, training_price
from ftclient.cost.tokens import Tokens, as_chats, check_and_count, count_tokens, has_own_encoding
from ftclient.cost.usage import Traffic, Use, local_use, traffic_of, use_of
from ftclient.cost.words import duration, size
from ftclient.data import Dataset, Report
from ftclient.data.counted import counted
from ftclient.data.tokens import DEFAULT_ENCODING, encoding_for
from ftclient.hosts import Host
from ftclient.jobs.methods import Method, Supervised

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One host and model, and what the job costs there."""

    host: Host
    model: str
    n_epochs: int
    billed_tokens: int | None
    training_usd: Decimal | None
    use: Use | None = None
    """None where no traffic was named."""
    last_training_day: str | None = None
    shutdown: str | None = None
    notes: Sequence[str] = ()

    @property
    def first_month_usd(self) -> Decimal | None:
        """Training, and a month of use where traffic was named."""
        month = self.use.tuned_usd_per_month if self.use else Decimal(0)
        return None if self.training_usd is None or month is None else self.training_usd + month

    def to_json(self) -> dict[str, Any]:
        """The offer as `ftclient plan --compare --json` prints it; amounts are decimal strings."""
        return {
            "host": self.host.name,
            "model": self.model,
            "n_epochs": self.n_epochs,
            "billed_tokens": self.billed_tokens,
            "training_usd": None if self.training_usd is None else to_text(self.training_usd),
            "first_month_usd": None if self.first_month_usd is None else to_text(self.first_month_usd),
            "use": self.use.to_json() if self.use else None,
            "last_training_day": self.last_training_day,
            "shutdown": self.shutdown,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class Offers(JupyterMixin):
    """All offers, the cheapest first month in front and unknown ones last. Prints itself with rich."""

    offers: Sequence[Offer]
    left_out: Sequence[tuple[str, str, str]]
    """Host, model and reason of those that cannot run it."""

    def to_json(self) -> dict[str, Any]:
        """All offers as `ftclient plan --compare --json` prints them."""
        names = ("host", "model", "reason")
        return {
            "offers": [offer.to_json() for offer in self.offers],
            "left_out": [dict(zip(names, each, strict=True)) for each in self.left_out],
        }

    def __repr__(self) -> str:
        """How many there are."""
        return f"<Offers: {len(self.offers)} hosts and models, {len(self.left_out)} left out>"

    def __rich__(self) -> RenderableType:
        """The offers as a table, for `rich.print(offers)`."""
        from ftclient.cost.offers_view import render

        return render(self)


def compare_offers(
    train: Dataset,
    *,
    method: Method | None = None,
    plan: Plan | None = None,
    book: PriceBook | None = None,
    day: str | None = None,
    calls_per_day: int | None = None,
    **usage: Any,
) -> Offers:
    """Return what a job on this dataset costs at every host and model of the book that could run it.

    Args:
        train: The training file. It is checked by each host's rules; hosts that would refuse it are left out.
        method: The way of tuning; None is Supervised().
        plan: A plan that is there already; the local backend's gives its model.
        book: What hosts charge; None is what holds here.
        day: The day it is, as YYYY-MM-DD; None is the calendar's. What has ended by then is left out.
        calls_per_day: Add what using the tuned model costs; None leaves that out.
        usage: prompt_tokens, answer_tokens, shots and in_batches, as for `traffic_of`.
    """
    book = book or price_book()
    counts = _Counts(train, method or Supervised(), book, day or today())
    asked = {"calls_per_day": calls_per_day, **usage} if calls_per_day is not None else None
    made, left_out = [], []
    for host, model, prices in _candidates(book):
        reason = _why_not(host, model, prices, counts, book)
        if reason:
            left_out.append((host.name, model, reason))
        else:
            made.append(_offer(host, model, counts, book, asked))
    if counts.method.type in hosts.LOCAL.methods:
        made += _local_offers(plan, counts, asked)
        left_out += _local_left_out(plan, counts)
    made.sort(key=lambda offer: (offer.first_month_usd is None, offer.first_month_usd or 0, not offer.host.is_local))
    return Offers(offers=made, left_out=left_out)


class _Counts:
    """One job on one day: checks of its file by the rules of many hosts, those that would say the same made once."""

    def __init__(self, data: Dataset, method: Method, book: PriceBook, day: str) -> None:
        self.data, self.method, self.day, self._book = data, method, day, book
        self._reports: dict[Any, Report] = {}
        self._use: _Counts | None = None

    def report(self, host: Host, model: str) -> Report:
        """Return the check by a host's rules for a model."""
        limits = host.limits.for_model(model)
        key = (limits, encoding_for(model) or DEFAULT_ENCODING)
        if key not in self._reports:
            found = check_and_count(self.data, host, model=model, method=self.method.type)
            self._reports[key] = found
            longest = (found.stats.get("tokens") or {}).get("per_example", {}).get("max", 0)
            if not found.stats["n_with_images"] and longest <= (limits.context_tokens or longest):
                self._reports.update(dict.fromkeys(self._alike(key, longest), found))
        return self._reports[key]

    def _alike(self, key: Any, longest: int) -> Iterator[Any]:
        """Yield the keys of checks that would say the same: nothing is cut, and there are no images to count."""
        limits, encoding = key
        for host, model, _ in _candidates(self._book):
            other = host.limits.for_model(model)
            same = replace(other, context_tokens=limits.context_tokens, max_images=limits.max_images)
            is_whole = longest <= (other.context_tokens or longest)
            if same == limits and is_whole and (encoding_for(model) or DEFAULT_ENCODING) == encoding:
                yield other, encoding

    def tokens(self, host: Host, model: str) -> Tokens | None:
        """Return the tokens as a host counts them."""
        return count_tokens(self.report(host, model), is_own_encoding=has_own_encoding(model))

    def use_tokens(self, host: Host, model: str) -> Tokens | None:
        """Return the tokens of the examples as a model will be asked them: of two answers, only the preferred one."""
        if self.method.type != "dpo":
            return self.tokens(host, model)
        self._use = self._use or _Counts(as_chats(self.data), Supervised(), self._book, self.day)
        return self._use.tokens(host, model)


def _candidates(book: PriceBook) -> Iterator[tuple[Host, str, ModelPrices]]:
    for name, prices in book.hosts.items():
        for model, found in prices.models.items():
            yield _host(name), model, found


def _host(name: str) -> Host:
    """Return a host by its name in the book; those that only a user's own book knows have the plain contract."""
    try:
        return hosts.host_named(name)
    except ValueError:
        return replace(hosts.OTHER, name=name, title=name)


def _why_not(host: Host, model: str, prices: ModelPrices, counts: _Counts, book: PriceBook) -> str | None:
    """Return why a host cannot run the job on a model; None if it can, as far as is known."""
    dates, day = dates_of(host, model, book=book), counts.day
    if dates.shutdown and dates.shutdown <= day:
        return f"shut down on {dates.shutdown}"
    if dates.last_training_day and dates.last_training_day < day:
        return f"no jobs are started since {dates.last_training_day}"
    if counts.method.type not in prices.methods or counts.method.type not in host.methods:
        return f"tuned by {', '.join(prices.methods)} only"
    report = counts.report(host, model)
    if not report.ok:
        first = next(issue for issue in report.issues if issue.severity == "error")
        return f"the data has {counted(report.n_errors, 'error')} by its rules, such as {first.code}"
    if report.stats["n_with_images"] and not prices.takes_images:
        return "takes no images"
    return None


def _offer(host: Host, model: str, counts: _Counts, book: PriceBook, asked: dict[str, Any] | None) -> Offer:
    tokens, n = counts.tokens(host, model), counts.report(host, model).n_examples
    epochs, is_assumed = resolve_host_epochs(counts.method.n_epochs, n_examples=n, host_name=host.name)
    billed = tokens.per_epoch * epochs.n_epochs if tokens else None
    price = training_price(host, model, book=book) if counts.method.type != "reinforcement" else None
    training = price.cost_usd(billed) if price and billed is not None else None
    dates = dates_of(host, model, book=book)
    asks = counts.use_tokens(host, model) if asked else None
    traffic = traffic_of(asks, n, **asked) if asked and asks else None
    return Offer(
        host=host,
        model=model,
        n_epochs=epochs.n_epochs,
        billed_tokens=billed,
        training_usd=training,
        use=_use(host, model, traffic, training, book) if traffic else None,
        last_training_day=dates.last_training_day,
        shutdown=dates.shutdown,
        notes=list(_notes(host, model, counts, book, tokens, has_price=training is not None, is_assumed=is_assumed)),
    )


def _notes(
    host: Host,
    model: str,
    counts: _Counts,
    book: PriceBook,
    tokens: Tokens | None,
    *,
    has_price: bool,
    is_assumed: bool,
) -> Iterator[str]:
    prices, dates = model_prices(host, model, book=book) or ModelPrices(), dates_of(host, model, book=book)
    if not has_price:
        hourly = hourly_price_usd(host, model, book=book) if counts.method.type == "reinforcement" else None
        yield f"${hourly} an hour of training." if hourly is not None else prices.training.unknown or "No price."
    if dates.closed_to_newcomers and dates.closed_to_newcomers <= counts.day:
        yield f"Only for accounts that had tuned before {dates.closed_to_newcomers}."
    if not has_own_encoding(model):
        yield "Tokens are estimated by o200k."
    if tokens and tokens.n_cut:
        yield f"{counted(tokens.n_cut, 'example')} cut at its limit."
    if is_assumed:
        yield "Its epochs are assumed."


def _local_left_out(plan: Plan | None, counts: _Counts) -> list[tuple[str, str, str]]:
    """Say that the open model that stands for the local backend reads no images."""
    is_planned = plan is not None and plan.host.is_local
    if is_planned or not counts.report(hosts.OPENAI, OPEN_MODEL).stats["n_with_images"]:
        return []
    return [(hosts.LOCAL.name, OPEN_MODEL, "takes no images; plan a vision model at the local backend")]


def _local_offers(plan: Plan | None, counts: _Counts, asked: dict[str, Any] | None) -> list[Offer]:
    """Return the row of the user's own machine, if it can run the job; a plan of its backend gives time and energy."""
    local = plan if plan and plan.host.is_local else None
    # What OpenAI accepts is accepted here, too: the local rules are asked only about what it refuses.
    judge = hosts.OPENAI if counts.report(hosts.OPENAI, OPEN_MODEL).ok else hosts.LOCAL
    if local is None and (_local_left_out(plan, counts) or not counts.report(judge, OPEN_MODEL).ok):
        return []
    is_own = local is not None and counts.method.type != "dpo"
    tokens = local.tokens if local and is_own else counts.use_tokens(judge, OPEN_MODEL) if asked else None
    n = local.n_examples if local else counts.report(judge, OPEN_MODEL).n_examples
    energy = local.machine.energy_usd if local and local.machine else None
    offer = Offer(
        host=hosts.LOCAL,
        model=local.model if local else OPEN_MODEL,
        n_epochs=resolve_epochs(counts.method.n_epochs, n_examples=n).n_epochs,
        billed_tokens=local.billed_tokens if local else None,
        training_usd=energy or Decimal(0),
        use=local_use(traffic_of(tokens, n, **asked)) if asked and tokens else None,
        notes=[_about_local(local)],
    )
    return [offer]


def _about_local(local: Plan | None) -> str:
    if local is None or local.machine is None:
        return "Your own machine; plan at the local backend for time and memory."
    machine = local.machine
    energy = f", {machine.energy_kwh:.3f} kWh" if machine.energy_kwh is not None else ""
    return f"Your own machine: about {duration(machine.time_s)}, {size(machine.memory_bytes)} of memory{energy}."


def _use(host: Host, model: str, traffic: Traffic, training_usd: Decimal | None, book: PriceBook) -> Use:
    left = days_left(host, model, book=book)
    return use_of(model_prices(host, model, book=book), traffic, training_usd=training_usd, days_left=left)
