"""How the accuracy of plans looks in a terminal."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ftclient.cost.words import dollars, duration

if TYPE_CHECKING:
    from ftclient.cost.accuracy import Accuracy, Measure, Outcome


def render(accuracy: Accuracy) -> RenderableType:
    """Return a table of estimates and what came, and the middle ratio of each kind."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("job", no_wrap=True)
    for name in ("status", "tokens", "cost", "time"):
        table.add_column(name, overflow="fold")
    table.add_column("model", overflow="fold")
    for outcome in accuracy.outcomes:
        table.add_row(*map(Text, _row(outcome)))
    return Group(table, *_summary(accuracy))


def _row(outcome: Outcome) -> tuple[str, ...]:
    tokens = _pair(outcome.tokens, lambda value: f"{int(value):,}")
    cost = _pair(outcome.cost_usd, lambda value: dollars(Decimal(value)))
    time = _pair(outcome.time_s, lambda value: duration(float(value)))
    return outcome.job_id, outcome.status, tokens, cost, time, outcome.model


def _pair(measure: Measure, show: Callable[[float | Decimal], str]) -> str:
    shown = ["?" if each is None else show(each) for each in (measure.estimated, measure.actual)]
    if shown == ["?", "?"]:
        return ""
    ratio = "" if measure.ratio is None else f" ({measure.ratio:.2f}x)"
    return f"{shown[0]} -> {shown[1]}{ratio}"


def _summary(accuracy: Accuracy) -> list[Text]:
    lines = []
    for name in ("tokens", "cost_usd", "time_s"):
        ratios = [ratio for each in accuracy.outcomes if (ratio := getattr(each, name).ratio) is not None]
        if ratios:
            label = {"tokens": "Tokens", "cost_usd": "Cost", "time_s": "Time"}[name]
            text = f"{label}: {median(ratios):.2f} of the estimate (median), {min(ratios):.2f} to {max(ratios):.2f}"
            lines.append(Text(text))
    return lines
