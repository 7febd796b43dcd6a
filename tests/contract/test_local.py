"""The endpoints that only this server has: forecasts, checks, rendering, details, the machine."""

from __future__ import annotations

import json
import os
import time

import openai
import pytest

from ftclient import hosts
from ftclient.errors import FtclientError
from ftclient.jobs.local import forecast
from local_backend import in_process
from local_backend.settings import Settings
from tests.contract.conftest import examples, jsonl
from tests.contract.test_jobs import by_hand, move

MODEL = "smollm2-135m"
QUESTION = {
    "messages": [
        {"role": "user", "content": "Where is it?"},
        {"role": "assistant", "content": "Not here.", "weight": 0},
        {"role": "user", "content": "Where then?"},
        {"role": "assistant", "content": "There."},
    ]
}


def post(api, path: str, **body):
    return api.post(f"/local/{path}", cast_to=object, body=body)


def test_a_plan_says_what_a_job_would_take(api, upload):
    plan = post(api, "plan", model="gpt-4o-mini", training_file=upload(examples(100)))
    assert plan["model"] == MODEL
    assert (plan["n_examples"], plan["n_epochs"], plan["batch_size"], plan["n_steps"]) == (100, 3, 5, 60)
    assert "OpenAI's rule" in plan["epochs_rule"]
    assert plan["learning_rate"] == 1e-3
    assert 0 < plan["loss_tokens_per_epoch"] < plan["tokens_per_epoch"]
    assert plan["longest_example_tokens"] <= plan["context_tokens"]
    assert list(api.fine_tuning.jobs.list(metadata={"from": "plan"})) == []


def test_whoever_accepts_lines_is_told_how_the_machine_is_measured_before_the_plan(api, upload):
    body = {"model": MODEL, "training_file": upload(examples(100))}
    told = []
    plan = forecast(api, hosts.LOCAL, body, measuring=lambda *part: told.append(part))
    assert all(0 < done < of for done, of, _ in told)
    again = post(api, "plan", **body)
    assert plan.keys() == again.keys()
    for name in ("model", "n_steps", "tokens_per_epoch", "memory", "device", "precision"):
        assert plan[name] == again[name]


def test_a_plan_that_fails_once_its_answer_has_begun_says_so_in_the_last_line(api):
    empty = api.files.create(file=("b.jsonl", b'{"messages": "none"}\n' * 12), purpose="fine-tune")
    body = {"model": MODEL, "training_file": empty.id}
    with pytest.raises(FtclientError):
        forecast(api, hosts.LOCAL, body, measuring=lambda *_: None)


@pytest.mark.parametrize(("n_epochs", "words"), [(1, "1 epoch as given"), (2, "2 epochs as given")])
def test_a_plan_counts_epochs_in_words(api, upload, n_epochs, words):
    body = {"training_file": upload(examples(10)), "hyperparameters": {"n_epochs": n_epochs}}
    assert post(api, "plan", model=MODEL, **body)["epochs_rule"] == words


def test_a_plan_refuses_what_a_job_would_refuse(api, upload):
    with pytest.raises(openai.BadRequestError) as caught:
        post(api, "plan", model=MODEL, training_file=upload(examples(10)), seed=-1)
    assert caught.value.param == "seed"


def test_a_check_finds_examples_beyond_the_models_context(api, upload):
    long = {"messages": [{"role": "user", "content": "word " * 9000}, {"role": "assistant", "content": "ok"}]}
    file_id = upload(examples(10) + jsonl([long]))
    report = post(api, "check", model=MODEL, training_file=file_id)
    assert not report["ok"]
    assert [(issue["line"], issue["code"], issue["severity"]) for issue in report["issues"]] == [
        (11, "too_long", "error")
    ]
    sound = post(api, "check", model=MODEL, training_file=upload(examples(10)))
    assert sound["ok"]
    tokens = sound["stats"]["tokens"]
    assert tokens["encoding"] == "the model's own tokenizer"
    assert 0 < tokens["trained"] < tokens["total"]


def test_rendering_shows_the_weight_of_every_token(api):
    shown = post(api, "render", model=MODEL, example=QUESTION)
    trained = [token["text"] for token in shown["tokens"] if token["weight"] > 0]
    assert "There" in trained
    assert "Not" not in trained
    assert shown["n_loss_tokens"] == len(trained) < shown["n_tokens"] == len(shown["tokens"])


def test_details_follow_a_running_job(api, upload):
    job = api.fine_tuning.jobs.create(model=MODEL, training_file=upload(examples(10)), **by_hand())
    try:
        details = move(api, job.id, 10)
        deadline = time.monotonic() + 30
        while details["resume_point"] is None:  # it is written just after the step
            assert time.monotonic() < deadline
            details = api.get(f"/local/jobs/{job.id}", cast_to=object)
    finally:
        api.fine_tuning.jobs.cancel(job.id)
    assert details["progress"]["step"] == 10
    assert details["progress"]["total_steps"] == 20
    assert details["progress"]["remaining_s"] >= 0
    assert details["facts"]["engine"] == details["engine"] == "simulated"
    assert details["resume_point"]["step"] in range(1, 11)
    plain = api.fine_tuning.jobs.create(model=MODEL, training_file=upload(examples(10)))
    with pytest.raises(openai.BadRequestError, match="moved by hand"):
        move(api, plain.id, 1)


def test_a_pull_tells_its_end_in_the_last_line(api):
    lines = api.post("/local/models/pull", cast_to=str, body={"model": "gpt-4o-mini"}).splitlines()
    assert json.loads(lines[-1]) == {"done": True, "model": MODEL, "sha256": None, "path_hidden": True}
    with pytest.raises(openai.BadRequestError):
        api.post("/local/models/pull", cast_to=str, body={"model": "no such model"})


def test_the_simulated_engine_has_nothing_to_export(api):
    with pytest.raises(openai.BadRequestError, match="no weights"):
        api.get(f"/local/models/{MODEL}/export", cast_to=object)


def test_the_machine_says_what_it_is_and_has(api):
    machine = api.get("/local/machine", cast_to=object)
    assert machine["engine"] == "simulated"
    assert machine["memory_bytes"] > 0
    assert machine["free_disk_bytes"] > 0
    assert {"alive", "pid", "job"} == set(machine["runner"])
    assert MODEL in {model["name"] for model in machine["models"]}


def test_which_base_models_are_here_is_known_without_the_rest(api):
    here, machine = (api.get(f"/local/{name}", cast_to=object) for name in ("models", "machine"))
    assert here == {"engine": machine["engine"], "models": machine["models"]}


def test_a_result_file_comes_plain_where_that_is_asked(api, train):
    result = train().result_files[0]
    plain = api.files.content(result, extra_query={"encoding": "plain"}).read()
    assert plain.startswith(b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,")
    assert len(plain) == api.files.retrieve(result).bytes


def test_a_name_says_which_weights_it_means_now(api, train):
    base = api.get(f"/local/models/{MODEL}", cast_to=object)
    nothing = {"base_sha256": None, "tuned_at_ns": None, "is_classifier": False}
    assert base == {"model": MODEL, "base": MODEL, "engine": "simulated", **nothing}
    alias = api.get("/local/models/gpt-4o-mini", cast_to=object)
    assert (alias["model"], alias["base"]) == ("gpt-4o-mini", MODEL)
    name = train().fine_tuned_model
    tuned = api.get(f"/local/models/{name}", cast_to=object)
    assert (tuned["model"], tuned["base"]) == (name, MODEL)
    assert tuned["tuned_at_ns"] > 0
    with pytest.raises(openai.NotFoundError):
        api.get("/local/models/no-such-model", cast_to=object)


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "chat_template.jinja"])
def test_a_folder_means_other_weights_once_a_file_in_it_is_written_over(tmp_path, file):
    """Also by a copy that keeps the times of an older file, and where the folder itself stays as it is."""
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    for folder in (base, tuned):
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(b"first")
        (folder / "chat_template.jinja").write_text("{{ messages }}")
    (base / "config.json").write_text("{}")
    (tuned / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": MODEL}))
    settings = Settings(home=tmp_path / "home", cache=tmp_path, engine="simulated", allow_local_paths=True)
    with in_process.client(settings) as client:
        for folder in (base, tuned):
            before = client.get(f"/local/models/{folder}", cast_to=object)
            assert client.get(f"/local/models/{folder}", cast_to=object) == before
            (folder / file).write_bytes((folder / file).read_bytes().upper())
            os.utime(folder / file, (1e9, 1e9))
            assert client.get(f"/local/models/{folder}", cast_to=object) != before


def test_the_simulated_engine_scores_nothing(api):
    with pytest.raises(openai.BadRequestError) as raised:
        post(api, "score", model=MODEL, examples=[QUESTION])
    assert raised.value.code == "scoring_not_supported"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"examples": []}, "examples"),
        ({"examples": [{"messages": []}]}, "example"),
        ({"examples": [{"messages": [{"role": "user", "content": "q"}]}]}, "example"),
        ({}, "examples"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_field(api, body, param):
    with pytest.raises(openai.BadRequestError) as raised:
        post(api, "score", model=MODEL, **body)
    assert raised.value.param == param


@pytest.mark.real_engine_only
def test_a_likely_answer_scores_above_an_unlikely_one(api):
    answers = ("Paris", "Purple")
    examples_ = [
        {
            "messages": [
                {"role": "user", "content": "What is the capital of France? One word."},
                {"role": "assistant", "content": answer},
            ]
        }
        for answer in answers
    ]
    likely, unlikely = post(api, "score", model=MODEL, examples=examples_)["scores"]
    assert 0 > likely["logprob"] > unlikely["logprob"]
    assert likely["n_tokens"] >= 2  # the answer and its end
    assert len(api.get(f"/local/models/{MODEL}", cast_to=object)["base_sha256"]) == 64
