"""What a step of a reinforcement job tells beside its rewards: each grader, tokens, errors, and time.

Hosts send it nested in the `data` of metrics events, under `scores`, `usage`, `errors` and `timing`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PARTS = ("scores", "usage", "errors", "timing")
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, kw_only=True)
class GraderStep:
    """One grader in one step. Rewards are means; what was not told is None or not there."""

    name: str
    type: str | None
    train_reward: float | None
    valid_reward: float | None
    train_execution_s: float | None
    """Mean time of one grading."""
    valid_execution_s: float | None
    tokens: Mapping[str, float]
    """Tokens that a grading model has read and written, under the host's names: `train_prompt_tokens_count`, ..."""
    errors: Mapping[str, float]
    """Errors under the host's names: those that end in `_mean` are shares of 1, those in `_count` numbers."""


@dataclass(frozen=True, kw_only=True)
class ReinforcementStep:
    """One step of a reinforcement job."""

    graders: Sequence[GraderStep]
    train_reasoning_tokens: float | None
    """Mean number for each sample."""
    valid_reasoning_tokens: float | None
    completion_tokens: float | None
    """Mean number for each sample, reasoning among them."""
    unresponsive_share: float | None
    """Share of samples that came to no answer."""
    errors: Mapping[str, float]
    """Errors of samples, named and counted as those of graders."""
    timing_s: Mapping[str, float]
    """Seconds by phase: `sampling`, `training`, `eval`, `full_iteration`."""

    def grader(self, name: str) -> GraderStep | None:
        """Return the grader of this name, if there is one."""
        return next((each for each in self.graders if each.name == name), None)


def reinforcement_step(data: Mapping[str, Any]) -> ReinforcementStep | None:
    """Return what the data of a metrics event say of reinforcement; None where they say nothing of it.

    What is not in the form that is known stays out.
    """
    if not any(isinstance(data.get(part), Mapping) for part in _PARTS):
        return None
    samples = _at(data, "usage", "samples")
    return ReinforcementStep(
        graders=_graders(data),
        train_reasoning_tokens=_number(samples, "train_reasoning_tokens_mean", data.get("reasoning_tokens_mean")),
        valid_reasoning_tokens=_number(samples, "valid_reasoning_tokens_mean", data.get("valid_reasoning_tokens_mean")),
        completion_tokens=_number(data, "completion_tokens_mean"),
        unresponsive_share=_number(data, "mean_unresponsive_rewards"),
        errors=_numbers(_at(data, "errors", "samples")),
        timing_s=_numbers(_at(data, "timing", "step")),
    )


def _graders(data: Mapping[str, Any]) -> list[GraderStep]:
    """Return what the four parts say of each grader, in the order in which they first name it."""
    named: dict[str, dict[str, Mapping[str, Any]]] = {}
    for part in _PARTS:
        listed = _at(data, part).get("graders")
        for entry in listed if isinstance(listed, Sequence) else ():
            if isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
                named.setdefault(entry["name"], {})[part] = entry
    return [_grader(name, parts) for name, parts in named.items()]


def _grader(name: str, parts: Mapping[str, Mapping[str, Any]]) -> GraderStep:
    scores, timing = parts.get("scores", _NOTHING), parts.get("timing", _NOTHING)
    types = (entry.get("type") for entry in parts.values())
    return GraderStep(
        name=name,
        type=next((each for each in types if isinstance(each, str)), None),
        train_reward=_number(scores, "train_reward_mean"),
        valid_reward=_number(scores, "valid_reward_mean"),
        train_execution_s=_number(timing, "train_execution_latency_mean"),
        valid_execution_s=_number(timing, "valid_execution_latency_mean"),
        tokens=_numbers(parts.get("usage", _NOTHING)),
        errors=_numbers(parts.get("errors", _NOTHING)),
    )


def _at(data: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    found: Any = data
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else _NOTHING


def _number(data: Mapping[str, Any], name: str, instead: object = None) -> float | None:
    for value in (data.get(name), instead):
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return None


def _numbers(data: Mapping[str, Any]) -> dict[str, float]:
    found = {name: _number(data, name) for name in data}
    return {name: value for name, value in found.items() if value is not None}
