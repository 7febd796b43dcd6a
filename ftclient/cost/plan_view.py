"""How a plan looks in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ftclient.cost import machine_view
from ftclient.cost.book import to_text

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
        rows += machine_view.rows(plan.machine)
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
    about = "about " if plan.tokens.is_estimate else ""
    return f"{about}{plan.tokens.per_epoch:,} an epoch, {plan.tokens.loss_per_epoch:,} of them learned from{cut}"


def _billed(plan: Plan) -> str:
    if plan.tokens is None or plan.host.is_local:
        return ""
    return f"{plan.billed_tokens:,} tokens = {plan.tokens.per_epoch:,} x {plan.epochs.n_epochs}"


def _cost(plan: Plan) -> str:
    if plan.host.is_local:
        return "no charge"
    if plan.price is None or plan.cost_usd is None:
        return "not known"
    price, source = plan.price, f"(price of {plan.price.as_of}, {plan.price.source})"
    counted = f"{plan.billed_tokens:,} tokens x ${to_text(price.usd_per_million_tokens)} a million"
    if price.is_minimum(plan.billed_tokens or 0):
        return f"at least ${to_text(price.minimum_usd)}, the least that a job costs; {counted} is less {source}"
    most = f", at most ${plan.most_usd:,.4f}" if plan.most_usd not in (None, plan.cost_usd) else ""
    return f"${plan.cost_usd:,.4f} = {counted}{most} {source}"
