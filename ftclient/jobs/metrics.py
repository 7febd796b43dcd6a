"""Numbers by step, from result files and from events, as the same typed rows for every method."""

from __future__ import annotations

import base64
import binascii
import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ftclient.jobs.reinforcement import ReinforcementStep, reinforcement_step

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJobEvent

_NAMES = (
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
    "rewards_chosen",
    "rewards_rejected",
    "rewards_margin",
    "rewards_accuracy",
    "train_mean_reward",
    "full_valid_mean_reward",
)
_CSV_NAMES = {"train_accuracy": "train_mean_token_accuracy"}
"""The result file calls one column by an older name."""


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """Numbers after one step. Losses are in nats a token, accuracies shares of 1; None was not measured."""

    step: int
    train_loss: float | None = None
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None
    rewards_chosen: float | None = None
    """Preferences: mean reward of the preferred answers (beta times log-probability gained over the base model)."""
    rewards_rejected: float | None = None
    rewards_margin: float | None = None
    rewards_accuracy: float | None = None
    """Share of pairs whose preferred answer has the higher reward."""
    train_mean_reward: float | None = None
    """Reinforcement: mean score of the grader."""
    full_valid_mean_reward: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the host measured, under its own names."""

    @property
    def reinforcement(self) -> ReinforcementStep | None:
        """Graders one by one, tokens, errors and time of a reinforcement step; None for other methods."""
        return reinforcement_step(self.extra)

    def to_json(self) -> dict[str, Any]:
        """The measured numbers as one flat object."""
        flat = {name: value for name, value in asdict(self).items() if name != "extra" and value is not None}
        return {**flat, **self.extra}


def metrics_of_events(events: Iterable[FineTuningJobEvent]) -> list[StepMetrics]:
    """Return the metrics that events carry, by step."""
    rows: dict[int, StepMetrics] = {}
    for event in events:
        if event.type == "metrics" and isinstance(event.data, Mapping):
            row = _row(event.data)
            if row:
                rows[row.step] = row
    return [rows[step] for step in sorted(rows)]


def metrics_of_file(content: bytes) -> list[StepMetrics]:
    """Return the metrics of a result file, which hosts send as CSV or as CSV in base64."""
    text = decode_result(content).decode("utf-8-sig", errors="replace")
    rows = (_row({_CSV_NAMES.get(name, name): cell for name, cell in line.items() if name}) for line in _lines(text))
    return [row for row in rows if row]


def decode_result(content: bytes) -> bytes:
    """Return the CSV of a result file, taking base64 off if it is there."""
    packed = b"".join(content.split())
    try:
        plain = base64.b64decode(packed, validate=True)
    except binascii.Error:
        return content
    # A header line has a comma or an underscore in it, so real CSV never passes as base64; an empty file is itself.
    return plain or content


def merge(first: Sequence[StepMetrics], second: Sequence[StepMetrics]) -> list[StepMetrics]:
    """Return one row a step, with the numbers of both; where both have one, `second` wins."""
    rows = {row.step: row.to_json() for row in first}
    for row in second:
        rows[row.step] = {**rows.get(row.step, {}), **row.to_json()}
    merged = (_row(rows[step]) for step in sorted(rows))
    return [row for row in merged if row]


def _lines(text: str) -> Iterator[Mapping[str, str]]:
    try:
        yield from csv.DictReader(text.replace("\0", "").splitlines())
    except csv.Error:  # damaged from here on; what came before stands
        return


def _row(data: Mapping[str, Any]) -> StepMetrics | None:
    step = _number(data.get("step"))
    if step is None or not step.is_integer():
        return None
    known = {name: _number(data.get(name)) for name in _NAMES}
    extra = {
        name: _number_or_text(value)
        for name, value in data.items()
        if name not in (*_NAMES, "step", "total_steps") and value not in (None, "")
    }
    return StepMetrics(step=int(step), **known, extra=extra)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _number_or_text(value: object) -> object:
    number = _number(value)
    return value if number is None else number
