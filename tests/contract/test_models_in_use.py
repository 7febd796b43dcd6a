"""A model stays as long as a job that has not ended needs it; a job whose model went all the same says so."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.contract import places
from tests.contract.conftest import examples, wait
from tests.contract.test_ended_badly import checkpoints_of, folder_of
from tests.contract.test_jobs import MODEL, move

EPOCH = 10


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of the test's own, whose files it may look at."""
    return tmp_path / "home"


@pytest.fixture
def api(home: Path) -> Iterator[Any]:
    with places.in_this_process(home) as client:
        yield client


def create(api: Any, model: str = MODEL, *, keep_best: bool = False, **simulate: Any) -> Any:
    """A job of five epochs of ten steps."""
    file = api.files.create(file=("a.jsonl", examples(EPOCH)), purpose="fine-tune").id
    local = {"simulate": simulate, "evaluation": {"keep_best": keep_best}}
    return api.fine_tuning.jobs.create(
        model=model,
        training_file=file,
        validation_file=file,
        seed=3,
        hyperparameters={"n_epochs": 5, "batch_size": 1},
        extra_body={"local": local},
    )


def move_and_pause(api: Any, job: Any, n_steps: int) -> None:
    move(api, job.id, n_steps)
    api.fine_tuning.jobs.pause(job.id)
    wait(api, job.id, until=("paused",))


def tuned(api: Any) -> str:
    return str(wait(api, create(api).id).fine_tuned_model)


def is_listed(api: Any, model: str) -> bool:
    return model in [each.id for each in api.models.list()]


def assert_needed(api: Any, model: str, job: Any) -> None:
    """Deleting says which job needs the model, and leaves it."""
    with pytest.raises(openai.BadRequestError, match=job.id) as caught:
        api.models.delete(model)
    assert (caught.value.code, caught.value.param) == ("model_in_use", "model")
    assert "cancel it" in caught.value.message
    assert is_listed(api, model)


def delete_behind_the_server(home: Path, model: str) -> None:
    """As an earlier version let it happen: a home keeps its jobs when the program is renewed."""
    with closing(sqlite3.connect(home / "server" / "store.db")) as store, store:
        assert store.execute("UPDATE models SET deleted = 1 WHERE id = ?", (model,)).rowcount == 1


def test_what_a_job_starts_from_stays_until_the_job_has_ended(api):
    model = tuned(api)
    job = create(api, model, speed="step")
    move(api, job.id, 3)
    assert_needed(api, model, job)
    api.fine_tuning.jobs.pause(job.id)
    wait(api, job.id, until=("paused",))
    assert_needed(api, model, job)
    api.fine_tuning.jobs.resume(job.id)
    assert_needed(api, model, job)
    api.fine_tuning.jobs.cancel(job.id)
    assert api.models.delete(model).deleted


def test_the_best_epoch_so_far_stays_until_the_job_has_ended(api):
    """Of a job that keeps its best; other checkpoints can go."""
    job = create(api, keep_best=True, speed="step")
    move_and_pause(api, job, 7)
    api.fine_tuning.jobs.resume(job.id)
    move_and_pause(api, job, EPOCH - 7)
    found = checkpoints_of(api, job)
    assert sorted(found) == [7, EPOCH]
    assert_needed(api, found[EPOCH], job)
    assert api.models.delete(found[7]).deleted
    api.fine_tuning.jobs.cancel(job.id)
    assert api.models.delete(found[EPOCH]).deleted


def test_checkpoints_of_a_job_that_ends_with_its_last_epoch_can_go(api):
    job = create(api, speed="step")
    move_and_pause(api, job, EPOCH)
    assert api.models.delete(checkpoints_of(api, job)[EPOCH]).deleted


def test_a_failed_job_whose_first_model_was_deleted_does_not_go_on(api, home):
    model = tuned(api)
    job = wait(api, create(api, model, fail_at_step=15).id)
    assert "`ftclient resume" in job.error.message
    assert api.models.delete(model).deleted
    with pytest.raises(openai.BadRequestError, match="the model that it starts from was deleted") as caught:
        api.fine_tuning.jobs.resume(job.id)
    assert caught.value.code == "invalid_job_status"
    assert wait(api, create(api).id).status == "succeeded"
    last = wait(api, create(api, fail_at_step=15).id)
    assert (folder_of(home, last) / "resume").exists()
    assert not (folder_of(home, job) / "resume").exists()


def test_a_paused_job_whose_first_model_has_gone_does_not_go_on(api, home):
    model = tuned(api)
    job = create(api, model, speed="step")
    move_and_pause(api, job, 3)
    delete_behind_the_server(home, model)
    with pytest.raises(openai.BadRequestError, match="the model that it starts from was deleted"):
        api.fine_tuning.jobs.resume(job.id)


def test_a_job_that_fails_for_want_of_its_first_model_names_no_way_on(api, home):
    model = tuned(api)
    job = create(api, model, speed="step")
    move_and_pause(api, job, EPOCH)
    before = create(api, speed="step")
    move(api, before.id, 1)
    api.fine_tuning.jobs.resume(job.id)
    delete_behind_the_server(home, model)
    api.fine_tuning.jobs.cancel(before.id)
    ended = wait(api, job.id)
    assert (ended.status, ended.error.code) == ("failed", "model_not_found")
    assert "ftclient resume" not in ended.error.message
    assert f"The model as it was after step {EPOCH} can be used" in ended.error.message


@pytest.mark.parametrize("code", ["base_model_changed", "resume_point_unreadable"])
def test_an_error_that_says_to_start_anew_names_no_way_on_but_leaves_it_open(api, code):
    """Who puts back what has changed since can go on."""
    job = wait(api, create(api, fail_at_step=15, fail_code=code).id)
    assert job.error.code == code
    assert "ftclient resume" not in job.error.message
    assert api.fine_tuning.jobs.resume(job.id).status == "queued"


def test_a_failed_job_names_no_checkpoint_that_was_deleted(api, home):
    job = create(api, speed="step")
    move_and_pause(api, job, 5)
    assert api.models.delete(checkpoints_of(api, job)[5]).deleted
    trouble = folder_of(home, job) / "answers.jsonl"
    trouble.unlink()
    trouble.mkdir()
    api.fine_tuning.jobs.resume(job.id)
    move(api, job.id, EPOCH)
    ended = wait(api, job.id)
    assert ended.status == "failed"
    assert "can be used" not in ended.error.message
