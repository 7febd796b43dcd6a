"""The main job from a file to an answer, the same everywhere: simulated, with the real engine, and hosted."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import tarfile

import httpx2
import pytest

from tests.contract.answers import check_chunk
from tests.contract.conftest import examples, wait

pytestmark = pytest.mark.real_engine_too

MODEL = "smollm2-135m"
QUESTION = [{"role": "user", "content": "Where is parcel 3?"}]


@pytest.fixture(scope="module")
def job(place):
    """A job that has succeeded: 12 examples in batches of 4 over 4 epochs."""
    hosted = "api.openai.com" in str(place.base_url)
    model = "gpt-4.1-nano-2025-04-14" if hosted else MODEL
    training = place.files.create(file=("train.jsonl", examples(12)), purpose="fine-tune")
    validation = place.files.create(file=("valid.jsonl", examples(4, offset=50)), purpose="fine-tune")
    created = place.fine_tuning.jobs.create(
        model=model,
        training_file=training.id,
        validation_file=validation.id,
        suffix="parcels",
        seed=1,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": 4}}},
    )
    ended = wait(place, created.id, within_s=3600 if hosted else 240)
    assert ended.status == "succeeded", ended.error
    return ended


def test_the_job_says_what_came_of_it(job):
    assert re.fullmatch(r"ft:[^:]+:[^:]+:parcels:[A-Za-z0-9]{8}", job.fine_tuned_model)
    assert job.trained_tokens > 0
    assert job.trained_tokens % 4 == 0
    assert job.finished_at >= job.created_at
    assert len(job.result_files) == 1


def test_the_events_tell_the_story_in_openais_words(api, job):
    newest_first = list(api.fine_tuning.jobs.list_events(job.id, limit=5))
    events = newest_first[::-1]
    told = [event.message for event in events]
    assert told[:4] == [
        f"Created fine-tuning job: {job.id}",
        f"Validating training file: {job.training_file} and validation file: {job.validation_file}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
    ]
    steps = [message for message in told if message.startswith("Step ")]
    number = r"\d+\.\d\d"
    shape = rf"Step \d+/12: training loss={number}(, validation loss={number})?(, full validation loss={number})?"
    assert all(re.fullmatch(shape, step) for step in steps), steps
    assert [int(step.split("/")[0][5:]) for step in steps] == list(range(1, 13))
    assert all("full validation loss" in steps[end] for end in (2, 5, 8, 11))
    checkpoint = (
        rf"Checkpoint created at step \d+ with Snapshot ID: {re.escape(job.fine_tuned_model[:-8])}.{{8}}:ckpt-step-"
    )
    assert all(re.match(checkpoint, message) for message in told[16:-2]), told[16:-2]
    assert told[-2:] == [
        f"New fine-tuned model created: {job.fine_tuned_model}",
        "The job has successfully completed",
    ]
    assert [event.data for event in events[:4]] == [{}, {}, {}, None]
    for event in events[4:16]:
        assert {"step", "total_steps", "train_loss", "train_mean_token_accuracy"} <= set(event.data)
        assert event.type == "metrics"


def test_the_last_three_epochs_are_kept_and_the_last_one_is_the_model(api, job):
    checkpoints = list(api.fine_tuning.jobs.checkpoints.list(job.id, limit=2))
    assert [found.step_number for found in checkpoints] == [12, 9, 6]
    names = [found.fine_tuned_model_checkpoint for found in checkpoints]
    assert names[0] == job.fine_tuned_model
    assert names[1].endswith(":ckpt-step-9")
    assert len({name.split(":")[4] for name in names}) == 3
    assert all(found.metrics.step == found.step_number for found in checkpoints)
    assert all(found.metrics.train_loss is not None for found in checkpoints)


def test_the_result_file_is_a_csv_in_base64(api, job):
    file = api.files.retrieve(job.result_files[0])
    assert (file.purpose, file.filename) == ("fine-tune-results", "step_metrics.csv")
    text = base64.b64decode(api.files.content(file.id).read()).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert [int(row["step"]) for row in rows] == list(range(1, 13))
    assert all(float(row["train_loss"]) > 0 for row in rows)


def test_every_model_of_the_job_answers(api, job):
    names = [found.fine_tuned_model_checkpoint for found in api.fine_tuning.jobs.checkpoints.list(job.id)]
    listed = {model.id for model in api.models.list()}
    for name in [*names, job.model]:
        assert name in listed
        answer = api.chat.completions.create(model=name, messages=QUESTION, temperature=0, max_tokens=8)
        assert answer.choices[0].message.content
        assert answer.choices[0].finish_reason in ("stop", "length")
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert answer.usage.completion_tokens <= 8


def test_a_stream_says_the_same_as_the_whole_answer(api, job):
    asked = {"model": job.fine_tuned_model, "messages": QUESTION, "temperature": 0, "max_tokens": 12}
    whole = api.chat.completions.create(**asked)
    chunks = list(api.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    for chunk in chunks:
        check_chunk(chunk)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == [
        whole.choices[0].finish_reason
    ]


@pytest.mark.real_engine_only
def test_a_base_model_is_pulled_with_its_checksum(api):
    lines = api.post("/local/models/pull", cast_to=str, body={"model": "gpt-4o-mini"}).splitlines()
    last = json.loads(lines[-1])
    assert (last["done"], last["model"], len(last["sha256"])) == (True, MODEL, 64)


@pytest.mark.real_engine_only
def test_a_tuned_model_leaves_as_a_folder_that_other_programs_read(api, job, tmp_path):
    url = f"{api.base_url}local/models/{job.fine_tuned_model}/export"
    with httpx2.stream("GET", url, params={"format": "adapter"}, timeout=300) as answer:
        assert answer.status_code == 200
        (tmp_path / "out.tar").write_bytes(answer.read())
    with tarfile.open(tmp_path / "out.tar") as archive:
        archive.extractall(tmp_path / "out", filter="data")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["r"] == 16
    assert (tmp_path / "out" / "adapter_model.safetensors").stat().st_size > 1_000_000
