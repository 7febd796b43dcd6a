"""A job as lines of text, for pipes, logs and terminals that cannot draw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ftclient.jobs.follow import Poll
from ftclient.view.scene import Scene
from ftclient.view.words import clock, ending, headline, printable, status_name

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJobEvent

_PARTS = 20
"""A line of metrics comes at most each twentieth of the way."""


class Lines:
    """Turns what is new at each look into lines; nothing is said twice."""

    def __init__(self) -> None:
        self._status: str | None = None
        self._trouble: str | None = None
        self._part = -1

    def of(self, scene: Scene, poll: Poll) -> Iterator[str]:
        """Yield what to print after `poll`, which `scene` has taken in."""
        if scene.job and self._status is None:
            yield f"Job {scene.job_id}: {headline(scene)}"
        if scene.trouble and scene.trouble != self._trouble:
            yield printable(scene.trouble)
        self._trouble = scene.trouble
        for event in poll.events:
            if self._tells(event, scene):
                yield f"{self._age(event, scene)} {printable(event.message)}"
        if scene.job and scene.status != self._status:
            yield f"Status: {status_name(scene.status)}"
            self._status = scene.status
            yield from ending(scene)

    def _tells(self, event: FineTuningJobEvent, scene: Scene) -> bool:
        data = event.data if isinstance(event.data, dict) else {}
        step, total = data.get("step"), data.get("total_steps") or scene.course.total_steps
        if event.type != "metrics" or not isinstance(step, int) or not total:
            return True
        part = step * _PARTS // total
        if part <= self._part and "full_valid_loss" not in data:
            return False
        self._part = part
        return True

    @staticmethod
    def _age(event: FineTuningJobEvent, scene: Scene) -> str:
        return clock(event.created_at - scene.job.created_at).rjust(5) if scene.job else ""
