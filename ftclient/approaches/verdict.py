"""What to do, in plain words: the least effort that is enough, or the best if nothing else is.

Nobody is told to train for a lead over the untrained approaches that chance may explain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftclient.approaches import leaks
from ftclient.approaches.wishes import APPROACHES, TITLES, TRAINED, ApproachName
from ftclient.cost.words import dollars
from ftclient.evaluate import stats
from ftclient.evaluate.compare import SURE
from ftclient.evaluate.compare_view import figure_text

if TYPE_CHECKING:
    from ftclient.approaches.outcome import Outcome, Outcomes
    from ftclient.evaluate.compare import Measured

_CLOSE = 0.03
"""Approaches this near to each other are told apart by effort alone, unless chance is no likely reason."""

ADVICE: dict[ApproachName, str] = {
    "base": "Do not tune: the base model does this already.",
    "examples": "Do not tune: put examples into the prompt.",
    "rag": "Do not tune: let the model read your documents (RAG).",
    "head": "Transfer learning is enough: train the output layer alone.",
    "lora": "Fine-tune with LoRA.",
    "full": "Fine-tune all weights.",
}
NOTHING_HELPS = "Do not tune yet: nothing that was tried clearly helps the base model."
UNDECIDED = "Do not tune yet: the gain may be chance. Compare again with more test questions."


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What to do, and why."""

    choice: ApproachName
    advice: str
    reasons: Sequence[str]

    @property
    def is_to_tune(self) -> bool:
        """Whether anything is to be trained."""
        return self.choice in TRAINED

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain values."""
        return {"choice": self.choice, "tune": self.is_to_tune, "advice": self.advice, "reasons": list(self.reasons)}


def judge(outcomes: Outcomes) -> Verdict:
    """Return the verdict on what was measured."""
    best = outcomes.outcomes[0]
    sound = [each for each in outcomes.outcomes if not _may_be_chance(outcomes, each)]
    enough = [each for each in sound if each is best or _is_enough(outcomes, each, best)]
    choice = min(enough, key=_effort) if enough else sound[0]
    reasons = [
        _first(outcomes, choice, best),
        *_against(outcomes, choice, best),
        *_costs(choice, best),
        *_doubts(outcomes),
    ]
    is_decided = bool(enough) or choice.name in TRAINED
    advice = _advice(outcomes, choice) if is_decided else UNDECIDED
    return Verdict(choice=choice.name, advice=advice, reasons=reasons)


def _effort(outcome: Outcome) -> int:
    return APPROACHES.index(outcome.name)


def _advice(outcomes: Outcomes, choice: Outcome) -> str:
    return ADVICE[choice.name] if choice.name != "base" or _reaches(outcomes, choice) else NOTHING_HELPS


def _may_be_chance(outcomes: Outcomes, one: Outcome) -> bool:
    """Whether an approach was trained without a clear lead over the best of those that were not."""
    ranked = outcomes.outcomes
    plain = next((each for each in ranked if each.name not in TRAINED), None)
    if plain is None or one.name not in TRAINED:
        return False
    return ranked.index(one) > ranked.index(plain) or _p(outcomes, plain, one) >= SURE


def _reaches(outcomes: Outcomes, one: Outcome) -> bool:
    """Whether an approach is good enough by itself."""
    return not outcomes.comparison.main.metric.lower_is_better and one.figure.value >= outcomes.good_enough


def _is_enough(outcomes: Outcomes, one: Outcome, best: Outcome) -> bool:
    """Whether an approach may stand for the best: as good but for chance, and near to it or good enough by itself."""
    metric = outcomes.comparison.main.metric
    if metric.lower_is_better or _p(outcomes, one, best) < SURE:
        return False
    return best.figure.value - one.figure.value <= _CLOSE or _reaches(outcomes, one)


def p_value(main: Measured, one: str, other: str) -> float:
    """Return how often chance alone would part two as far, on the same questions.

    Args:
        main: What they are compared by.
        one: Of whom `main` has values.
        other: The same.
    """
    a, b = main.values[one], main.values[other]
    if main.metric.is_binary:
        better = sum(after > before for before, after in zip(a, b, strict=True))
        return stats.mcnemar(better, sum(after < before for before, after in zip(a, b, strict=True)))
    return stats.paired_bootstrap(a, b, main.metric.total)[1]


def _p(outcomes: Outcomes, one: Outcome, other: Outcome) -> float:
    return p_value(outcomes.comparison.main, one.name, other.name)


def _first(outcomes: Outcomes, choice: Outcome, best: Outcome) -> str:
    text = f"{_named(outcomes, choice)} on {len(outcomes.comparison.questions)} test questions"
    if choice is best:
        return f"{text}; nothing did better."
    saves_effort = _is_enough(outcomes, choice, best) and _effort(choice) < _effort(best)
    p = f"(p = {_p(outcomes, choice, best):.2f})"
    how = (
        f"is no real difference {p}, and takes more effort" if saves_effort else f"is ahead, but that may be chance {p}"
    )
    return f"{text}; {_named(outcomes, best)} {how}."


def _against(outcomes: Outcomes, choice: Outcome, best: Outcome) -> list[str]:
    """Say how the others compare with the choice."""
    found = []
    for other in sorted(outcomes.outcomes, key=_effort):
        if other in (choice, best):
            continue
        p = _p(outcomes, other, choice)
        more = other.figure.value - choice.figure.value
        side = "more" if more > 0 else "less"
        chance = f"{side}, but that may be chance" if more else "no real difference"
        how = f"clearly {side}" if p < SURE else f"{chance} (p = {p:.2f})"
        found.append(f"{_named(outcomes, other)}: {how}.")
    return found


def _costs(choice: Outcome, best: Outcome) -> list[str]:
    if best.trained is None and choice.trained is None:
        return []
    trained = choice.trained or best.trained
    assert trained is not None  # noqa: S101 - one of the two was trained
    money = "" if not trained.cost_usd else f" and {dollars(trained.cost_usd)}"
    verb = "takes" if choice.trained else "would take"
    return [f"Training {verb} {trained.seconds:.0f} s{money}, once for each change of the data."]


def _doubts(outcomes: Outcomes) -> list[str]:
    figure, n = outcomes.outcomes[0].figure, len(outcomes.comparison.questions)
    width = figure.interval.high - figure.interval.low
    leak = leaks.warning(outcomes.n_seen, n)
    found = [leak] if leak else []
    if not outcomes.trained and not _reaches(outcomes, outcomes.outcomes[0]):
        found.append("No tuned model is among what was compared: whether tuning would do better is not known.")
    if all(each.name in TRAINED for each in outcomes.outcomes):
        found.append("Nothing untrained is among what was compared: whether training is needed is not known.")
    if width > 0.2:  # noqa: PLR2004 - a fifth: answers of "about 60 to 80 %" decide little
        found.append(f"{n} questions leave room for chance: with four times as many, intervals are half as wide.")
    ranking = outcomes.ranking
    if ranking is not None and ranking.hit_rate < outcomes.good_enough:
        found.append(
            f"Retrieval found the right source among {ranking.k} passages for {ranking.hit_rate:.0%} of the questions: "
            "better documents or more passages would help it."
        )
    return found


def _named(outcomes: Outcomes, outcome: Outcome) -> str:
    metric = outcomes.comparison.main.metric
    low, high = (figure_text(bound, metric) for bound in outcome.figure.interval)
    value = figure_text(outcome.figure.value, metric)
    title = TITLES[outcome.name]
    return f"{title[0].upper()}{title[1:]}: {metric.title} {value} ({low} to {high})"
