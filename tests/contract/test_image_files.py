"""What jobs read of files that name images by id is a content without a file of its own: how long it stays."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from local_backend.store.database import Store
from local_backend.store.files import Files
from tests.contract import places
from tests.contract.conftest import jsonl, wait
from tests.contract.test_jobs import MODEL

LONG_AGO_S = 3 * 24 * 3600


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def api(home: Path) -> Iterator[Any]:
    with places.in_this_process(home) as client:
        yield client


def training_file(api: Any) -> str:
    """Upload ten lines that name one uploaded image."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, "PNG")
    image = api.files.create(file=("a.png", stream.getvalue()), purpose="vision").id
    lines = [
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]},
                {"role": "assistant", "content": f"It is red, for the {i}th time."},
            ]
        }
        for i in range(10)
    ]
    return str(api.files.create(file=("a.jsonl", jsonl(lines)), purpose="fine-tune").id)


def job(api: Any, **simulate: Any) -> Any:
    """A job that has ended."""
    numbers = {"n_epochs": 5, "batch_size": 1}
    options = {"extra_body": {"local": {"simulate": simulate}}}
    created = api.fine_tuning.jobs.create(
        model=MODEL, training_file=training_file(api), seed=3, hyperparameters=numbers, **options
    )
    return wait(api, created.id)


def contents(home: Path) -> set[str]:
    return {path.name for path in (home / "server" / "files").iterdir()}


def grow_old(home: Path) -> None:
    for path in (home / "server" / "files").iterdir():
        os.utime(path, (time.time() - LONG_AGO_S,) * 2)


def open_again(home: Path) -> None:
    """What any other script does; it gives back room."""
    with places.in_this_process(home) as other:
        other.models.list()


def test_a_failed_job_goes_on_with_the_images_that_its_file_named(api, home):
    failed = job(api, fail_at_step=15)
    assert failed.status == "failed"
    grow_old(home)
    open_again(home)
    api.fine_tuning.jobs.resume(failed.id)
    ended = wait(api, failed.id)
    assert ended.error.message.startswith("The job failed on purpose at step 15.")  # and not for want of its file


def test_a_failed_job_whose_file_was_deleted_does_not_go_on(api, home):
    failed = job(api, fail_at_step=15)
    api.files.delete(failed.training_file)
    assert len(contents(home)) == 1  # the image
    with pytest.raises(openai.BadRequestError, match="file was deleted"):
        api.fine_tuning.jobs.resume(failed.id)


def test_what_a_job_that_ended_well_has_read_goes(api, home):
    before = contents(home) if home.exists() else set()
    done = job(api)
    assert done.status == "succeeded"
    made = contents(home) - before
    grow_old(home)
    open_again(home)
    assert len(made - contents(home)) == 1


def test_what_has_just_been_made_for_a_job_to_come_stays(api, home):
    """Between the content and the job's row another script may open the home; a plan has no row at all."""
    body = {"training_file": training_file(api), "model": MODEL}
    known = contents(home)
    assert api.post("/local/check", body=body, cast_to=object)["ok"]
    (made,) = contents(home) - known
    open_again(home)
    assert made in contents(home)
    grow_old(home)
    assert api.post("/local/check", body=body, cast_to=object)["ok"]
    open_again(home)
    assert made in contents(home)
    grow_old(home)
    open_again(home)
    assert contents(home) == known


def test_what_a_job_to_come_reads_stays_though_an_equal_file_is_deleted(api, home):
    """Of the same file uploaded twice, jobs read the same content."""
    first = job(api).training_file
    data = api.files.content(first).read()
    second = api.files.create(file=("b.jsonl", data), purpose="fine-tune").id
    body = {"training_file": second, "model": MODEL}
    assert api.post("/local/check", body=body, cast_to=object)["ok"]
    known = contents(home)
    api.files.delete(first)
    assert contents(home) == known
    api.files.delete(second)
    assert len(known - contents(home)) == 2  # the lines as uploaded, and with their image


def test_what_is_made_again_while_old_contents_are_removed_stays(api, home):
    """One script may find a content old and unused, and another want it for a job before it is removed."""
    file = training_file(api)
    known = contents(home)
    assert api.post("/local/check", body={"training_file": file, "model": MODEL}, cast_to=object)["ok"]
    (made,) = contents(home) - known
    grow_old(home)
    store = Store(home / "server")

    class Overtaken(Files):
        def _drop_unused(self, sha256: str) -> None:
            assert self.content(self.get(file)) == made
            super()._drop_unused(sha256)

    Overtaken(store).drop_expired()
    assert made in contents(home)
    grow_old(home)
    Files(store).drop_expired()
    assert made not in contents(home)
    store.close()


def test_contents_of_deleted_files_go_at_once_however_young(api, home):
    file = api.files.create(file=("a.bin", b"secret"), purpose="user_data")
    api.files.delete(file.id)
    assert contents(home) == set()
