"""Whether more data would help: the same training on growing parts of the data, the same test questions."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.jupyter import JupyterMixin

from ftclient.approaches import leaks, training
from ftclient.approaches.audience import SILENT, Audience
from ftclient.approaches.budget import check_budget, limit_of, priced_as
from ftclient.approaches.training import Trained
from ftclient.approaches.verdict import p_value
from ftclient.approaches.wishes import TITLES, TRAINED, ApproachName, Wishes
from ftclient.data import Dataset
from ftclient.errors import UnsupportedError
from ftclient.evaluate import evaluation, reasoning, spending
from ftclient.evaluate.compare import SURE, Comparison, Figure
from ftclient.evaluate.questions import Question, questions_of
from ftclient.evaluate.task import task_like

if TYPE_CHECKING:
    from decimal import Decimal

    from rich.console import RenderableType

    from ftclient.client import Client
    from ftclient.cost.plan import Plan

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
    n_questions: int
    n_seen: int
    """Test questions that the training data have, too."""
    notes: Sequence[str] = ()
    """What there is to know about the answers, in words."""

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

    @property
    def doubts(self) -> list[str]:
        """What speaks against the figures, in words."""
        leak = leaks.warning(self.n_seen, self.n_questions)
        return [*([leak] if leak else []), *self.notes]

    def to_json(self) -> dict[str, Any]:
        """The curve as plain values."""
        points = [{"n_examples": p.n_examples, "model": p.model, **p.figure.to_json()} for p in self.points]
        data = {"n_questions": self.n_questions, "n_seen": self.n_seen}
        more = {"p_value": self.p_value, "twice": self.twice, "advice": self.advice, "doubts": self.doubts}
        return {"approach": self.approach, "metric": self.metric, **data, "points": points, **more}

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
        wishes: How to train (`approaches` names one of lora, full and head; None is lora), and limits, as for
            `compare`. Nothing is put into prompts.
        audience: Told how it goes on.

    Raises:
        BudgetError: Training and answers may cost more than was allowed, or the limit is no amount in dollars;
            nothing was trained.
        UnsupportedError: The host or the data do not allow this way of training.
        ValueError: There are fewer than two different parts of at least ten examples, or not one way of training.
    """
    wishes = wishes or Wishes()
    limit = limit_of(client.host, wishes.max_cost_usd)
    approach, questions = approach_of(wishes.approaches), questions_of(test)
    task = task_like(questions, questions_of(train))
    why_not = training.why_not(client.host, approach, task)
    if why_not is not None:
        raise UnsupportedError(f"{TITLES[approach]}: {why_not}")
    parts = nested(train, fractions, seed=wishes.seed)
    if len(parts) < len(fractions):
        n_left = len(fractions) - len(parts)
        audience.tell(
            f"Left out: {n_left} of the fractions, equal to others or of fewer than {_LEAST_EXAMPLES} examples."
        )
    plans = [training.plan(client, approach, part, model=model, wishes=wishes) for part in parts]
    if limit is not None:
        _check_budget(client, plans, questions, wishes, limit=limit)
    audience.agree(plans)

    def train_on(place: int, *, skip_deleted: bool) -> Trained:
        audience.tell(f"Training on {len(parts[place])} examples: {TITLES[approach]}")
        return training.run(
            client, approach, plans[place], follow=audience.follow, tell=audience.tell, skip_deleted=skip_deleted
        )

    def ask(trained: Mapping[int, Trained]) -> Comparison:
        audience.tell("Asking")
        models = [each.model for each in trained.values()]
        comparison = client.evaluate(
            test,
            models=models,
            max_tokens=wishes.max_tokens,
            fresh=wishes.fresh,
            is_limited=limit is not None,
            progress=audience.progress,
            tell=audience.tell,
        )
        return replace(comparison, task=task)

    comparison = training.ask_trained(
        client,
        # Who asks afresh asks every model anyway, and none is to be asked twice because another is found to be gone.
        {place: train_on(place, skip_deleted=wishes.fresh) for place in range(len(parts))},
        ask,
        again=partial(train_on, skip_deleted=True),
    )
    n_seen = leaks.count_seen(questions_of(parts[-1]), questions)
    return curve_of(comparison, approach, [len(part) for part in parts], n_seen=n_seen)


def approach_of(names: Sequence[ApproachName] | None) -> ApproachName:
    """Return the one way of training that a learning curve is drawn of.

    Raises:
        ValueError: Several are named, or one that does not train.
    """
    (approach, *more) = names or ("lora",)
    if more or approach not in TRAINED:
        raise ValueError(f"parts of the data are for one of {', '.join(TRAINED)}")
    return approach


def nested(train: Dataset, fractions: Sequence[float], *, seed: int) -> list[Dataset]:
    """Return parts of a dataset, smallest first, each with all of the smaller ones in it.

    Raises:
        ValueError: There are fewer than two different parts of at least ten examples, or one is no part of 1.
    """
    odd = [fraction for fraction in fractions if not 0 < fraction <= 1]
    if odd:
        raise ValueError(f"{odd[0]:g} is no part of the data: name parts from 0 to 1, such as 0.3,1.")
    examples = list(train)
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)  # noqa: S311 - repeatable
    sizes = sorted({round(fraction * len(examples)) for fraction in fractions})
    sizes = [size for size in sizes if size >= _LEAST_EXAMPLES]
    if len(sizes) < 2:  # noqa: PLR2004 - one point is no curve
        raise ValueError(
            f"Of {len(examples)} examples these fractions make fewer than two parts of {_LEAST_EXAMPLES} or more. "
            "Name at least two, such as 0.3,1."
        )
    return [Dataset([examples[place] for place in sorted(order[:size])]) for size in sizes]


def _check_budget(
    client: Client, plans: Sequence[Plan], questions: Sequence[Question], wishes: Wishes, *, limit: Decimal
) -> None:
    """Refuse what may cost more than was allowed: each of the models is asked every question."""
    options = evaluation.Wishes(max_tokens=wishes.max_tokens).options(questions)
    asked = [
        spending.Asked(
            model=priced_as(plan),
            prompt_tokens=spending.prompt_tokens(plan.model, question.messages, question.tools),
            answer_tokens=reasoning.most_tokens(priced_as(plan), options),
        )
        for plan in plans
        for question in questions
    ]
    check_budget(client, plans, asked, limit=limit, what="the learning curve")


def curve_of(comparison: Comparison, approach: ApproachName, sizes: Sequence[int], *, n_seen: int) -> LearningCurve:
    """Return the curve that models make, which were trained on parts of these sizes, fewest examples first."""
    main, models = comparison.main, list(comparison.given)
    figures = {score.model: score.figures[main.metric.name] for score in comparison.scores}
    points = [Point(n_examples=n, model=model, figure=figures[model]) for n, model in zip(sizes, models, strict=True)]
    return LearningCurve(
        approach=approach,
        metric=main.metric.title,
        points=points,
        p_value=p_value(main, models[-2], models[-1]),
        twice=twice(points[-2], points[-1]),
        n_questions=len(comparison.questions),
        n_seen=n_seen,
        notes=comparison.notes,
    )


def twice(before: Point, last: Point) -> float | None:
    """Draw the line of log error over log examples one doubling further (errors fall as a power of the data)."""
    errors = 1 - before.figure.value, 1 - last.figure.value
    if not 0 < errors[1] <= errors[0] <= 1:
        return None
    slope = math.log(errors[0] / errors[1]) / math.log(last.n_examples / before.n_examples)
    return 1 - errors[1] * 2**-slope
