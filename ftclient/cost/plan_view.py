"""How a plan looks in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ftclient.cost.plan import Plan


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
    tokens = plan.tokens
    rows = [
        ("Model", f"{plan.model} at {plan.host.title}"),
        ("Examples", f"{plan.n_examples:,}"),
        ("Epochs", f"{plan.epochs.n_epochs} ({plan.epochs.rule})"),
        ("Tokens", f"{tokens.per_epoch:,} an epoch, {tokens.loss_per_epoch:,} of them learned from"),
        ("Steps", _steps(plan)),
        ("Cost", _cost(plan)),
    ]
    if plan.machine:
        rows += [("Time", f"about {duration(plan.machine.time_s)}"), ("Memory", size(plan.machine.memory_bytes))]
    return [(name, value) for name, value in rows if value]


def _steps(plan: Plan) -> str:
    if plan.n_steps is None:
        return ""
    rate = f", learning rate {plan.machine.learning_rate:g}" if plan.machine and plan.machine.learning_rate else ""
    return f"{plan.n_steps:,} of {plan.batch_size} examples{rate}"


def _cost(plan: Plan) -> str:
    if plan.host.is_local:
        return "no charge"
    if plan.price is None or plan.cost_usd is None:
        return "not known"
    return (
        f"${plan.cost_usd:,.4f} = {plan.billed_tokens:,} tokens x ${plan.price.usd_per_million_tokens} a million "
        f"(price of {plan.price.as_of})"
    )


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
