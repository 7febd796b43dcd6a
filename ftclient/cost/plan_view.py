"""How a plan looks in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ftclient.cost.plan import Machine, Plan


def render(plan: Plan) -> RenderableType:
    """Return a table of what the job takes, with the arithmetic, and the warnings under it."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(plan):
        table.add_row(name, Text(value))
    warnings = [Text.assemble(("! ", "yellow"), note.message) for note in plan.warnings]
    return Group(table, *warnings)


def _rows(plan: Plan) -> list[tuple[str, str]]:
    rows = [
        ("Model", f"{plan.model} at {plan.host.title}"),
        ("Examples", f"{plan.n_examples:,}"),
        ("Epochs", f"{plan.epochs.n_epochs} ({plan.epochs.rule})"),
        ("Batch", _batch(plan)),
        ("Steps", _steps(plan)),
        ("Tokens", _tokens(plan)),
        ("Billed", _billed(plan)),
        ("Cost", _cost(plan)),
    ]
    if plan.machine:
        rows += _of_machine(plan.machine)
    return [(name, value) for name, value in rows if value]


def _batch(plan: Plan) -> str:
    if plan.batch is None:
        return ""
    return f"{plan.batch.size} ({plan.batch.rule}{'; assumed' if plan.batch.is_assumed else ''})"


def _steps(plan: Plan) -> str:
    if plan.n_steps is None or plan.batch is None:
        return ""
    rate = f", learning rate {plan.machine.learning_rate:g}" if plan.machine and plan.machine.learning_rate else ""
    n_epochs = plan.epochs.n_epochs
    epochs = "1 epoch" if n_epochs == 1 else f"{n_epochs} epochs"
    return f"{plan.n_steps:,} = {plan.n_examples:,} / {plan.batch.size} rounded up, x {epochs}{rate}"


def _tokens(plan: Plan) -> str:
    if plan.tokens is None:
        return "not known"
    cut = f"; {plan.tokens.n_cut:,} examples are cut at the limit" if plan.tokens.n_cut else ""
    return f"{plan.tokens.per_epoch:,} an epoch, {plan.tokens.loss_per_epoch:,} of them learned from{cut}"


def _billed(plan: Plan) -> str:
    if plan.tokens is None or plan.host.is_local:
        return ""
    return f"{plan.billed_tokens:,} tokens = {plan.tokens.per_epoch:,} x {plan.epochs.n_epochs}"


def _cost(plan: Plan) -> str:
    if plan.host.is_local:
        return "no charge"
    if plan.price is None or plan.cost_usd is None:
        return "not known"
    minimum = f", the least that a job costs is ${plan.price.minimum_usd}" if plan.price.minimum_usd else ""
    return (
        f"${plan.cost_usd:,.4f} = {plan.billed_tokens:,} tokens x ${plan.price.usd_per_million_tokens} a million"
        f"{minimum} (price of {plan.price.as_of}, {plan.price.source})"
    )


def _of_machine(machine: Machine) -> list[tuple[str, str]]:
    rows = [("Time", f"about {duration(machine.time_s)}"), ("Memory", size(machine.memory_bytes))]
    if machine.energy_kwh is not None:
        usd = machine.energy_usd
        price = "" if usd is None else f" = ${usd:.4f} at ${machine.usd_per_kwh} a kWh"
        rows.append(("Energy", f"{machine.energy_kwh:.4f} kWh{price}"))
    shown = ((name, _in_words(name, value)) for name, value in machine.more.items())
    return [*rows, *((_label(name), text) for name, text in shown if text)]


def _label(name: str) -> str:
    return name.removesuffix("_bytes").removesuffix("_s").replace("_", " ").capitalize()


def _in_words(name: str, value: Any) -> str:
    """Return what the backend says under some name, in its unit; "" for what is not there."""
    if isinstance(value, Mapping):
        parts = ((each, _in_words(each, found)) for each, found in value.items())
        return ", ".join(f"{_label(each).lower()} {text}" for each, text in parts if text)
    if isinstance(value, list | tuple):
        return ", ".join(text for each in value if (text := _in_words("", each)))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    if name.endswith("_bytes"):
        return size(value)
    return duration(value) if name.endswith("_s") and not name.endswith("per_s") else f"{value:,}"


def duration(seconds: float) -> str:
    """Return a time span in words that fit its length: `42 s`, `3 min 10 s`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    if whole < 3600:  # noqa: PLR2004
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(n_bytes: float) -> str:
    """Return a number of bytes in the largest unit that leaves at least one of it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:  # noqa: PLR2004
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"
