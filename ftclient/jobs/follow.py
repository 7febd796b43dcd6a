"""Every event of a job, once and in order, whatever the line does."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args

from ftclient.errors import RateLimitError, UnavailableError
from ftclient.hosts import Host
from ftclient.wire import checked_job, checked_page, errors_of, retry_after_s

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.pagination import SyncCursorPage
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

Known = str | Collection[str] | None
"""Events that are known already: the id of the last one, or the ids of all.

An event that the host files late, behind one that is known, is news only for who knows all.
"""
Ending = Literal["succeeded", "failed", "cancelled"]
ENDED: frozenset[str] = frozenset(get_args(Ending))
"""Statuses after which nothing follows."""
_ON_THE_WAY = frozenset({"validating_files", "queued", "running", "pausing", "paused"})

PAGE = 100
GIVE_UP_S = 900.0
"""How long a host may stay silent before following it is given up. Time in which this machine slept is not counted."""
LOOK_S = 30.0
"""How long one request may take. Connections that died while the machine slept often do not say so."""
ASLEEP_S = 60.0
"""A pause and a look that take so much longer than the pause alone: the process, or the whole machine, was asleep."""


def ending_of(job: FineTuningJob) -> Ending | None:
    """Return how a job has ended; None while it goes on, or may.

    Some hosts have other words for it. A status that nobody knows is an end if the job says when it finished, and a
    good one if there is a model.
    """
    if job.status in ENDED:
        return cast("Ending", job.status)
    if not job.finished_at or job.status in _ON_THE_WAY:
        return None
    return "succeeded" if job.fine_tuned_model else "failed"


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
    """Reads a job's new events at each call of `poll`, and never the same one twice.

    Args:
        openai: The official client.
        host: Where the job is.
        job_id: The job.
        after: What is known already, as from an earlier process; None begins at the first.
    """

    def __init__(self, openai: OpenAI, host: Host, job_id: str, *, after: Known = None) -> None:
        self._openai, self._host, self._job_id = openai, host, job_id
        self._seen: set[str] = set() if after is None or isinstance(after, str) else set(after)
        self._after = after if isinstance(after, str) else None

    def poll(self, *, to_the_end: bool = False) -> list[FineTuningJobEvent]:
        """Return the events that have come since the last poll, oldest first.

        A poll that fails half-way counts nothing as seen, so that the next one returns it all.

        Args:
            to_the_end: Read the whole list: events that were filed late, behind ones that are known, are in it.

        Raises:
            JobNotFoundError: There is no such job.
            BackendError: The host refused or failed.
        """
        fresh: list[FineTuningJobEvent] = []
        new_ids: set[str] = set()
        cursor: dict[str, Any] = {}
        with errors_of(self._host, job_id=self._job_id):
            while True:
                page = self._page(**cursor)
                events = self._newest_first(page.data or [])
                unseen = [event for event in events if event.id not in self._seen and event.id not in new_ids]
                fresh.extend(unseen)
                new_ids.update(event.id for event in unseen)
                reached_known = any(event.id in self._seen for event in events)
                if not events or page.has_more is False or (not to_the_end and (reached_known or not unseen)):
                    break
                if cursor == {"after": events[-1].id}:
                    break  # a host that ignores the cursor
                cursor = {"after": events[-1].id}
        self._seen |= new_ids
        fresh.reverse()
        return self._news(sorted(fresh, key=lambda event: event.created_at))

    def _news(self, events: list[FineTuningJobEvent]) -> list[FineTuningJobEvent]:
        """Leave out what came up to the event that the caller knows already."""
        ids = [event.id for event in events]
        if self._after not in ids:
            return events
        known, self._after = ids.index(self._after), None
        return events[known + 1 :]

    def _page(self, *, limit: int = PAGE, **cursor: Any) -> SyncCursorPage[FineTuningJobEvent]:
        page = self._openai.fine_tuning.jobs.list_events(self._job_id, limit=limit, **cursor)
        return checked_page(page, self._host)

    def _newest_first(self, events: list[FineTuningJobEvent]) -> list[FineTuningJobEvent]:
        """Return a page in the API's own order, also when something on the way has turned it around."""
        is_known = [event.id in self._seen for event in events]
        turned = is_turned([event.created_at for event in events])
        if turned is None:  # all of one second: steps tell
            turned = is_turned([step for step in map(_step, events) if step is not None])
        if turned is None and events and is_known[0] != is_known[-1]:
            turned = is_known[0]
        if turned is None and len(events) > 1:  # the host itself knows what comes after the last one
            older = self._page(limit=1, after=events[-1].id).data
            turned = bool(older) and older[0].id in {event.id for event in events}
        return events[::-1] if turned else events


def is_turned(numbers: Sequence[int]) -> bool | None:
    """Whether numbers that should fall from the first to the last rise; None where they do neither."""
    if not numbers or numbers[0] == numbers[-1]:
        return None
    return numbers[0] < numbers[-1]


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
    after: Known = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Poll]:
    """Look at a job again and again, from its first event until it has ended or its status is one of `stop`.

    Dropped connections, 429 (with its Retry-After), 5xx and answers that cannot be read are waited out for up to
    fifteen minutes in a row.

    Args:
        openai: The official client.
        host: Where the job is.
        job_id: The job.
        stop: Further statuses to end at.
        after: What is known already; None begins at the first.
        sleep: Waits so many seconds.

    Raises:
        JobNotFoundError: There is no such job.
        BackendError: The host refuses, or has been silent for too long.
    """
    impatient = _impatient(openai)
    follower, pace, silence = Follower(impatient, host, job_id, after=after), Pace(host), _Silence()
    while True:
        try:
            with errors_of(host, job_id=job_id):
                job = checked_job(impatient.fine_tuning.jobs.retrieve(job_id), host)
            # The status is read first: what is listed after an end has been seen is complete.
            is_over = job.status in stop or ending_of(job) is not None
            events = follower.poll(to_the_end=is_over)
        except (UnavailableError, RateLimitError) as error:
            if silence.lasts_too_long():
                raise
            yield Poll(None, (), str(error))
            pause_s = max(pace.after(news=False), retry_after_s(error) or 0.0)
            silence.before_pause(pause_s)
            sleep(pause_s)
            continue
        silence = _Silence()
        yield Poll(job, events)
        if is_over:
            return
        sleep(pace.after(news=bool(events)))


class _Silence:
    """How long a host has given no answer, as far as this machine was awake to hear one."""

    def __init__(self) -> None:
        self._heard_none_at: float | None = None
        self._most_s = self._lasts_s = 0.0

    def lasts_too_long(self) -> bool:
        """Take note of a look without an answer, and return whether it was one too many."""
        now = time.monotonic()
        if self._heard_none_at is not None:
            self._lasts_s += min(now - self._heard_none_at, self._most_s)
        self._heard_none_at = now
        return self._lasts_s > GIVE_UP_S

    def before_pause(self, pause_s: float) -> None:
        """Take note of how long the pause before the next look is to be: what goes far beyond it is sleep."""
        self._most_s = pause_s + ASLEEP_S


def _impatient(openai: OpenAI) -> OpenAI:
    """Return the same client, one that waits for no answer longer than is good for a look."""
    given_s = openai.timeout
    is_shorter = isinstance(given_s, int | float) and given_s < LOOK_S
    return openai if is_shorter else openai.with_options(timeout=LOOK_S)
