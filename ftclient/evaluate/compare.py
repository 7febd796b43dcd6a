"""Several models on the same held-out questions, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.jupyter import JupyterMixin

from ftclient.evaluate import stats
from ftclient.evaluate.metrics import exact_match
from ftclient.evaluate.questions import Answer, Question
from ftclient.evaluate.stats import Interval
from ftclient.evaluate.task import Metric, Task, mean, task_of

if TYPE_CHECKING:
    from rich.console import RenderableType

SURE = 0.05
"""Differences of a p-value below it are called real."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A model's figure, and from where to where it may lie (95 %)."""

    value: float
    interval: Interval

    def to_json(self) -> dict[str, float]:
        """The figure as three numbers."""
        return {"value": self.value, "low": self.interval.low, "high": self.interval.high}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A metric, and what each answer gave to it."""

    metric: Metric
    values: Mapping[str, Sequence[Any]]
    """Per model, in the order of the questions."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """How one model did. Shares are of 1."""

    model: str
    n: int
    exact_match: float
    valid_json: float | None
    """None where the expected answers are not JSON."""
    figures: Mapping[str, Figure] = field(default_factory=dict, repr=False)
    """By the metric's name; the first is the one that models are compared by."""
    median_s: float | None = field(default=None, repr=False)
    """Seconds from question to answer, with others under way."""
    prompt_tokens: int | None = field(default=None, repr=False)
    answer_tokens: int | None = field(default=None, repr=False)
    cost_usd: Decimal | None = field(default=None, repr=False)
    """What the answers cost, those of earlier calls too; None where the host's prices are not known."""
    n_refused: int = field(default=0, repr=False)
    """Questions that the host refused, because of their length, say."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How another model did against the first, on the same questions."""

    first: str
    other: str
    metric: str
    value: float
    """The other's figure less the first's."""
    interval: Interval
    p_value: float
    """How often chance alone would part them as far."""
    test: str
    mended: Sequence[int]
    """Questions that the first got wrong and the other right."""
    broken: Sequence[int]
    """The other way round."""

    @property
    def is_real(self) -> bool:
        """Whether chance is no likely reason."""
        return self.p_value < SURE


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(JupyterMixin):
    """What models answered to the same questions. Prints itself with rich."""

    questions: Sequence[Question]
    given: Mapping[str, Sequence[Answer]]
    """Answers per model, in the order of the questions."""
    task: Task | None = None
    """None finds it from the questions."""
    extra: Sequence[Measured] = ()
    """What was measured beyond the task's own metrics: a grader's rewards, perplexity, a judge's preferences."""
    leads: bool = False
    """Whether models are compared by the first of `extra`, and not by the task's first metric."""
    notes: Sequence[str] = ()
    """What went wrong on the way, in words: answers that a grader could not grade, figures that were left out."""
    costs_usd: Mapping[str, Decimal | None] = field(default_factory=dict)
    """What each model's answers cost."""

    @property
    def answers(self) -> dict[str, list[str]]:
        """Answers per model as text, in the order of the questions."""
        return {model: [answer.shown for answer in given] for model, given in self.given.items()}

    @cached_property
    def kind(self) -> Task:
        """What kind of answers are expected, and why these metrics."""
        return self.task or task_of(self.questions)

    @cached_property
    def measured(self) -> list[Measured]:
        """All metrics with what each answer gave; models are compared by the first."""
        own = [
            Measured(
                metric=metric,
                values={
                    model: [measure(*pair) for pair in zip(self.questions, given, strict=True)]
                    for model, given in self.given.items()
                },
            )
            for metric, measure in self.kind.measures
        ]
        return [*self.extra, *own] if self.leads else [*own, *self.extra]

    @property
    def main(self) -> Measured:
        """What models are compared by."""
        return self.measured[0]

    @cached_property
    def scores(self) -> list[Score]:
        """One score a model, in the order in which they were named."""
        return [self._score(model) for model in self.given]

    @cached_property
    def differences(self) -> list[Difference]:
        """Every further model against the first."""
        first, *others = self.given
        return [self._difference(first, other) for other in others]

    def right(self, model: str) -> list[bool]:
        """Return whether each answer of a model is right, by the first metric that says so of single answers."""
        deciding = next((each for each in self.measured if each.metric.right_from is not None), self.main)
        return [bool(deciding.metric.is_right(value)) for value in deciding.values[model]]

    def to_json(self) -> dict[str, Any]:
        """Scores, differences, and all answers."""
        from ftclient.evaluate.compare_json import as_json

        return as_json(self)

    def to_html(self, path: Path | str | None = None, *, title: str = "", lang: str = "en") -> str:
        """Return one page that needs nothing else, with filters, and write it to `path` if one is given.

        Args:
            path: Where to.
            title: What was evaluated: the file's name, say.
            lang: `en` or `ja`: the language of the page's own words.
        """
        from ftclient.evaluate.page import page

        text = page(self, title=title, lang=lang)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def __repr__(self) -> str:
        """The scores, without any text of the data."""
        shares = ", ".join(f"{score.model} {score.exact_match:.0%}" for score in self.scores)
        return f"<Comparison on {len(self.questions)} questions: {shares}>"

    def __rich__(self) -> RenderableType:
        """Scores and three questions with their answers, for `rich.print(comparison)`."""
        from ftclient.evaluate.compare_view import render

        return render(self)

    def _score(self, model: str) -> Score:
        given, n = self.given[model], len(self.questions)
        figures = {each.metric.name: _figure(each, model) for each in self.measured if model in each.values}
        pairs = list(zip(self.questions, given, strict=True))
        hits = sum(exact_match(answer.text, question.expected) for question, answer in pairs)
        return Score(
            model=model,
            n=n,
            exact_match=figures["exact_match"].value if "exact_match" in figures else hits / n,
            valid_json=figures["valid_json"].value if "valid_json" in figures else None,
            figures=figures,
            median_s=_median([answer.seconds for answer in given]),
            prompt_tokens=_sum([answer.prompt_tokens for answer in given]),
            answer_tokens=_sum([answer.answer_tokens for answer in given]),
            cost_usd=self.costs_usd.get(model),
            n_refused=sum(answer.error is not None for answer in given),
        )

    def _difference(self, first: str, other: str) -> Difference:
        a, b, metric = self.main.values[first], self.main.values[other], self.main.metric
        interval, p_value = _paired(a, b, metric)
        rights = list(zip(self.right(first), self.right(other), strict=True))
        mended = [i for i, (before, after) in enumerate(rights) if after and not before]
        broken = [i for i, (before, after) in enumerate(rights) if before and not after]
        if metric.is_binary:
            p_value = stats.mcnemar(len(mended), len(broken))
        return Difference(
            first=first,
            other=other,
            metric=metric.name,
            value=metric.total(b) - metric.total(a),
            interval=interval,
            p_value=p_value,
            test="McNemar's exact test" if metric.is_binary else "paired bootstrap",
            mended=mended,
            broken=broken,
        )


def _figure(measured: Measured, model: str) -> Figure:
    metric, values = measured.metric, measured.values[model]
    value, bounds = metric.total(values), _bounds(measured.metric, values)
    if metric.total is mean and bounds == (0, 1) and all(each in (0, 1) for each in values):
        return Figure(value=value, interval=stats.wilson(round(sum(values)), len(values)))
    found = stats.bootstrap(values, metric.total)
    if bounds is not None:
        found = stats.with_unseen(found, value, n=metric.n_behind(values), bounds=bounds)
    return Figure(value=value, interval=found)


def _bounds(metric: Metric, values: Sequence[Any]) -> Interval | None:
    """The metric's bounds, if these values keep to them: code that grades may give any number."""
    if metric.bounds is None:
        return None
    bounds = Interval(*metric.bounds)
    keeps = metric.total is not mean or bounds.low <= min(values) <= max(values) <= bounds.high
    return bounds if keeps else None


def _paired(a: Sequence[Any], b: Sequence[Any], metric: Metric) -> tuple[Interval, float]:
    """The interval and p-value of a difference; where all questions differ alike, resampling alone knows no width."""
    found, p_value = stats.paired_bootstrap(a, b, metric.total)
    bounds = _bounds(metric, [*a, *b])
    if bounds is None or found.low < found.high:
        return found, p_value
    most = bounds.high - bounds.low
    return stats.with_unseen(found, found.low, n=metric.n_behind(a), bounds=Interval(-most, most)), p_value


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
