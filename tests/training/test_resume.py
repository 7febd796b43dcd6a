"""A run that was killed, paused or cancelled: nothing is lost but steps, and the end is the same to the bit."""

import json
import os
import random
import shutil
import signal
import time
from dataclasses import replace

import pytest
import torch

from local_backend.engine import checkpoint, frozen, loop, pace
from local_backend.engine.training import prepare
from local_backend.task import JobError, Signal
from tests.training.tiny import WORDS, Recording, chat, task_of, tiny_folder, words_jsonl, write_jsonl

DROPOUT = {"tune": {"type": "lora", "rank": 4, "alpha": 8, "dropout": 0.1}}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture
def training(tmp_path):
    return words_jsonl(tmp_path)


@pytest.fixture
def validation(tmp_path):
    return write_jsonl(tmp_path / "valid.jsonl", [chat(f"What is {word} now?", word.upper()) for word in WORDS[:5]])


@pytest.fixture(autouse=True)
def _a_resume_point_at_every_step(monkeypatch):
    monkeypatch.setattr(pace, "RESUME_EVERY_S", 0.0)


def run(task, base, recorder):
    return loop.train(prepare(task, base=base), recorder)


def weights(outcome):
    return (outcome.model_dir / "adapter_model.safetensors").read_bytes()


class InterruptedRecorder(Recording):
    """Ctrl-C when a step is reported."""

    def __init__(self, step):
        super().__init__()
        self.stop_at = step

    def step(self, report):
        if report.step == self.stop_at:
            raise KeyboardInterrupt
        return super().step(report)


class KillingRecorder(Recording):
    """Kills its own process, for real, when a step is reported."""

    def __init__(self, step):
        super().__init__()
        self.kill_at = step

    def step(self, report):
        if report.step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(report)


class SlowRecorder(Recording):
    """Leaves time to be killed in."""

    def step(self, report):
        time.sleep(0.05)
        return super().step(report)


def was_killed(task, base, recorder, *, kill_after_s=None):
    """Run in a forked process and say whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            run(task, base, recorder)
        finally:
            os._exit(0)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_killed_at_random_moments_it_ends_bit_identical(tmp_path, base, training, validation):
    """Dropout is on, so the random state counts too."""
    torch.set_num_threads(1)
    whole = Recording()
    expected = run(task_of(tmp_path / "whole", training, validation=validation, local=DROPOUT), base, whole)
    chance = random.Random(3)
    n_killed = 0
    for attempt in range(7):
        task = task_of(tmp_path / f"killed-{attempt}", training, validation=validation, local=DROPOUT)
        n_killed += was_killed(task, base, KillingRecorder(chance.randint(1, 6)))
        for _ in range(2):
            n_killed += was_killed(task, base, SlowRecorder(), kill_after_s=chance.uniform(0.05, 0.4))
        resumed = Recording()
        outcome = run(task, base, resumed)
        assert weights(outcome) == weights(expected)
        assert outcome.trained_tokens == expected.trained_tokens
        by_step = {report.step: report for report in whole.reports}
        for report in resumed.reports:
            assert report.train_loss == by_step[report.step].train_loss
            assert report.full_valid_loss == by_step[report.step].full_valid_loss
        shutil.rmtree(task.work_dir)
    assert n_killed >= 7  # the first of each; the others may find the run at its end


def test_each_step_interrupted_once(tmp_path, base, training):
    expected = run(task_of(tmp_path / "whole", training), base, Recording())
    for step in range(1, 7):
        task = task_of(tmp_path / f"stopped-{step}", training)

        with pytest.raises(KeyboardInterrupt):
            run(task, base, InterruptedRecorder(step))
        assert weights(run(task, base, Recording())) == weights(expected)


def whole_weights(outcome):
    return [file.read_bytes() for file in sorted(outcome.model_dir.glob("*.safetensors"))]


@pytest.mark.parametrize(
    "tune", [{"type": "full"}, {"type": "last_layers", "n": 2}, {"type": "head"}], ids=lambda tune: tune["type"]
)
def test_every_way_of_tuning_resumes_alike(tmp_path, base, training, tune):
    """Frozen blocks are computed once; what is kept of them serves the resumed run too."""
    local = {"tune": tune, "learning_rate": 1e-3}
    expected = run(task_of(tmp_path / "whole", training, local=local), base, Recording())
    for step in (2, 4):
        task = task_of(tmp_path / f"stopped-{step}", training, local=local)
        with pytest.raises(KeyboardInterrupt):
            run(task, base, InterruptedRecorder(step))
        assert whole_weights(run(task, base, Recording())) == whole_weights(expected)


def test_preference_training_resumes_alike(tmp_path, base):
    pairs = [
        {
            "input": {"messages": [{"role": "user", "content": f"Say {word}"}]},
            "preferred_output": [{"role": "assistant", "content": word.upper()}],
            "non_preferred_output": [{"role": "assistant", "content": word[::-1]}],
        }
        for word in WORDS
    ]
    training = write_jsonl(tmp_path / "pairs.jsonl", pairs)
    expected = run(task_of(tmp_path / "whole", training, method="dpo"), base, Recording())
    task = task_of(tmp_path / "stopped", training, method="dpo")
    with pytest.raises(KeyboardInterrupt):
        run(task, base, InterruptedRecorder(3))
    assert weights(run(task, base, Recording())) == weights(expected)


def test_a_pause_leaves_a_usable_model_and_goes_on(tmp_path, base, training):
    expected = run(task_of(tmp_path / "whole", training), base, Recording())
    task = task_of(tmp_path / "paused", training)
    paused = run(task, base, Recording({2: Signal.PAUSE}))
    assert paused.kind == "paused"
    assert (paused.model_dir / "adapter_config.json").is_file()
    assert weights(paused) != weights(expected)
    recorder = Recording()
    outcome = run(task, base, recorder)
    assert [report.step for report in recorder.reports] == [3, 4, 5, 6]
    assert weights(outcome) == weights(expected)


def test_a_cancel_ends_it_after_the_step(tmp_path, base, training):
    recorder = Recording({2: Signal.CANCEL})
    outcome = run(task_of(tmp_path / "job", training), base, recorder)
    assert outcome.kind == "cancelled"
    assert len(recorder.reports) == 2


def test_a_resume_point_of_another_format_is_refused_with_words(tmp_path, base, training):
    task = task_of(tmp_path / "job", training)
    run(task, base, Recording({2: Signal.PAUSE}))
    state = next((tmp_path / "job" / "resume").glob("step-*/state.json"))
    state.write_text(state.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(JobError, match="format 99"):
        run(task, base, Recording())


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path, base, training, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_fsync", full)
    with pytest.raises(JobError, match="disk is full") as caught:
        run(task_of(tmp_path / "job", training), base, Recording())
    assert caught.value.code == "disk_full"
    assert not list((tmp_path / "job").rglob("*.safetensors"))


def test_a_resume_on_other_weights_is_refused(tmp_path, base, training):
    task = task_of(tmp_path / "job", training)
    run(task, base, Recording({2: Signal.PAUSE}))
    with pytest.raises(JobError, match="weights have changed since the job began"):
        run(task, replace(base, sha256="f" * 64), Recording())


def test_a_resume_under_another_setting_is_said(tmp_path, base, training):
    task = task_of(tmp_path / "job", training)
    first = Recording({2: Signal.PAUSE})
    run(task, base, first)
    assert "resume_note" not in first.facts
    state = next((tmp_path / "job" / "resume").glob("step-*/state.json"))
    state.write_text(state.read_text().replace(torch.__version__, "1.0.0"))
    second = Recording()
    run(task, base, second)
    assert f"torch was 1.0.0 and is {torch.__version__}" in second.facts["resume_note"]
    assert second.facts["threads"] == 1


def test_all_of_the_optimizer_goes_on_where_the_weights_are(tmp_path):
    """A fused optimizer counts its steps on the weights' device, as torch starts it there. `meta` is a device, too."""
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    named = list(layer.named_parameters())
    checkpoint.save_resume_point(tmp_path, progress=checkpoint.Progress(step=1), parameters=named, optimizer=optimizer)
    elsewhere = torch.nn.Linear(3, 2, device="meta")
    other = torch.optim.AdamW(elsewhere.parameters())
    checkpoint.load_resume_point(tmp_path, parameters=list(elsewhere.named_parameters()), optimizer=other)
    devices = {value.device.type for state in other.state.values() for value in state.values()}
    assert len(other.state) == 2
    assert devices == {"meta"}


def test_kept_states_are_read_again_though_the_disk_has_filled_since(tmp_path, base, training, monkeypatch):
    task = task_of(tmp_path / "job", training, local={"tune": {"type": "last_layers", "n": 1}})
    run(task, base, Recording({2: Signal.PAUSE}))
    monkeypatch.setattr(frozen, "SHARE_OF_FREE_DISK", 0.0)
    again = Recording({3: Signal.PAUSE})
    run(task, base, again)
    assert again.facts["kept_frozen_bytes"] > 0
    assert "resume_note" not in again.facts
    shutil.rmtree(tmp_path / "job" / "frozen")
    last = Recording()
    assert run(task, base, last).kind == "succeeded"
    assert last.facts["kept_frozen_bytes"] == 0
    assert "kept_blocks was 2 and is 0" in last.facts["resume_note"]


def test_a_run_whose_best_epoch_was_deleted_meanwhile_ends_with_its_last_one_and_says_so(
    tmp_path, base, training, validation
):
    """Its user may free room once it has failed, and go on."""
    options = {"n_epochs": 3, "local": {"evaluation": {"keep_best": True}}}
    whole = run(task_of(tmp_path / "whole", training, n_epochs=3), base, Recording())
    task = task_of(tmp_path / "job", training, validation=validation, **options)
    run(task, base, Recording({6: Signal.PAUSE}))
    state = next((tmp_path / "job" / "resume").glob("step-*/state.json"))
    known = json.loads(state.read_text())
    known["progress"] |= {"best_loss": 0.0, "best_step": 3}
    state.write_text(json.dumps(known))
    shutil.rmtree(task.model_dir(3))
    again = Recording()
    outcome = run(task, base, again)
    assert again.best_step == 3
    assert outcome.model_dir == task.model_dir(9)
    assert weights(outcome) == weights(whole)
    assert "The model of the best epoch (step 3) was deleted" in again.facts["final_note"]


def test_a_run_that_is_over_writes_its_last_model_again_where_that_was_deleted(tmp_path, base, training, validation):
    task = task_of(tmp_path / "job", training, validation=validation, local={"evaluation": {"keep_best": True}})
    first = run(task, base, Recording())
    expected = weights(first)
    shutil.rmtree(first.model_dir)
    again = Recording()
    outcome = run(task, base, again)
    assert outcome.model_dir == first.model_dir == task.model_dir(6)
    assert weights(outcome) == expected
    assert not again.reports
    assert "final_note" not in again.facts
