"""How a report looks in a terminal: the verdict, the numbers, and the issues by kind with their first lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from ftclient.data.counted import counted
from ftclient.data.report import Issue, Report

if TYPE_CHECKING:
    from rich.console import RenderableType

_LINES_SHOWN = 6


@dataclass
class _Kind:
    """Issues of one code."""

    first: Issue
    n_issues: int = 0
    lines: list[int] = field(default_factory=list)
    """The first different lines, and one more where there are more."""

    def add(self, issue: Issue) -> None:
        self.n_issues += 1
        is_new = issue.line is not None and issue.line not in self.lines[-1:]
        if issue.line is not None and is_new and len(self.lines) <= _LINES_SHOWN:
            self.lines.append(issue.line)


def render(report: Report) -> Iterator[RenderableType]:
    """Yield what to print, errors before warnings."""
    yield _verdict(report)
    numbers = _numbers(report)
    if numbers:
        yield Text(numbers, style="dim")
    kinds = _kinds(report.issues)
    for kind in sorted(kinds, key=lambda kind: kind.first.severity):
        yield from _shown(kind)
    if any(kind.n_issues > 1 for kind in kinds):
        yield Text("All of them: `report.issues` or `ftclient check --json`.", style="dim")


def _kinds(issues: Iterable[Issue]) -> list[_Kind]:
    kinds: dict[str, _Kind] = {}
    for issue in issues:
        kinds.setdefault(issue.code, _Kind(issue)).add(issue)
    return list(kinds.values())


def _shown(kind: _Kind) -> Iterator[RenderableType]:
    color = "red" if kind.first.severity == "error" else "yellow"
    times = f" x{kind.n_issues:,}" if kind.n_issues > 1 else ""
    listed = ", ".join(str(line) for line in kind.lines[:_LINES_SHOWN])
    more = ", ..." if len(kind.lines) > _LINES_SHOWN else ""
    where = f"line{'s' if len(kind.lines) > 1 else ''} {listed}{more}" if listed else "the file"
    yield Text.assemble((kind.first.severity, color), " ", (kind.first.code, "bold"), times, f"  {where}")
    place = f"{kind.first.path}: " if kind.first.path else ""
    yield Padding(Text(f"{place}{kind.first.message}"), (0, 0, 0, 4))
    if kind.first.hint:
        yield Padding(Text(kind.first.hint, style="italic dim"), (0, 0, 0, 4))


def _verdict(report: Report) -> Text:
    mark, style = ("ok", "bold green") if report.ok else ("not ready", "bold red")
    name = f"{report.source.name}: " if report.source else ""
    counts = ", ".join(
        counted(n, noun)
        for n, noun in ((report.n_examples, "example"), (report.n_errors, "error"), (report.n_warnings, "warning"))
    )
    return Text.assemble(name, (mark, style), f"  {counts}")


def _numbers(report: Report) -> str:
    tokens = report.stats.get("tokens")
    if not tokens or not report.n_examples:
        return str(report.stats.get("tokens_note") or "")
    about = "about " if tokens["is_estimate"] else ""
    each = tokens["per_example"]
    return (
        f"{about}{tokens['total']:,} tokens ({tokens['encoding']}), of which {tokens['trained']:,} are trained; "
        f"an example has {each['median']:,} (median), {each['p95']:,} (95 %), at most {each['max']:,}"
    )
