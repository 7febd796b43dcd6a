"""The room that downloaded weights take can be had back, but not while a job needs them."""

from __future__ import annotations

import json

import openai
import pytest

from local_backend import in_process
from local_backend.models import find
from local_backend.models.cache import Source, building, publish
from local_backend.runner import held_lock, lock_path
from local_backend.settings import Settings

NAME = "qwen3-0.6b"


@pytest.fixture
def settings(tmp_path):
    """A home whose cache holds one base model."""
    settings = Settings(home=tmp_path, cache=tmp_path / "cache", engine="torch", runner="thread")
    with building(NAME, settings=settings) as staging:
        (staging / "model.safetensors").write_bytes(b"weights")
        source = Source(name=NAME, origin="hub", revision="abc", sha256="0" * 64, size_bytes=7)
        publish(staging, source=source, settings=settings)
    return settings


def test_the_weights_of_a_base_model_are_deleted(settings):
    with in_process.client(settings) as client:
        assert client.models.delete(NAME).deleted
        assert find(NAME, settings=settings) is None
        assert NAME in {model.id for model in client.models.list()}, "it can be fetched again"
        with pytest.raises(openai.BadRequestError, match="nothing to delete"):
            client.models.delete(NAME)


def test_weights_that_a_job_needs_stay(settings):
    line = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    content = "\n".join([json.dumps(line)] * 10).encode()
    settings.server_dir.mkdir()
    another_runner = held_lock(lock_path(settings), pid=0)
    with another_runner, in_process.client(settings) as client:
        file = client.files.create(file=("t.jsonl", content), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model=NAME, training_file=file.id)
        with pytest.raises(openai.BadRequestError, match=f"{job.id} still needs {NAME}"):
            client.models.delete(NAME)
        client.fine_tuning.jobs.cancel(job.id)
        assert client.models.delete(NAME).deleted
