"""Whatever is asked of jobs in whatever order, their story stays sound: a random walk through the job's states."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.contract import places
from tests.contract.conftest import examples, wait
from tests.contract.test_jobs import by_hand, messages_of, move

TOTAL_STEPS = 20
ENDED = {"succeeded", "failed", "cancelled"}


class Life(RuleBasedStateMachine):
    """Creates jobs, moves, pauses, resumes and cancels them, and closes and opens the home in between."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.ended: dict[str, Any] = {}
        self.known: list[str] = []
        self.open()

    def open(self) -> None:
        self.manager = places.in_this_process(self.home)
        self.api = self.manager.__enter__()

    def teardown(self) -> None:
        self.manager.__exit__(None, None, None)
        shutil.rmtree(self.home)

    @initialize(target=jobs)
    def create_one(self) -> str:
        return self.create_job()

    @precondition(lambda self: len(self.known) < 3)
    @rule(target=jobs)
    def create_another(self) -> str:
        return self.create_job()

    def create_job(self) -> str:
        file = self.api.files.create(file=("a.jsonl", examples(10)), purpose="fine-tune")
        job = self.api.fine_tuning.jobs.create(model="smollm2-135m", training_file=file.id, **by_hand())
        self.known.append(job.id)
        return job.id

    @rule(job_id=jobs, n=st.integers(1, 8))
    def step(self, job_id: str, n: int) -> None:
        """Move the job whose turn it is."""
        self.let_validation_end()
        waiting = [job for job in self.known if self.status(job) in ("running", "queued")]
        if waiting[:1] == [job_id]:
            move(self.api, job_id, n)

    def let_validation_end(self) -> None:
        for job_id in self.known:
            if self.status(job_id) == "validating_files":
                wait(self.api, job_id, until=("queued", "running", *ENDED))

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        self.try_to(self.api.fine_tuning.jobs.cancel, job_id, afterwards={"cancelled"}, refused_in=ENDED)

    @rule(job_id=jobs)
    def pause(self, job_id: str) -> None:
        self.try_to(
            self.api.fine_tuning.jobs.pause, job_id, afterwards={"paused", "pausing"}, refused_in={*ENDED, "paused"}
        )

    @rule(job_id=jobs)
    def resume(self, job_id: str) -> None:
        before = self.status(job_id)
        if before != "pausing":
            everything_else = {*ENDED, "validating_files", "queued", "running"}
            self.try_to(self.api.fine_tuning.jobs.resume, job_id, afterwards={"queued"}, refused_in=everything_else)

    @rule()
    def reopen(self) -> None:
        self.manager.__exit__(None, None, None)
        self.open()

    def status(self, job_id: str) -> str:
        return str(self.api.fine_tuning.jobs.retrieve(job_id).status)

    def try_to(self, call: Any, job_id: str, *, afterwards: set[str], refused_in: set[str]) -> None:
        """Call it; it either leads to one of the statuses or is refused, and then for a reason."""
        before = self.status(job_id)
        try:
            assert call(job_id).status in afterwards
        except openai.BadRequestError:
            assert {before, self.status(job_id)} & refused_in
        else:
            assert before not in ENDED

    @invariant()
    def what_has_ended_does_not_change(self) -> None:
        for job_id, then in self.ended.items():
            assert (self.api.fine_tuning.jobs.retrieve(job_id), messages_of(self.api, job_id)) == then
        for job_id in set(self.known) - set(self.ended):
            if self.status(job_id) in ENDED:
                job = self.api.fine_tuning.jobs.retrieve(job_id)
                self.ended[job_id] = (job, messages_of(self.api, job_id))

    @invariant()
    def every_story_is_sound(self) -> None:
        for job_id in self.known:
            told = messages_of(self.api, job_id)
            steps = [int(text.split("/")[0][5:]) for text in told if text.startswith("Step ")]
            assert steps == list(range(1, len(steps) + 1)), "each step once and in order"
            for once in ("Files validated, moving job to queued state", "Fine-tuning job started"):
                assert told.count(once) <= 1
            assert len([job for job in self.known if self.status(job) == "running"]) <= 1
            if self.status(job_id) == "succeeded":
                assert len(steps) == TOTAL_STEPS


Life.TestCase.settings = settings(
    max_examples=6,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestLife = pytest.mark.slow(Life.TestCase)


def test_after_any_stop_the_queue_goes_on_in_order(tmp_path: Path):
    """Five jobs wait; the home is closed and opened again in the middle; all end, the first one first."""
    with places.in_this_process(tmp_path) as api:
        file = api.files.create(file=("a.jsonl", examples(10)), purpose="fine-tune")
        ids = [
            api.fine_tuning.jobs.create(
                model="smollm2-135m",
                training_file=file.id,
                hyperparameters={"n_epochs": 1},
                extra_body={"local": {"simulate": {"speed": "timed", "seconds_per_step": 0.01}}},
            ).id
            for _ in range(5)
        ]
        wait(api, ids[0], until=("running", "succeeded"))
    with places.in_this_process(tmp_path) as api:
        ended = [wait(api, job_id) for job_id in ids]
    assert {job.status for job in ended} == {"succeeded"}
    assert [job.finished_at for job in ended] == sorted(job.finished_at for job in ended)
