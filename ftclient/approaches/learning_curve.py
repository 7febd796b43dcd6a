"""Whether more data would help: the same training on growing parts of the data, the same test questions."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.jupyter import JupyterMixin

from ftclient.approaches import training
from ftclient.approaches.audience import SILENT, Audience
from ftclient.approaches.wishes import TITLES, ApproachName, Wishes
from ftclient.data import Dataset
from ftclient.errors import BudgetError
from ftclient.evaluate import stats
from ftclient.evaluate.compare import SURE, Comparison, Figure

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ftclient.client import Client

_LEAST_EXAMPLES = 10
"""Hosts take no smaller training files."""
_WORTH_IT = 0.01


@dataclass(frozen=True, kw_only=True)
class Point:
    """What came of one part of the data."""

    n_examples: int
    model: str
    figure: Figure


@dataclass(frozen=True, kw_only=True, repr=False)
class LearningCurve(JupyterMixin):
    """Figures by the number of examples, fewest first. Prints itself with rich."""

    approach: ApproachName
    metric: str
    points: Sequence[Point]
    p_value: float
    """How often chance alone would part the last two points as far."""
    twice: float | None
    """The figure with twice the data, if errors go on falling as they did; None where nothing can be drawn."""

    @property
    def advice(self) -> str:
        """Whether more data would help, in words."""
        before, last = self.points[-2:]
        gain = last.figure.value - before.figure.value
        step = f"From {before.n_examples} to {last.n_examples} examples {self.metric} went {gain:+.1%}"
        if self.p_value >= SURE:
            return f"{step}, which may be chance (p = {self.p_value:.2f}): more data of this kind would bring little."
        if self.twice is None or self.twice - last.figure.value < _WORTH_IT:
            return f"{step}: more data of this kind would bring little."
        return f"{step}: more data would help. Going on like this, twice as many would give about {self.twice:.0%}."

    def to_json(self) -> dict[str, Any]:
        """The curve as plain values."""
        points = [{"n_examples": p.n_examples, "model": p.model, **p.figure.to_json()} for p in self.points]
        more = {"p_value": self.p_value, "twice": self.twice, "advice": self.advice}
        return {"approach": self.approach, "metric": self.metric, "points": points, **more}

    def __repr__(self) -> str:
        """The figures."""
        return "<LearningCurve: " + ", ".join(f"{p.n_examples} {p.figure.value:.2f}" for p in self.points) + ">"

    def __rich__(self) -> RenderableType:
        """The curve as a table with bars, for `rich.print(curve)`."""
        from ftclient.approaches.view import render_curve

        return render_curve(self)


def learning_curve(
    client: Client,
    train: Dataset,
    test: Dataset,
    *,
    model: str,
    fractions: Sequence[float],
    wishes: Wishes | None = None,
    audience: Audience = SILENT,
) -> LearningCurve:
    """Train on growing parts of the data and ask each model the test questions.

    Smaller parts are parts of larger ones. Jobs and answers of an earlier call are used again.

    Args:
        client: Where models are trained and asked.
        train: All of the data.
        test: Questions with their answers.
        model: The base model.
        fractions: Parts of the data, of 1; at least two.
        wishes: How to train (the first of its `approaches`: lora, full or head), and limits, as for `compare`.
        audience: Told how it goes on.

    Raises:
        BudgetError: Training may cost more than was allowed; nothing was trained.
        ValueError: There are fewer than two different parts of at least ten examples.
    """
    wishes = wishes or Wishes()
    approach: ApproachName = (wishes.approaches or ("lora",))[0]
    parts = nested(train, fractions, seed=wishes.seed)
    plans = [training.plan(client, approach, part, model=model, wishes=wishes) for part in parts]
    _check_budget(client, plans, wishes)
    audience.agree(plans)
    models = []
    for part, plan in zip(parts, plans, strict=True):
        audience.tell(f"Training on {len(part)} examples: {TITLES[approach]}")
        models.append(training.run(client, approach, plan, follow=audience.follow).model)
    audience.tell("Asking")
    comparison = client.evaluate(test, models=models, progress=audience.progress)
    return _curve(comparison, approach, [len(part) for part in parts], models)


def nested(train: Dataset, fractions: Sequence[float], *, seed: int) -> list[Dataset]:
    """Return parts of a dataset, smallest first, each with all of the smaller ones in it.

    Raises:
        ValueError: There are fewer than two different parts of at least ten examples.
    """
    examples = list(train)
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)  # noqa: S311 - repeatable
    sizes = sorted({round(fraction * len(examples)) for fraction in fractions if 0 < fraction <= 1})
    sizes = [size for size in sizes if size >= _LEAST_EXAMPLES]
    if len(sizes) < 2:  # noqa: PLR2004 - one point is no curve
        raise ValueError(
            f"Of {len(examples)} examples these fractions make fewer than two parts of {_LEAST_EXAMPLES} or more. "
            "Name at least two, such as 0.3,1."
        )
    return [Dataset([examples[place] for place in sorted(order[:size])]) for size in sizes]


def _check_budget(client: Client, plans: Sequence[Any], wishes: Wishes) -> None:
    if wishes.max_cost_usd is None or client.host.is_local:
        return
    costs = [plan.cost_usd for plan in plans]
    if None in costs or sum(costs) > Decimal(str(wishes.max_cost_usd)):
        raise BudgetError(f"Training so often may cost more than the limit of ${wishes.max_cost_usd}, or nobody knows.")


def _curve(
    comparison: Comparison, approach: ApproachName, sizes: Sequence[int], models: Sequence[str]
) -> LearningCurve:
    main = comparison.main
    figures = {score.model: score.figures[main.metric.name] for score in comparison.scores}
    points = [Point(n_examples=n, model=model, figure=figures[model]) for n, model in zip(sizes, models, strict=True)]
    _, p_value = stats.paired_bootstrap(main.values[models[-2]], main.values[models[-1]], main.metric.total)
    return LearningCurve(
        approach=approach, metric=main.metric.title, points=points, p_value=p_value, twice=twice(points[-2], points[-1])
    )


def twice(before: Point, last: Point) -> float | None:
    """Draw the line of log error over log examples one doubling further (errors fall as a power of the data)."""
    errors = 1 - before.figure.value, 1 - last.figure.value
    if not 0 < errors[1] <= errors[0] <= 1:
        return None
    slope = math.log(errors[0] / errors[1]) / math.log(last.n_examples / before.n_examples)
    return 1 - errors[1] * 2**-slope
