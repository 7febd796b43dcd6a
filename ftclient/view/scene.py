"""What is known of a job at one moment, collected for showing."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftclient.hosts import Host
from ftclient.jobs.follow import Ending, Poll, ending_of

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

_KEPT_EVENTS = 12
_EVALUATIONS = ("full_valid_loss", "valid_loss")


@dataclass
class Course:
    """Losses and steps of a job, as its metrics tell them."""

    train: dict[int, float] = field(default_factory=dict)
    """Training loss by step."""
    valid: dict[int, float] = field(default_factory=dict)
    """Validation loss by step."""
    step: int = 0
    total_steps: int | None = None
    first_step_at: float | None = None

    def add(self, event: FineTuningJobEvent) -> None:
        """Take in an event; those without metrics change nothing."""
        data = event.data if isinstance(event.data, Mapping) else {}
        step = data.get("step")
        if not isinstance(step, int) or isinstance(step, bool):
            return
        if self.first_step_at is None:
            self.first_step_at = float(event.created_at) or time.time()
        self.step = max(self.step, step)
        total = data.get("total_steps")
        self.total_steps = total if isinstance(total, int) and total > 0 else self.total_steps
        _put(self.train, step, data.get("train_loss"))
        for name in _EVALUATIONS:
            if _put(self.valid, step, data.get(name)):
                break

    def remaining_s(self, now: float) -> float | None:
        """Return the time left by the pace of the steps so far; None if unknown."""
        if not self.total_steps or not self.step or self.first_step_at is None:
            return None
        spent_s = now - self.first_step_at
        return spent_s / self.step * (self.total_steps - self.step) if spent_s > 0 else None


@dataclass
class Scene:
    """One job, as far as it has been seen."""

    job_id: str
    host: Host
    command: str = "ftclient"
    """How the shell reaches the same backend: the command with the options that name it."""
    job: FineTuningJob | None = None
    events: deque[FineTuningJobEvent] = field(default_factory=lambda: deque(maxlen=_KEPT_EVENTS))
    course: Course = field(default_factory=Course)
    told: Mapping[str, Any] = field(default_factory=dict)
    """Speed and time left, where the host says them (`progress` of GET /v1/local/jobs/{id})."""
    best: FineTuningJobCheckpoint | None = None
    """The checkpoint that did best in validation, where it is not the last; None before the end."""
    trouble: str | None = None
    """Why the host gives no answer just now."""

    def add(self, poll: Poll, *, details: Mapping[str, Any] | None = None) -> None:
        """Take in what one look has brought."""
        self.job = poll.job or self.job
        self.trouble = poll.trouble
        for event in poll.events:
            self.events.append(event)
            self.course.add(event)
        found = (details or {}).get("progress")
        if isinstance(found, Mapping):
            self.told = found

    @property
    def status(self) -> str:
        """The job's status in the host's words; `connecting` before the first answer."""
        return self.job.status if self.job else "connecting"

    @property
    def ending(self) -> Ending | None:
        """How it has ended; None while it goes on."""
        return ending_of(self.job) if self.job else None

    def elapsed_s(self, now: float) -> float:
        """Return the age of the job; once it has ended, how long it took."""
        if not self.job:
            return 0.0
        return max(0.0, (self.job.finished_at or now) - self.job.created_at)

    def remaining_s(self, now: float) -> float | None:
        """Return the time left: what the host says, else by the pace of the steps so far; None if unknown."""
        said = self.told.get("remaining_s")
        if isinstance(said, int | float) and math.isfinite(said):
            return float(said)
        return self.course.remaining_s(now)

    @property
    def tokens_per_s(self) -> float | None:
        """Training speed, where the host says it."""
        said = self.told.get("tokens_per_s")
        return float(said) if isinstance(said, int | float) and math.isfinite(said) and said > 0 else None


def _put(series: dict[int, float], step: int, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    series[step] = float(value)
    return True
