"""Models with a state instead of attention name neither heads nor a longest text, and are trained all the same."""

import json

import pytest

from local_backend.engine import NO_LIMIT_TOKENS, loop
from local_backend.engine.forecast.estimate import forecast
from local_backend.engine.generation.load import load
from local_backend.engine.training import context_tokens, prepare
from local_backend.engine.weights import ModelDir, weights_sha256
from local_backend.task import JobError
from tests.training.chatty import write_tiny
from tests.training.tiny import Recording, chat, task_of, write_jsonl

NOT_THEIRS = ("max_position_embeddings", "num_attention_heads", "num_key_value_heads")
IN_PROJ = {"type": "lora", "rank": 4, "targets": ["in_proj"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = write_tiny(tmp_path_factory.mktemp("base"), "mamba")
    config = json.loads((folder / "config.json").read_text())
    kept = {name: value for name, value in config.items() if name not in NOT_THEIRS}
    (folder / "config.json").write_text(json.dumps(kept))
    return ModelDir(path=folder, sha256=weights_sha256(folder), name="mamba")


@pytest.fixture
def training(tmp_path):
    return write_jsonl(tmp_path / "train.jsonl", [chat(f"the cat sat on {n}", "the mat") for n in range(8)])


@pytest.mark.parametrize("tune", [{"type": "full"}, {"type": "last_layers", "n": 1}, {"type": "head"}, IN_PROJ])
def test_they_train_on_the_plain_path_and_say_so(tmp_path, base, training, tune):
    recorder = Recording()
    task = task_of(tmp_path / "job", training, local={"tune": tune, "learning_rate": 1e-3}, n_epochs=4)
    assert loop.train(prepare(task, base=base), recorder).kind == "succeeded"
    assert recorder.reports[-1].train_loss < recorder.reports[0].train_loss
    assert "one sequence at a time" in recorder.facts["packing"]
    assert "'mamba'" in recorder.facts["packing"]


def test_an_adapter_on_layers_that_are_passed_by_is_refused_with_those_that_are_not(tmp_path, base, training):
    with pytest.raises(JobError, match=r"past an adapter.*`in_proj`") as caught:
        loop.train(prepare(task_of(tmp_path / "job", training), base=base), Recording())
    assert (caught.value.code, caught.value.param) == ("invalid_targets", "local.tune.targets")


def test_their_texts_have_no_limit_and_their_jobs_a_plan(tmp_path, base, training):
    assert context_tokens(base.path) == load(base.path, tokenizer_dir=base.path).context_tokens == NO_LIMIT_TOKENS
    task = task_of(tmp_path, training, local={"tune": IN_PROJ})
    found = forecast(task, base=base, folder=tmp_path / "measured")
    assert found.context_tokens == NO_LIMIT_TOKENS
    assert found.time_s > 0
    assert found.memory_bytes > 0
