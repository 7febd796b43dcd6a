"""What a job leaves that failed, was cancelled or was paused: usable checkpoints, and a way to go on."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

from local_backend.recorder import JobRecorder
from local_backend.runner import MAX_ATTEMPTS
from local_backend.simulated import allow_steps
from local_backend.store import Store, database
from local_backend.store.sweep import KEPT_RESUME_POINTS
from local_backend.store.work import Work
from local_backend.task import StepReport
from tests.contract import places
from tests.contract.conftest import examples, wait
from tests.contract.test_jobs import MODEL, by_hand, messages_of, move

EPOCH = 10


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of the test's own, whose files it may look at."""
    return tmp_path / "home"


@pytest.fixture
def api(home: Path) -> Iterator[Any]:
    with places.in_this_process(home) as client:
        yield client


def create(api: Any, **simulate: Any) -> Any:
    """A job of five epochs of ten steps."""
    file = api.files.create(file=("a.jsonl", examples(EPOCH)), purpose="fine-tune")
    options = {"extra_body": {"local": {"simulate": simulate}}}
    numbers = {"n_epochs": 5, "batch_size": 1}
    return api.fine_tuning.jobs.create(model=MODEL, training_file=file.id, seed=3, hyperparameters=numbers, **options)


def failed(api: Any, **simulate: Any) -> Any:
    job = wait(api, create(api, **simulate).id)
    assert job.status == "failed"
    return job


def folder_of(home: Path, job: Any) -> Path:
    return home / "server" / "jobs" / str(job.id)


def checkpoints_of(api: Any, job: Any) -> dict[int, str]:
    listed = list(api.fine_tuning.jobs.checkpoints.list(job.id))
    return {each.step_number: each.fine_tuned_model_checkpoint for each in listed}


def steps_of(api: Any, job: Any) -> list[tuple[int, float]]:
    events = api.fine_tuning.jobs.list_events(job.id, limit=100)
    return [(event.data["step"], event.data["train_loss"]) for event in events if event.type == "metrics"][::-1]


def answers(api: Any, name: str) -> bool:
    """Whether a model is listed and says what it was trained to say."""
    asked = api.chat.completions.create(model=name, messages=[{"role": "user", "content": "Where is parcel 4?"}])
    is_listed = name in [model.id for model in api.models.list()]
    return is_listed and asked.choices[0].message.content == "Parcel 4 is in hall 4, on shelf 1."


def test_the_last_checkpoints_of_a_failed_job_can_be_used(api):
    job = failed(api, fail_at_step=47, fail_code="out_of_memory")
    found = checkpoints_of(api, job)
    assert list(found) == [40, 30, 20]
    assert all(answers(api, name) for name in found.values())
    assert job.fine_tuned_model is None
    assert job.error.code == "out_of_memory"
    assert f"The model as it was after step 40 can be used: {found[40]}" in job.error.message
    assert f"Go on from step 40 with `ftclient resume {job.id}`." in job.error.message
    told = messages_of(api, job.id)
    assert told[-4:-1] == [f"Checkpoint created at step {n} with Snapshot ID: {found[n]}" for n in (20, 30, 40)]
    assert told[-1] == job.error.message


def test_a_failed_job_goes_on_once_the_trouble_is_over(api, home):
    """What its checkpoints are written from is no file any more: any write can fail."""
    expected = wait(api, create(api).id)
    job = create(api, speed="step")
    move(api, job.id, 2 * EPOCH + 5)
    trouble = folder_of(home, job) / "answers.jsonl"
    trouble.unlink()
    trouble.mkdir()
    move(api, job.id, EPOCH)
    ended = wait(api, job.id)
    assert (ended.status, ended.error.code) == ("failed", "server_error")
    assert "The training stopped: Is a directory" in ended.error.message
    before = checkpoints_of(api, job)
    assert list(before) == [20, 10]

    trouble.rmdir()
    resumed = api.fine_tuning.jobs.resume(job.id)
    assert (resumed.status, resumed.finished_at, resumed.error.message) == ("queued", None, None)
    assert "Fine-tuning job resumed" in messages_of(api, job.id)
    move(api, job.id, 5 * EPOCH)
    done = wait(api, job.id)
    assert done.status == "succeeded", done.error
    assert steps_of(api, done) == steps_of(api, expected)
    found = checkpoints_of(api, job)
    assert found.items() >= before.items()
    assert list(found) == [50, 40, 30, 20, 10]
    assert all(answers(api, name) for name in found.values())
    assert not (folder_of(home, job) / "resume").exists()


def test_a_job_that_would_fail_again_keeps_its_checkpoints_only(api, home):
    job = failed(api, fail_at_step=33, fail_code="training_diverged")
    found = checkpoints_of(api, job)
    assert list(found) == [30, 20, 10]
    assert found[30] in job.error.message
    assert "resume" not in job.error.message
    assert not (folder_of(home, job) / "resume").exists()
    with pytest.raises(openai.BadRequestError, match="no resume point"):
        api.fine_tuning.jobs.resume(job.id)


def test_a_job_that_failed_at_once_has_no_way_on(api):
    job = failed(api, fail_at_step=1)
    assert job.error.message == "The job failed on purpose at step 1."
    with pytest.raises(openai.BadRequestError, match="is failed and cannot go on: it has no resume point") as caught:
        api.fine_tuning.jobs.resume(job.id)
    assert caught.value.code == "invalid_job_status"
    for call in (api.fine_tuning.jobs.cancel, api.fine_tuning.jobs.pause):
        with pytest.raises(openai.BadRequestError, match="already ended: failed"):
            call(job.id)


def test_a_failed_job_whose_file_was_deleted_does_not_go_on(api):
    job = failed(api, fail_at_step=15)
    api.files.delete(job.training_file)
    with pytest.raises(openai.BadRequestError, match="file was deleted"):
        api.fine_tuning.jobs.resume(job.id)


def test_only_the_last_failed_jobs_keep_what_they_go_on_from(api, home):
    jobs = [failed(api, fail_at_step=15) for _ in range(KEPT_RESUME_POINTS + 2)]
    failed(api, fail_at_step=15, fail_code="training_diverged")
    kept = [(folder_of(home, job) / "resume").exists() for job in jobs]
    assert kept == [False, False, *[True] * KEPT_RESUME_POINTS]
    assert all(list(checkpoints_of(api, job)) == [10] for job in jobs)
    assert api.fine_tuning.jobs.resume(jobs[-1].id).status == "queued"


def test_the_checkpoints_of_a_cancelled_job_can_be_used(api, home):
    job = create(api, speed="step")
    move(api, job.id, 2 * EPOCH + 3)
    api.fine_tuning.jobs.cancel(job.id)
    found = checkpoints_of(api, job)
    assert list(found) == [20, 10]
    assert all(answers(api, name) for name in found.values())
    told = messages_of(api, job.id)
    assert told[-3:-1] == [f"Checkpoint created at step {n} with Snapshot ID: {found[n]}" for n in (10, 20)]
    deadline = time.monotonic() + 10
    while (folder_of(home, job) / "resume").exists():  # its runner clears up when it has noticed
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert all(answers(api, name) for name in found.values())


def test_the_snapshot_of_a_pause_stays(api):
    """Epoch ends take the place of epoch ends, not of what the user has been told of."""
    job = create(api, speed="step")
    move(api, job.id, 7)
    assert api.fine_tuning.jobs.pause(job.id).status == "paused"
    snapshot = checkpoints_of(api, job)[7]
    api.fine_tuning.jobs.resume(job.id)
    move(api, job.id, 3 * EPOCH + 5 - 7)
    assert answers(api, snapshot)
    move(api, job.id, 5 * EPOCH)
    assert wait(api, job.id).status == "succeeded"
    found = checkpoints_of(api, job)
    assert sorted(found) == [7, 30, 40, 50]
    assert found[7] == snapshot
    assert all(answers(api, name) for name in found.values())


def test_old_checkpoints_make_room_while_a_job_runs(api, home):
    job = create(api, speed="step")
    move(api, job.id, 4 * EPOCH + 1)
    folders = {path.name for path in (folder_of(home, job) / "checkpoints").iterdir()}
    assert folders == {"step-20", "step-30", "step-40"}
    api.fine_tuning.jobs.cancel(job.id)


def test_what_a_crash_has_left_of_an_ended_job_is_removed(home):
    with places.in_this_process(home) as api:
        job = failed(api, fail_at_step=15)
    folder = folder_of(home, job)
    left = [
        folder / ".frozen.new",
        folder / "frozen",
        folder / "checkpoints" / ".step-20.new",
        folder / "resume" / ".x",
    ]
    for path in left:
        path.mkdir()
        (path / "states").write_bytes(b"0" * 100)
    with places.in_this_process(home) as api:
        assert wait(api, create(api).id).status == "succeeded"
        assert not any(path.exists() for path in left)
        assert answers(api, checkpoints_of(api, job)[10])
        assert (folder / "resume").exists()


def test_a_store_that_is_locked_when_a_job_fails_hears_of_it_later(home, monkeypatch):
    """Some other program looks into the store, and keeps it for longer than anybody waits."""
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_MS", 100)
    with places.in_this_process(home) as api:
        job = create(api, speed="step")
        move(api, job.id, EPOCH + 1)
        with closing(sqlite3.connect(home / "server" / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            allow_steps(folder_of(home, job), 1)
            time.sleep(1.0)
            assert api.fine_tuning.jobs.retrieve(job.id).status == "running"
            other.execute("ROLLBACK")
        ended = wait(api, job.id)
        assert ended.status == "failed"
        assert "internal error (OperationalError)" in ended.error.message
        assert list(checkpoints_of(api, job)) == [EPOCH]
        api.fine_tuning.jobs.resume(job.id)
        move(api, job.id, 5 * EPOCH)
        assert wait(api, job.id).status == "succeeded"
        assert [step for step, _ in steps_of(api, job)] == list(range(1, 5 * EPOCH + 1))


def test_orderly_stops_are_no_crashes(home):
    with places.in_this_process(home) as api:
        job = create(api, hang_at_step=2)
    for _ in range(MAX_ATTEMPTS + 1):
        with places.in_this_process(home) as api:
            time.sleep(0.3)  # the runner takes the job up
            wait(api, job.id, until=("running",))
    with places.in_this_process(home) as api:
        assert api.fine_tuning.jobs.retrieve(job.id).status in ("queued", "running")
        api.fine_tuning.jobs.cancel(job.id)


def test_the_time_that_a_job_took_only_grows(home):
    """Engines tell facts at the end of epochs, too."""
    with places.in_this_process(home) as api:
        job = api.fine_tuning.jobs.create(
            model=MODEL,
            training_file=api.files.create(file=("a.jsonl", examples(EPOCH)), purpose="fine-tune").id,
            **by_hand(),
        )
        wait(api, job.id, until=("running",))
    store = Store(home / "server")
    work = Work(store, owner="test")
    work.take_over()
    row = work.claim()
    assert row is not None
    recorder = JobRecorder(work, row, stop=threading.Event())
    elapsed = []
    for step in range(1, 4):
        recorder.started({"samples": step})
        time.sleep(0.05)
        recorder.step(StepReport(step=step, total_steps=3, train_loss=1.0, train_mean_token_accuracy=0.5))
        with store.read() as session:
            progress = session.get(type(row), row.seq).progress  # type: ignore[union-attr]
        elapsed.append(progress["elapsed_s"])
    store.close()
    assert [later - sooner >= 0.05 for sooner, later in itertools.pairwise(elapsed)] == [True, True]
