"""`ftclient plan`: what training takes, what using the model costs, where else it could run, and how plans came out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftclient.cli.job_options import JobOptions, LearningOptions, SetupOptions, datasets, method_of, planned
from ftclient.cli.options import with_groups
from ftclient.cli.session import connected, current, err, out, say, show, show_json
from ftclient.data.counted import counted

if TYPE_CHECKING:
    from ftclient.client import Client
    from ftclient.cost.offers import Offers
    from ftclient.cost.plan import Plan
    from ftclient.cost.usage import Use

_USE, _LOOK = "Cost of use", "Prices and other hosts"
_CURVE_LINES = 8
_CURVE_COLUMNS = 60
_SHORTEST_CURVE_DAYS, _LONGEST_CURVE_DAYS = 30, 365

PricesOption = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Your own prices over those of this package (else $FTCLIENT_PRICES).",
        rich_help_panel=_LOOK,
    ),
]


@dataclass(frozen=True, kw_only=True)
class UseOptions:
    """How the tuned model will be used."""

    calls_per_day: Annotated[
        int | None,
        typer.Option("--calls-per-day", min=0, help="Count the cost of use.", rich_help_panel=_USE),
    ] = None
    prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a prompt (else as in FILE).", rich_help_panel=_USE)
    ] = None
    answer_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of an answer (else as in FILE).", rich_help_panel=_USE)
    ] = None
    shots: Annotated[
        int, typer.Option(min=0, help="Examples that the untuned model is shown in its prompt.", rich_help_panel=_USE)
    ] = 0
    in_batches: Annotated[
        bool, typer.Option("--in-batches", help="Ask through the batch API.", rich_help_panel=_USE)
    ] = False


@dataclass(frozen=True, kw_only=True)
class LookOptions:
    """Where the prices come from, and what else is to be looked at."""

    prices: PricesOption = None
    usd_per_kwh: Annotated[
        float | None, typer.Option("--usd-per-kwh", min=0, help="Price of your electricity.", rich_help_panel=_LOOK)
    ] = None
    watts: Annotated[
        float | None, typer.Option(min=0, help="What this machine draws while it trains.", rich_help_panel=_LOOK)
    ] = None
    compare: Annotated[
        bool, typer.Option("--compare", help="All hosts and models that could run it.", rich_help_panel=_LOOK)
    ] = False
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="Past jobs beside their plans; takes no FILE.", rich_help_panel=_LOOK)
    ] = False


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="[bold]ftclient plan support.jsonl --model smollm2-135m[/bold]\n\n"
        "[bold]ftclient --backend openai plan support.jsonl --model gpt-4.1-mini --calls-per-day 1000 --shots 8[/bold]"
        "\n\n[bold]ftclient plan support.jsonl --compare[/bold]\n\n[bold]ftclient plan --accuracy[/bold]"
    )(with_groups(plan))


def plan(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A .jsonl file (or .gz, .zst)."),
    ] = None,
    *,
    model: Annotated[str | None, typer.Option("--model", help="The model to start from; --compare needs none.")] = None,
    setup: SetupOptions,
    learning: LearningOptions,
    max_cost: Annotated[str | None, typer.Option("--max-cost", metavar="USD", help="Fail if it costs more.")] = None,
    use: UseOptions,
    look: LookOptions,
) -> None:
    """Say what training would take: tokens, epochs, cost, time, memory. Nothing is started."""
    limit = usd(max_cost)
    if look.accuracy:
        if file is not None:
            raise typer.BadParameter("it shows past jobs, and takes no FILE", param_hint="--accuracy")
        _show_accuracy()
        return
    if file is None:
        raise typer.BadParameter("name a training file", param_hint="FILE")
    if model is None and not look.compare:
        raise typer.BadParameter("name a model; --compare shows them all", param_hint="--model")
    if model is None and limit is not None:
        raise typer.BadParameter("it bounds the plan of one model: name it with --model", param_hint="--max-cost")
    traffic = _traffic(use)
    with connected(keyless=True) as client:
        lay_prices(client, look.prices)
        client.prices = client.prices.with_energy(usd_per_kwh=_decimal(look.usd_per_kwh), watts=_decimal(look.watts))
        made = planned(client, file, JobOptions(model=model, **vars(setup)), learning) if model else None
        used = made.use(book=client.prices, **traffic) if made and traffic else None
        offers = _offers(client, file, setup.valid, learning, made, traffic) if look.compare else None
    _show_json(made, used, offers) if current.as_json else _show(made, used, offers)
    if made is not None and limit is not None:
        made.check_budget(limit)
    if offers is not None and not offers.offers:
        raise typer.Exit(1)


def lay_prices(client: Client, path: Path | None) -> None:
    """Lay a file of the user's own prices over those that hold."""
    if path is not None:
        from ftclient.cost.book import PriceBook

        client.prices = PriceBook.read(path)


def usd(text: str | None) -> Decimal | None:
    """Return the amount that `--max-cost` names.

    Raises:
        typer.BadParameter: It is no amount in dollars.
    """
    if text is None:
        return None
    found = _amount(text.lstrip("$"))
    if found is None:
        raise typer.BadParameter(f"{text!r} is no amount in dollars", param_hint="--max-cost")
    return found


def _amount(text: str) -> Decimal | None:
    from decimal import InvalidOperation

    try:
        found = Decimal(text)
    except InvalidOperation:
        return None
    return found if found.is_finite() and found >= 0 else None


def _decimal(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _traffic(use: UseOptions) -> dict[str, Any]:
    """Return the named use; {} where none is asked about."""
    given = asdict(use)
    if use.calls_per_day is not None:
        return given
    if any(value for value in given.values()):
        raise typer.BadParameter("how many? The cost of use needs it", param_hint="--calls-per-day")
    return {}


def _offers(
    client: Client,
    file: Path,
    valid: str | None,
    learning: LearningOptions,
    made: Plan | None,
    traffic: dict[str, Any],
) -> Offers:
    data = made.request.train if made else datasets(file, valid)[0]
    with err().status("Working out the cost at all hosts ..."):
        return client.offers(data, plan=made, method=method_of(learning), **traffic)


def _show_accuracy() -> None:
    with connected() as client, err().status("Asking how the jobs went ..."):
        found = client.plan_accuracy()
    if current.as_json:
        show_json(found.to_json())
    elif found.outcomes:
        show(found)
    else:
        say(f"No job was planned and started at {current.host.title} from this home yet.")


def _show_json(made: Plan | None, used: Use | None, offers: Offers | None) -> None:
    found = made.to_json() if made else {}
    if used is not None:
        found["use"] = used.to_json()
    if offers is not None:
        found |= offers.to_json()
    show_json(found)


def _show(made: Plan | None, used: Use | None, offers: Offers | None) -> None:
    if made is not None:
        show(made)
    if used is not None:
        from ftclient.cost.offers_view import render_use

        show("", render_use(used), *_curve(used))
    if offers is not None:
        show(*([""] if made else []), offers)


def _curve(used: Use) -> list[Any]:
    """Return what has been paid, day by day: the tuned model as a line, the untuned one as marks."""
    from ftclient.view.plot import plot

    tuned, base, training = used.tuned_usd_per_month, used.base_usd_per_month, used.training_usd
    if tuned is None or base is None or training is None or not base:
        return []
    n_days = min(_LONGEST_CURVE_DAYS, max(_SHORTEST_CURVE_DAYS, 2 * (used.break_even_days or 0)))
    days = range(0, n_days + 1, max(1, n_days // 15))
    lines = plot(
        {day: float(training + tuned / 30 * day) for day in range(n_days + 1)},
        {day: float(base / 30 * day) for day in days},
        width=min(_CURVE_COLUMNS, out().width),
        height=_CURVE_LINES,
        ascii_only=(out().encoding or "ascii").lower().replace("-", "") != "utf8",
    )
    return ["", f"Dollars paid in {counted(n_days, 'day')}, training too: tuned as a line, untuned as dots", *lines]
