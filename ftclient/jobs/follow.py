"""Every event of a job, once and in order, whatever the line does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ftclient.errors import RateLimitError, UnavailableError
from ftclient.hosts import Host
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

ENDED = frozenset({"succeeded", "failed", "cancelled"})
"""Statuses after which nothing follows. Any other, known today or not, is one in which a job may still go on."""

PAGE = 100
GIVE_UP_S = 900.0
"""How long a host may stay silent before following it is given up."""


class Pace:
    """How long to wait before asking again: briefly while things happen, longer and longer while they do not."""

    def __init__(self, host: Host) -> None:
        self.shortest_s, self.longest_s = (0.25, 1.0) if host.is_local else (2.0, 20.0)
        self.pause_s = self.shortest_s

    def after(self, *, news: bool) -> float:
        """Return the next pause in seconds."""
        self.pause_s = self.shortest_s if news else min(self.pause_s * 1.5, self.longest_s)
        return self.pause_s


class Follower:
    """Reads a job's new events at each call of `poll`, and never the same one twice."""

    def __init__(self, openai: OpenAI, host: Host, job_id: str) -> None:
        self._openai, self._host, self._job_id = openai, host, job_id
        self._seen: set[str] = set()

    def poll(self) -> list[FineTuningJobEvent]:
        """Return the events that have come since the last poll, oldest first.

        A poll that fails half-way counts nothing as seen, so that the next one returns it all.

        Raises:
            JobNotFoundError: There is no such job.
            BackendError: The host refused or failed.
        """
        fresh: list[FineTuningJobEvent] = []
        new_ids: set[str] = set()
        cursor: dict[str, Any] = {}
        with errors_of(self._host, job_id=self._job_id):
            while True:
                page = self._openai.fine_tuning.jobs.list_events(self._job_id, limit=PAGE, **cursor)
                events = page.data or []
                unseen = [event for event in events if event.id not in self._seen and event.id not in new_ids]
                fresh.extend(newest_first(unseen))
                new_ids.update(event.id for event in unseen)
                reached_known = any(event.id in self._seen for event in events)
                if reached_known or not unseen or page.has_more is False:
                    break
                cursor = {"after": events[-1].id}
        self._seen |= new_ids
        fresh.reverse()
        return sorted(fresh, key=lambda event: event.created_at)


def newest_first(events: Sequence[FineTuningJobEvent]) -> list[FineTuningJobEvent]:
    """Return a page in the API's own order, also when something on the way has turned it around."""
    ages = [event.created_at for event in events]
    if ages and ages[0] == ages[-1]:  # all of one second: steps tell
        ages = [step for step in map(_step, events) if step is not None]
    return list(reversed(events)) if ages and ages[0] < ages[-1] else list(events)


def _step(event: FineTuningJobEvent) -> int | None:
    step = event.data.get("step") if isinstance(event.data, dict) else None
    return step if isinstance(step, int) else None


class Poll(NamedTuple):
    """What one look at a job has brought."""

    job: FineTuningJob | None
    """None: the host gave no answer this time."""
    events: Sequence[FineTuningJobEvent]
    """Those that no earlier poll had, oldest first."""
    trouble: str | None = None
    """Why there was no answer."""


def polls(
    openai: OpenAI,
    host: Host,
    job_id: str,
    *,
    stop: frozenset[str] = ENDED,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Poll]:
    """Look at a job again and again, from its first event until its status is one of `stop` and nothing is left.

    Dropped connections, 429 and 5xx are waited out for up to fifteen minutes in a row.

    Raises:
        JobNotFoundError: There is no such job.
        BackendError: The host refuses, or has been silent for too long.
    """
    follower, pace = Follower(openai, host, job_id), Pace(host)
    silent_since: float | None = None
    while True:
        try:
            with errors_of(host, job_id=job_id):
                job = openai.fine_tuning.jobs.retrieve(job_id)
            # The status is read first: what is listed after an end has been seen is complete.
            events = follower.poll()
        except (UnavailableError, RateLimitError) as error:
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > GIVE_UP_S:
                raise
            yield Poll(None, (), str(error))
            sleep(pace.after(news=False))
            continue
        silent_since = None
        yield Poll(job, events)
        if job.status in stop:
            return
        sleep(pace.after(news=bool(events)))
