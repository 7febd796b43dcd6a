"""How a comparison looks in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ftclient.evaluate.page_words import WORDS
from ftclient.evaluate.tables import Cells, FirstThatFits

if TYPE_CHECKING:
    from decimal import Decimal

    from ftclient.evaluate.compare import Comparison, Difference, Figure, Score
    from ftclient.evaluate.task import Metric

_SHOWN = 3
_CHARS = 160
_NAME_COLUMNS = 40


def render(comparison: Comparison) -> RenderableType:
    """Return the scores of all models and a few questions with everybody's answers."""
    differences = [Text(said(each, comparison.main.metric)) for each in comparison.differences]
    notes = [Text(note, style="yellow") for note in (*refusals(comparison), *comparison.notes)]
    return Group(_scores(comparison), *differences, *notes, Text(), *_samples(comparison))


def refusals(comparison: Comparison, *, said: str = WORDS["en"]["refused"]) -> list[str]:
    """Return how many questions the host refused, and why the first of them, for each model that has any."""
    return [
        said.format(model=score.model, n=score.n_refused, why=_first_refusal(comparison, score))
        for score in comparison.scores
        if score.n_refused
    ]


def _first_refusal(comparison: Comparison, score: Score) -> str:
    return next(answer.error[:_CHARS] for answer in comparison.given[score.model] if answer.error)


def said(difference: Difference, metric: Metric) -> str:
    """Return a difference in words."""
    sign = -1 if metric.lower_is_better else 1
    better = "better" if sign * difference.value > 0 else "worse"
    if difference.is_real:
        start = f"{difference.other} is {better} than {difference.first}"
    else:
        start = f"{difference.other} may be no better or worse than {difference.first}"
    low, high = (figure_text(bound, metric, signed=True) for bound in difference.interval)
    value = figure_text(difference.value, metric, signed=True)
    counts = f"{len(difference.mended)} mended, {len(difference.broken)} broken"
    return f"{start}: {metric.title} {value} ({low} to {high}, {p_text(difference.p_value)}); {counts}."


def figure_text(value: float, metric: Metric, *, signed: bool = False) -> str:
    """Return a figure as it is printed: a percentage (a difference of two: percentage points), or a number."""
    if signed:
        return f"{100 * value:+.0f} pp" if metric.is_share else f"{value:+.2f}"
    return f"{value:.0%}" if metric.is_share else f"{value:.2f}"


def p_text(p_value: float) -> str:
    """Return a p-value as it is printed."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"  # noqa: PLR2004 - no more digits mean anything


def _scores(comparison: Comparison) -> RenderableType:
    scores = comparison.scores
    with_seconds, with_cost = any(map(is_remote, scores)), any(score.cost_usd for score in scores)
    cells = Cells(
        title=f"{len(comparison.questions)} held-out questions",
        caption=f"{comparison.kind.reason}; figures with their 95 % intervals",
        names=[
            "model",
            *(measured.metric.title for measured in comparison.measured),
            *["s"] * with_seconds,
            *["cost"] * with_cost,
        ],
        rows=[
            [
                Text(score.model),
                *_figures(comparison, score),
                *[Text(_seconds(score.median_s))] * with_seconds,
                *[Text(_usd(score.cost_usd))] * with_cost,
            ]
            for score in scores
        ],
    )
    return FirstThatFits([cells.as_table(), cells.as_table(is_narrow=True), cells.as_list()])


def is_remote(score: Score) -> bool:
    """Whether seconds say something of a model: here, where all questions are computed together, they do not."""
    return score.median_s is not None and score.cost_usd != 0


def _figures(comparison: Comparison, score: Score) -> list[Text]:
    return [
        _figure(score.figures[measured.metric.name], measured.metric)
        if measured.metric.name in score.figures
        else Text("-")
        for measured in comparison.measured
    ]


def _figure(figure: Figure, metric: Metric) -> Text:
    low, high = (figure_text(bound, metric).rstrip("%") for bound in figure.interval)
    return Text.assemble((figure_text(figure.value, metric), "bold"), (f"\n{low}-{high}", "dim"))


def _usd(cost: Decimal | None) -> str:
    return "-" if cost is None else f"${cost:.4f}"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}"


def _samples(comparison: Comparison) -> list[RenderableType]:
    step = max(1, len(comparison.questions) // _SHOWN)
    return [_sample(comparison, i) for i in range(0, len(comparison.questions), step)[:_SHOWN]]


def _sample(comparison: Comparison, index: int) -> RenderableType:
    question = comparison.questions[index]
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", overflow="fold", max_width=_NAME_COLUMNS)
    table.add_column(overflow="fold")
    table.add_row("expected", _clip(expected_text(comparison, index)))
    for model, answers in comparison.answers.items():
        right = comparison.right(model)[index]
        table.add_row(Text(model), Text.assemble(_clip(answers[index]), (" ✓", "green") if right else (" ✗", "red")))
    return Group(_clip(question.text, style="bold"), table, Text())


def expected_text(comparison: Comparison, index: int) -> str:
    """Return the expected answer with its calls."""
    question = comparison.questions[index]
    calls = [f"{call.name}({call.arguments})" for call in question.expected_calls]
    return "\n".join(part for part in (question.expected, *calls) if part)


def _clip(text: str, *, style: str = "") -> Text:
    """Return the text on one line, without control characters and markup, and not too long."""
    flat = "".join(char if char.isprintable() else " " for char in text)
    return Text(flat if len(flat) <= _CHARS else flat[: _CHARS - 1] + "…", style=style)
