"""A job at a host, in the hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ftclient.errors import BackendError, JobFailedError
from ftclient.hosts import Host
from ftclient.jobs.classification import Classification, classification_of
from ftclient.jobs.follow import ENDED, Follower, Known, Poll, ending_of, polls
from ftclient.jobs.metrics import StepMetrics, merge, metrics_of_events, metrics_of_file
from ftclient.jobs.results import JobResult
from ftclient.wire import checked_job, errors_of, has_id

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

_NO_FILE = (403, 404)
"""Answers for a file that nobody will ever get, as opposed to one that is out of reach for now."""
Watcher = Callable[["Job"], "FineTuningJob"]


class Job:
    """One fine-tuning job. It lives at the host: losing this object loses nothing.

    Every method that asks the host raises JobNotFoundError when there is no such job, and BackendError when the host
    refuses or cannot be reached.
    """

    def __init__(
        self, openai: OpenAI, host: Host, job_id: str, *, watcher: Watcher, latest: FineTuningJob | None = None
    ) -> None:
        self.id = job_id
        self.host = host
        self.latest = latest
        """The job as it was last seen, None before the first look."""
        self._openai = openai
        self._watcher = watcher

    def __repr__(self) -> str:
        """Which job, its last known status, and where."""
        status = f" {self.latest.status}" if self.latest else ""
        return f"<Job {self.id}{status} at {self.host.title}>"

    def refresh(self) -> FineTuningJob:
        """Ask the host for the job and return it as the API does."""
        with self._errors():
            self.latest = checked_job(self._openai.fine_tuning.jobs.retrieve(self.id), self.host)
        return self.latest

    @property
    def status(self) -> str:
        """The status now, in the host's words; asks the host."""
        return self.refresh().status

    def events(
        self, *, follow_on: bool = False, after: Known = None, sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[FineTuningJobEvent]:
        """Yield all events so far, oldest first.

        Args:
            follow_on: Go on until the job ends.
            after: Id of the last event that is known already, as from a process that has ended, or the ids of all
                that are: hosts may file an event behind later ones, and only who knows all will hear of it. None
                begins at the first.
            sleep: Waits so many seconds between looks.
        """
        if not follow_on:
            yield from Follower(self._openai, self.host, self.id, after=after).poll(to_the_end=True)
            return
        for poll in self.polls(after=after, sleep=sleep):
            yield from poll.events

    def polls(
        self,
        *,
        stop: frozenset[str] = ENDED,
        after: Known = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Iterator[Poll]:
        """Look at the job until it has ended or has a status of `stop`; each look has the job and its new events."""
        for poll in polls(self._openai, self.host, self.id, stop=stop, after=after, sleep=sleep):
            self.latest = poll.job or self.latest
            yield poll

    def wait(
        self,
        *,
        timeout_s: float | None = None,
        on_event: Callable[[FineTuningJobEvent], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> JobResult:
        """Return when the job has ended well.

        Args:
            timeout_s: Give up waiting after so many seconds; the job goes on.
            on_event: Called with each event as it comes, once and in order.
            sleep: Waits so many seconds between looks.

        Raises:
            JobFailedError: The job failed, was cancelled, or is paused and would be waited for in vain.
            TimeoutError: The time is over.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s

        def nap(pause_s: float) -> None:
            left_s = pause_s if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"Job {self.id} has not ended within {timeout_s:g} s; it goes on.")
            sleep(min(pause_s, left_s))

        for poll in self.polls(stop=ENDED | {"paused"}, sleep=nap):
            if on_event:
                for event in poll.events:
                    on_event(event)
        return self.result()

    def watch(self) -> FineTuningJob:
        """Show the job live until it ends, and return it as it ended, well or not.

        Ctrl-C leaves the view, says how to come back, and raises KeyboardInterrupt; the job goes on.
        """
        return self._watcher(self)

    def result(self) -> JobResult:
        """Return what the ended job left.

        Raises:
            JobFailedError: It did not end well, or not yet.
        """
        job = self.latest if self.latest and ending_of(self.latest) else self.refresh()
        if ending_of(job) != "succeeded" or not job.fine_tuned_model:
            raise failure(job)
        return JobResult(
            job_id=self.id,
            model=job.fine_tuned_model,
            metrics=self.metrics(),
            checkpoints=self.checkpoints(),
            trained_tokens=job.trained_tokens,
            job=job,
        )

    def cancel(self) -> FineTuningJob:
        """End the job now, for good; at the local backend its finished epochs can be used (`checkpoints`)."""
        return self._act("cancel")

    def pause(self) -> FineTuningJob:
        """Stop the job at a usable snapshot; `resume` goes on from there."""
        return self._act("pause")

    def resume(self) -> FineTuningJob:
        """Go on with a paused job; at the local backend also with one that failed and left a resume point."""
        return self._act("resume")

    def checkpoints(self) -> list[FineTuningJobCheckpoint]:
        """Return the usable models along the way, oldest first; [] at hosts that keep none."""
        if "checkpoints" in self.host.missing:
            return []
        with self._errors():
            return sorted(self._openai.fine_tuning.jobs.checkpoints.list(self.id), key=lambda each: each.step_number)

    def metrics(self) -> list[StepMetrics]:
        """Return loss and accuracy by step, from the result file where there is one, and from the events.

        A result file that has been deleted, or that this key may not read, is done without.
        """
        job = self.refresh()
        rows: list[StepMetrics] = []
        for file_id in job.result_files or []:
            rows = merge(rows, self._rows_of(file_id))
        return merge(rows, metrics_of_events(self.events()))

    def _rows_of(self, file_id: str) -> list[StepMetrics]:
        try:
            with self._errors(about_job=False):
                return metrics_of_file(self._openai.files.content(file_id).read())
        except BackendError as error:
            if error.status_code not in _NO_FILE:
                raise
            return []

    def details(self) -> dict[str, Any]:
        """Return what only the local backend knows: device, precision, speed, time left, notes; {} elsewhere."""
        if not self.host.is_local:
            return {}
        with self._errors():
            found = self._openai.get(f"/local/jobs/{self.id}", cast_to=object)
        if not isinstance(found, dict):
            raise BackendError(f"{self.host.title} sent no details of job {self.id}.")
        return found

    def classification(self) -> Classification | None:
        """Return how good a classifier is by its validation data, label by label; None for what is none (yet)."""
        return classification_of(self.details())

    def _act(self, verb: str) -> FineTuningJob:
        if verb != "cancel":
            self.host.require("pause", f"{verb} jobs")
        with self._errors():
            answer = getattr(self._openai.fine_tuning.jobs, verb)(self.id)
        if not has_id(answer):  # some hosts answer with nothing
            return self.refresh()
        self.latest = answer
        return self.latest

    def _errors(self, *, about_job: bool = True) -> AbstractContextManager[None]:
        return errors_of(self.host, job_id=self.id if about_job else None)


def failure(job: FineTuningJob) -> JobFailedError:
    """Return why a job has no result, in the host's own words where there are any."""
    error = job.error  # healthy jobs carry an error object of nulls
    if ending_of(job) == "failed":
        text = (error and error.message) or "the host gave no reason"
        return JobFailedError(
            f"Job {job.id} failed: {text}", code=(error and error.code) or None, param=(error and error.param) or None
        )
    remedy = {
        "cancelled": "Start it again with `ftclient train`.",
        "paused": f"Go on with `ftclient resume {job.id}`.",
    }.get(job.status, f"Wait for it with `ftclient watch {job.id}`.")
    return JobFailedError(f"Job {job.id} is {job.status} and has no result. {remedy}", code=job.status)
