"""Who is told how a comparison goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

    from ftclient.cost.plan import Plan
    from ftclient.jobs.job import Job


def _nothing(*_told: object) -> None:
    """Keep it to oneself."""


def _wait(job: Job) -> FineTuningJob:
    job.wait()
    return job.refresh()


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Who is told; by default nobody, and jobs are waited for in silence."""

    tell: Callable[[str], None] = _nothing
    """Told in words what happens next."""
    progress: Callable[[int, int], None] = _nothing
    """Told of answers received and answers in all, of one approach."""
    agree: Callable[[Sequence[Plan]], None] = _nothing
    """Told of the jobs to come before the first of them is started; raises where nobody agrees to what they cost."""
    follow: Callable[[Job], FineTuningJob] = _wait
    """Waits for a job to end, showing it or not."""


SILENT = Audience()
