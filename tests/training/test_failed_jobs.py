"""The whole way of a job that fails, with the real engine: its checkpoints answer, and it goes on to the same bits."""

import pytest

from local_backend import in_process
from local_backend.engine import pace
from local_backend.settings import Settings
from tests.contract.conftest import wait
from tests.training.tiny import chat, tiny_folder, write_jsonl

WORDS = ["red", "green", "blue", "black", "white", "pink", "grey", "gold", "teal", "lime"]
ENDS = [3, 6, 9, 12, 15]
"""Last steps of the epochs."""


@pytest.fixture
def base(tmp_path):
    return tiny_folder(tmp_path / "base")


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def api(home, tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "RESUME_EVERY_S", 0.0)
    settings = Settings(home=home, cache=tmp_path, engine="torch", runner="thread", allow_local_paths=True)
    with in_process.client(settings) as client:
        yield client


def create(api, base, tmp_path):
    file = write_jsonl(tmp_path / "train.jsonl", [chat(f"What is {word}?", word.upper()) for word in WORDS])
    with file.open("rb") as data:
        uploaded = api.files.create(file=data, purpose="fine-tune")
    local = {"learning_rate": 1e-2, "runtime": {"threads": 1}}
    return api.fine_tuning.jobs.create(
        model=str(base.path),
        training_file=uploaded.id,
        seed=7,
        hyperparameters={"n_epochs": 5, "batch_size": 4},
        extra_body={"local": local},
    )


def checkpoints_of(api, job):
    listed = list(api.fine_tuning.jobs.checkpoints.list(job.id))
    return {each.step_number: each.fine_tuned_model_checkpoint for each in listed}


def assert_answers(api, name):
    asked = api.chat.completions.create(model=name, messages=[{"role": "user", "content": "red?"}], max_tokens=3)
    assert asked.choices[0].finish_reason in {"stop", "length"}


def weights_of(home, job, step):
    folder = home / "server" / "jobs" / job.id / "checkpoints" / f"step-{step}"
    return (folder / "adapter_model.safetensors").read_bytes()


def test_a_job_that_cannot_write_fails_and_goes_on_to_the_same_end(api, home, base, tmp_path):
    expected = wait(api, create(api, base, tmp_path).id)
    assert expected.status == "succeeded", expected.error
    assert sorted(checkpoints_of(api, expected)) == ENDS[-3:]

    job = create(api, base, tmp_path)
    assert api.fine_tuning.jobs.pause(job.id).status in ("paused", "pausing")
    wait(api, job.id, until=("paused",))
    in_the_way = home / "server" / "jobs" / job.id / "checkpoints" / "step-12"
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.touch()
    api.fine_tuning.jobs.resume(job.id)
    failed = wait(api, job.id, until=("failed", "succeeded"))
    assert failed.status == "failed"
    assert "Not a directory" in failed.error.message
    assert f"Go on from step 11 with `ftclient resume {job.id}`." in failed.error.message
    found = checkpoints_of(api, job)
    assert set(found) >= {3, 6, 9}
    for name in found.values():
        assert_answers(api, name)

    in_the_way.unlink(missing_ok=True)
    api.fine_tuning.jobs.resume(job.id)
    done = wait(api, job.id)
    assert done.status == "succeeded", done.error
    assert weights_of(home, done, 15) == weights_of(home, expected, 15)
    assert set(checkpoints_of(api, job)) >= set(ENDS)
    assert_answers(api, done.fine_tuned_model)
    assert not (in_the_way.parents[1] / "resume").exists()
