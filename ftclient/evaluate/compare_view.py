"""How a comparison looks in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ftclient.evaluate.metrics import exact_match

if TYPE_CHECKING:
    from ftclient.evaluate.compare import Comparison

_SHOWN = 3
_CHARS = 160
_NAME_COLUMNS = 40


def render(comparison: Comparison) -> RenderableType:
    """Return the scores of all models and a few questions with everybody's answers."""
    return Group(_scores(comparison), Text(), *_samples(comparison))


def _scores(comparison: Comparison) -> Table:
    scores = comparison.scores
    with_json = any(score.valid_json is not None for score in scores)
    table = Table(title=f"{len(comparison.questions)} held-out questions", title_justify="left")
    table.add_column("model", overflow="fold")
    table.add_column("exact match", justify="right")
    if with_json:
        table.add_column("valid JSON", justify="right")
    for score in scores:
        json_share = [_share(score.valid_json)] if with_json else []
        table.add_row(Text(score.model), _share(score.exact_match), *json_share)
    return table


def _samples(comparison: Comparison) -> list[RenderableType]:
    step = max(1, len(comparison.questions) // _SHOWN)
    return [_sample(comparison, i) for i in range(0, len(comparison.questions), step)[:_SHOWN]]


def _sample(comparison: Comparison, index: int) -> RenderableType:
    question = comparison.questions[index]
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", overflow="fold", max_width=_NAME_COLUMNS)
    table.add_column(overflow="fold")
    table.add_row("expected", _clip(question.expected))
    for model, answers in comparison.answers.items():
        right = exact_match(answers[index], question.expected)
        table.add_row(Text(model), Text.assemble(_clip(answers[index]), (" ✓", "green") if right else (" ✗", "red")))
    return Group(_clip(question.text, style="bold"), table, Text())


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _clip(text: str, *, style: str = "") -> Text:
    """Return the text on one line, without control characters and markup, and not too long."""
    flat = "".join(char if char.isprintable() else " " for char in text)
    return Text(flat if len(flat) <= _CHARS else flat[: _CHARS - 1] + "…", style=style)
