"""A comparison as JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftclient.evaluate.compare import Comparison, Difference, Score


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return scores, differences, and all answers."""
    return {
        "n_examples": len(comparison.questions),
        "task": {"kind": comparison.kind.kind, "reason": comparison.kind.reason},
        "compared_by": comparison.main.metric.name,
        "models": [_score(score) for score in comparison.scores],
        "notes": list(comparison.notes),
        "differences": [_difference(each) for each in comparison.differences],
        "answers": [_question(comparison, index) for index in range(len(comparison.questions))],
    }


def _score(score: Score) -> dict[str, Any]:
    return {
        "model": score.model,
        "exact_match": score.exact_match,
        "valid_json": score.valid_json,
        "metrics": {name: figure.to_json() for name, figure in score.figures.items()},
        "median_s": score.median_s,
        "prompt_tokens": score.prompt_tokens,
        "answer_tokens": score.answer_tokens,
        "cost_usd": None if score.cost_usd is None else str(score.cost_usd),
        "n_refused": score.n_refused,
    }


def _difference(difference: Difference) -> dict[str, Any]:
    return {
        "first": difference.first,
        "other": difference.other,
        "metric": difference.metric,
        "value": difference.value,
        "low": difference.interval.low,
        "high": difference.interval.high,
        "p_value": difference.p_value,
        "test": difference.test,
        "is_real": difference.is_real,
        "mended": list(difference.mended),
        "broken": list(difference.broken),
    }


def _question(comparison: Comparison, index: int) -> dict[str, Any]:
    question = comparison.questions[index]
    return {
        "prompt": question.text,
        "expected": question.expected,
        "answers": {model: given[index].shown for model, given in comparison.given.items()},
        "values": {
            measured.metric.name: {model: _plain(values[index]) for model, values in measured.values.items()}
            for measured in comparison.measured
        },
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
