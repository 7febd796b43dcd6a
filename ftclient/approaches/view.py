"""How outcomes look in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ftclient.approaches.wishes import TITLES
from ftclient.cost.words import dollars
from ftclient.evaluate.compare_view import figure_text, refusals
from ftclient.evaluate.tables import Cells, FirstThatFits
from ftclient.view.words import clock

if TYPE_CHECKING:
    from ftclient.approaches.learning_curve import LearningCurve
    from ftclient.approaches.outcome import Outcome, Outcomes
    from ftclient.evaluate.compare import Comparison, Figure

_BAR_CELLS = 16


def render(outcomes: Outcomes) -> RenderableType:
    """Return the table of approaches, best first, and the verdict with its reasons."""
    verdict = outcomes.verdict
    reasons = [Padding(Text(f"- {reason}"), (0, 0, 0, 2), expand=False) for reason in verdict.reasons]
    left_out = [Text(each, style="dim") for each in not_tried(outcomes)]
    refused = refusals(named(outcomes.comparison, {str(name): title for name, title in TITLES.items()}))
    notes = [Text(note, style="yellow") for note in (*refused, *outcomes.comparison.notes)]
    advice = Text(verdict.advice, style="bold")
    return Group(_table(outcomes), *_retrieval(outcomes), *left_out, *notes, Text(), advice, *reasons)


def named(comparison: Comparison, names: Mapping[str, str]) -> Comparison:
    """Return a comparison of approaches that calls them by these names."""
    return replace(
        comparison,
        given={names[name]: answers for name, answers in comparison.given.items()},
        costs_usd={names[name]: usd for name, usd in comparison.costs_usd.items()},
    )


def not_tried(outcomes: Outcomes) -> list[str]:
    """Return in words which approaches were left out, and why."""
    return [f"Not tried: {TITLES[name]}. {why}" for name, why in outcomes.skipped.items()]


def _table(outcomes: Outcomes) -> RenderableType:
    wide, narrow = _cells(outcomes, has_bars=True), _cells(outcomes, has_bars=False)
    return FirstThatFits([wide.as_table(), narrow.as_table(), narrow.as_table(is_narrow=True), narrow.as_list()])


def _cells(outcomes: Outcomes, *, has_bars: bool) -> Cells:
    comparison = outcomes.comparison
    metric = comparison.main.metric
    rows = []
    for outcome in outcomes.outcomes:
        low, high = (figure_text(bound, metric).rstrip("%") for bound in outcome.figure.interval)
        bar = _bar(outcome.figure, is_share=metric.is_share) if has_bars else ""
        figure = Text.assemble(bar, (figure_text(outcome.figure.value, metric), "bold"), (f" ({low}-{high})", "dim"))
        more = (f"{outcome.alone:.0%}", training_text(outcome), call_text(outcome), prompt_text(outcome))
        rows.append([Text(outcome.title), figure, *map(Text, more)])
    return Cells(
        title=f"{len(comparison.questions)} test questions",
        caption=f"{comparison.kind.reason}; in brackets: 95 % intervals; alone: right by this approach only",
        names=["approach", metric.title, "alone", "training", "a call", "prompt"],
        rows=rows,
        n_left=2,
    )


def _bar(figure: Figure, *, is_share: bool = True) -> str:
    if not is_share:
        return ""
    full = round(figure.value * _BAR_CELLS)
    return "━" * full + " " * (_BAR_CELLS - full) + " "


def training_text(outcome: Outcome) -> str:
    """Return how long training took, and what it cost."""
    if outcome.trained is None:
        return "-"
    money = f" {dollars(outcome.trained.cost_usd)}" if outcome.trained.cost_usd else ""
    return f"{clock(outcome.trained.seconds)}{money}"


def call_text(outcome: Outcome) -> str:
    """Return how long an answer takes, and what it costs."""
    seconds = "-" if outcome.latency_s is None else f"{outcome.latency_s:.2f} s"
    return f"{seconds} ${outcome.call_usd:.5f}" if outcome.call_usd else seconds


def prompt_text(outcome: Outcome) -> str:
    """Return how long prompts are."""
    return "-" if outcome.prompt_tokens is None else f"{outcome.prompt_tokens:,.0f} tokens"


def _retrieval(outcomes: Outcomes) -> list[RenderableType]:
    documents, ranking = outcomes.documents, outcomes.ranking
    if documents is None:
        return []
    text = f"Retrieval: {documents.n_passages:,} passages of {documents.n_documents:,} documents"
    if outcomes.cited is not None:
        text += f"; {outcomes.cited:.0%} of the answers cite one"
    if ranking is not None:
        text += f"; the source is among {ranking.k} for {ranking.hit_rate:.0%} (MRR {ranking.mean_reciprocal_rank:.2f})"
    return [Text(text + ".", style="dim"), *(Text(f"Left out: {why}", style="yellow") for why in documents.skipped)]


def render_curve(curve: LearningCurve) -> RenderableType:
    """Return figures by number of examples, and whether more would help."""
    table = Table(title=f"{TITLES[curve.approach]}, by training data", title_justify="left")
    table.add_column("examples", justify="right")
    table.add_column(curve.metric)
    for point in curve.points:
        figure = point.figure
        interval = f" ({figure.interval.low:.0%}-{figure.interval.high:.0%})".replace("%-", "-")
        cells = Text.assemble(_bar(figure), (f"{figure.value:.0%}", "bold"), (interval, "dim"))
        table.add_row(f"{point.n_examples:,}", cells)
    doubts = [Padding(Text(f"- {doubt}"), (0, 0, 0, 2), expand=False) for doubt in curve.doubts]
    return Group(table, Text(curve.advice, style="bold"), *doubts)
