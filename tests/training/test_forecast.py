"""What a plan says of a run, against the run."""

import pytest

from local_backend.engine import loop
from local_backend.engine.forecast.estimate import forecast
from local_backend.engine.training import prepare
from local_backend.task import UserError
from tests.training.tiny import Recording, chat, task_of, tiny_folder, write_jsonl

EXAMPLES = [chat(f"A long question that all share, up to its number, {n}?", f"Answer {n}") for n in range(12)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("base"))


def test_tokens_are_those_of_the_run(base, tmp_path):
    task = task_of(tmp_path / "job", write_jsonl(tmp_path / "t.jsonl", EXAMPLES))
    found = forecast(task, base=base)
    recorder = Recording()
    outcome = loop.train(prepare(task, base=base), recorder)
    assert found.n_examples == 12
    assert found.tokens_per_epoch == recorder.facts["trained_tokens_per_epoch"]
    assert outcome.trained_tokens == 2 * found.tokens_per_epoch
    assert found.loss_tokens_per_epoch == recorder.facts["loss_tokens_per_epoch"]
    assert found.context_tokens == 512
    assert found.longest_example_tokens < 100
    assert any("share" in note for note in found.notes)


def test_more_epochs_take_longer_and_the_head_alone_less(base, tmp_path):
    training = write_jsonl(tmp_path / "t.jsonl", EXAMPLES * 20)
    times = [forecast(task_of(tmp_path, training, n_epochs=n), base=base).time_s for n in (1, 30)]
    assert times[1] > 2 * times[0]
    head = forecast(task_of(tmp_path, training, local={"tune": {"type": "head"}}), base=base)
    full = forecast(task_of(tmp_path, training, local={"tune": {"type": "full"}}), base=base)
    assert head.time_s < full.time_s
    assert head.memory_bytes < full.memory_bytes
    assert any("computed once for all epochs" in note for note in head.notes)


def test_a_line_that_can_not_be_trained_is_named(base, tmp_path):
    training = write_jsonl(tmp_path / "t.jsonl", [*EXAMPLES, chat("x " * 600, "y")])
    with pytest.raises(UserError, match="Line 13: It has"):
        forecast(task_of(tmp_path, training), base=base)
