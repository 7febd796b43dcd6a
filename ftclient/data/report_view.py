"""How a report looks in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ftclient.data.report import Issue, Report

if TYPE_CHECKING:
    from rich.console import RenderableType


def render(report: Report, *, limit: int) -> Iterator[RenderableType]:
    """Yield the verdict, the numbers and the first `limit` issues."""
    yield _verdict(report)
    numbers = _numbers(report)
    if numbers:
        yield Text(numbers, style="dim")
    if report.issues:
        yield _table(islice(report.issues, limit))
    hidden = len(report.issues) - limit
    if hidden > 0:
        yield Text(f"... and {hidden:,} more; `report.issues` or `ftclient check --json` has all of them", style="dim")


def _verdict(report: Report) -> Text:
    mark, style = ("ok", "bold green") if report.ok else ("not ready", "bold red")
    name = f"{report.source}: " if report.source else ""
    counts = f"{report.n_examples:,} examples, {report.n_errors:,} errors, {report.n_warnings:,} warnings"
    return Text.assemble(name, (mark, style), f"  {counts}")


def _numbers(report: Report) -> str:
    tokens = report.stats.get("tokens")
    if not tokens:
        return str(report.stats.get("tokens_note") or "")
    about = "about " if tokens["is_estimate"] else ""
    each = tokens["per_example"]
    return (
        f"{about}{tokens['total']:,} tokens ({tokens['encoding']}), of which {tokens['trained']:,} are trained; "
        f"an example has {each['median']:,} (median), {each['p95']:,} (95 %), at most {each['max']:,}"
    )


def _table(issues: Iterable[Issue]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, expand=False)
    table.add_column("line", justify="right", no_wrap=True)
    table.add_column("where", overflow="fold")
    table.add_column("problem", overflow="fold")
    table.add_column("what to do", overflow="fold", style="dim")
    for issue in issues:
        color = "red" if issue.severity == "error" else "yellow"
        table.add_row(
            str(issue.line or "file"),
            escape(issue.path),
            f"[{color}]{issue.code}[/] {escape(issue.message)}",
            escape(issue.hint or ""),
        )
    return table
