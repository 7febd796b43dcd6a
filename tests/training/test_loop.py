"""The loop: what is reported, kept, refused, and what stops it."""

import json

import pytest
import torch
from safetensors.torch import load_file

from local_backend.engine import adapters, loop, tuning
from local_backend.engine.schedule import rate_factor
from local_backend.engine.training import prepare
from local_backend.task import JobError
from tests.training.tiny import Recording, chat, task_of, tiny_folder, write_jsonl

WORDS = ["red", "green", "blue", "black", "white", "pink", "grey", "gold", "teal", "lime", "plum"]
EXAMPLES = [chat(f"What is {word}?", word.upper()) for word in WORDS]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture
def training(tmp_path):
    return write_jsonl(tmp_path / "train.jsonl", EXAMPLES)


@pytest.fixture
def validation(tmp_path):
    return write_jsonl(tmp_path / "valid.jsonl", EXAMPLES[:5])


def run(task, base, recorder=None):
    return loop.train(prepare(task, base=base), recorder or Recording())


def test_steps_epochs_and_tokens_are_reported(tmp_path, base, training, validation):
    recorder = Recording()
    outcome = run(task_of(tmp_path / "job", training, validation=validation, n_epochs=5), base, recorder)
    assert [report.step for report in recorder.reports] == list(range(1, 16))
    assert {report.total_steps for report in recorder.reports} == {15}
    assert [report.step for report in recorder.reports if report.full_valid_loss is not None] == [3, 6, 9, 12, 15]
    assert outcome.trained_tokens == 5 * recorder.facts["trained_tokens_per_epoch"]
    assert [step for step, _, _ in recorder.checkpoints] == [3, 6, 9, 12, 15]
    assert outcome.model_dir.name == "step-15"
    full = {report.step: report.full_valid_loss for report in recorder.reports if report.full_valid_loss is not None}
    assert recorder.best_step == min(full, key=full.get)
    assert recorder.reports[-1].train_loss < 0.7 * recorder.reports[0].train_loss


def test_the_best_epoch_is_kept_and_training_stops_when_nothing_gets_better(tmp_path, base, training):
    others = [chat(f"What is {word}?", word[::-1] + "!") for word in WORDS[:5]]
    validation = write_jsonl(tmp_path / "valid.jsonl", others)
    options = {"learning_rate": 0.03, "evaluation": {"keep_best": True, "early_stopping_patience": 2}}
    recorder = Recording()
    task = task_of(tmp_path / "job", training, validation=validation, n_epochs=12, local=options)
    outcome = run(task, base, recorder)
    losses = {r.step: r.full_valid_loss for r in recorder.reports if r.full_valid_loss is not None}
    best = min(losses, key=losses.get)
    assert outcome.model_dir.name == f"step-{best}"
    assert max(losses) == best + 6
    assert max(losses) < 36


@pytest.mark.parametrize("option", [{"keep_best": True}, {"early_stopping_patience": 2}])
def test_choosing_by_validation_needs_a_validation_file(tmp_path, base, training, option):
    with pytest.raises(JobError, match="needs a validation file"):
        run(task_of(tmp_path / "job", training, local={"evaluation": option}), base)


def test_a_run_that_diverges_fails_with_the_step_and_the_remedy(tmp_path, base, training):
    with pytest.raises(JobError, match=r"diverged at step \d+.*Lower the learning rate") as caught:
        run(task_of(tmp_path / "job", training, n_epochs=30, local={"learning_rate": 1e25}), base)
    assert caught.value.code == "training_diverged"


def test_an_example_that_trains_nothing_is_named_by_its_line(tmp_path, base):
    examples = [*EXAMPLES[:3], chat("a", "b", weight=0), *EXAMPLES[3:]]
    with pytest.raises(JobError, match=r"Line 4: No token of this example is trained"):
        run(task_of(tmp_path / "job", write_jsonl(tmp_path / "t.jsonl", examples)), base)


def test_an_example_beyond_the_context_is_named_by_its_line(tmp_path, base):
    examples = [*EXAMPLES[:2], chat("long " * 200, "b")]
    with pytest.raises(JobError, match=r"Line 3: It has 1,\d+ tokens, and the model's context holds 512"):
        run(task_of(tmp_path / "job", write_jsonl(tmp_path / "t.jsonl", examples)), base)


def test_blank_lines_count_as_lines(tmp_path, base):
    path = tmp_path / "t.jsonl"
    path.write_text("\n" + json.dumps(EXAMPLES[0]) + "\n\nnot json\n", encoding="utf-8")
    with pytest.raises(JobError, match="Line 4: It is not a JSON object"):
        run(task_of(tmp_path / "job", path), base)


def test_out_of_memory_halves_the_micro_batch_and_gives_the_same_gradients(tmp_path, base, training):
    tight = prepare(task_of(tmp_path / "tight", training, n_epochs=1), base=base)
    compute = tight.objective.train
    limits = []

    def short_of_memory(rows, *, max_tokens, between):
        """Fails after a part of the work, as a real allocation does."""
        limits.append(max_tokens)
        if max_tokens > 100:
            compute(rows[:1], max_tokens=max_tokens, between=between)
            raise torch.OutOfMemoryError("DefaultCPUAllocator: can't allocate memory")
        return compute(rows, max_tokens=max_tokens, between=between)

    tight.objective.train = short_of_memory
    recorder, expected = Recording(), Recording()
    loop.train(tight, recorder)
    run(task_of(tmp_path / "whole", training, n_epochs=1), base, expected)
    assert min(limits) <= 100 < max(limits)
    for found, wanted in zip(recorder.reports, expected.reports, strict=True):
        assert found.train_loss == pytest.approx(wanted.train_loss, rel=1e-4)
        assert found.extra["grad_norm"] == pytest.approx(wanted.extra["grad_norm"], rel=1e-3)


def pair(question, preferred, other):
    """A preference example."""
    answers = ([{"role": "assistant", "content": one}] for one in (preferred, other))
    said = {"input": {"messages": [{"role": "user", "content": question}]}}
    return {**said, **dict(zip(("preferred_output", "non_preferred_output"), answers, strict=True))}


def short_of_memory(network, *, most_tokens):
    """Memory runs out in the second pack of more than so many tokens."""
    packs, limits = network.packs, []

    def fewer(groups, *, max_tokens):
        limits.append(max_tokens)
        found = list(packs(groups, max_tokens=max_tokens))
        yield from found[:1]
        if max_tokens > most_tokens:
            raise torch.OutOfMemoryError("DefaultCPUAllocator: can't allocate memory")
        yield from found[1:]

    network.packs = fewer
    return limits


@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_memory_that_runs_out_outside_of_gradients_halves_too(tmp_path, base, method):
    """Kept states and the reference come before the first step; the validation file is scored after the last."""
    rows = EXAMPLES if method == "supervised" else [pair(f"What is {word}?", word.upper(), word) for word in WORDS]
    files = [write_jsonl(tmp_path / name, some) for name, some in (("train.jsonl", rows), ("valid.jsonl", rows[:7]))]
    recorded = []
    for name, most_tokens in ("whole", 10_000), ("tight", 200):
        local = {"tune": {"type": "last_layers", "n": 1}, "runtime": {"micro_batch_tokens": 1000}}
        task = task_of(
            tmp_path / name, files[0], validation=files[1], method=method, local=local, n_epochs=1, batch_size=3
        )
        tight = prepare(task, base=base)
        limits = short_of_memory(tight.network, most_tokens=most_tokens)
        recorded.append(Recording())
        assert loop.train(tight, recorded[-1]).kind == "succeeded"
        assert recorded[-1].facts["kept_frozen_bytes"] > 0
    assert limits[:3] == [1000, 500, 250]
    assert recorded[-1].facts["micro_batch_tokens"] == 125
    for found, wanted in zip(*(one.reports for one in recorded), strict=True):
        assert found.train_loss == pytest.approx(wanted.train_loss, rel=1e-4)
    assert found.full_valid_loss == pytest.approx(wanted.full_valid_loss, rel=1e-4)


def test_memory_that_runs_out_while_validating_halves_too(tmp_path, base, training, validation):
    tight = prepare(task_of(tmp_path / "job", training, validation=validation, n_epochs=1), base=base)
    compute, limits = tight.objective.score, []

    def score(rows, *, max_tokens, between):
        limits.append(max_tokens)
        if max_tokens > 100:
            raise MemoryError
        return compute(rows, max_tokens=max_tokens, between=between)

    tight.objective.score = score
    recorder = Recording()
    assert loop.train(tight, recorder).kind == "succeeded"
    assert recorder.reports[-1].full_valid_loss > 0
    assert max(limits) > 100 >= limits[-1]


def test_samples_are_left_out_where_memory_runs_out_and_adapters_are_back_in_place(
    tmp_path, base, training, validation, monkeypatch
):
    merged, calls = tuning._merged_linear, []

    def some(layer):
        calls.append(layer)
        if len(calls) > 2:
            raise torch.OutOfMemoryError("DefaultCPUAllocator: can't allocate memory")
        return merged(layer)

    monkeypatch.setattr(tuning, "_merged_linear", some)
    options = {"evaluation": {"samples": 2}}
    run_ = prepare(task_of(tmp_path / "job", training, validation=validation, local=options, n_epochs=2), base=base)
    recorder = Recording()
    n_layers = len(list(adapters.adapted_layers(run_.network.model)))
    assert loop.train(run_, recorder).kind == "succeeded"
    assert "memory ran out" in recorder.facts["samples_note"]
    assert "samples" not in recorder.facts
    assert len(list(adapters.adapted_layers(run_.network.model))) == n_layers > 2
    assert all(module.training for module in run_.network.model.modules())


def test_a_frozen_model_fails_at_the_first_step(tmp_path, base, training):
    ready = prepare(task_of(tmp_path / "job", training), base=base)
    compute = ready.objective.train

    def forgetful(rows, **options):
        sums = compute(rows, **options)
        for _, parameter in ready.network.parameters():
            parameter.grad.zero_()
        return sums

    ready.objective.train = forgetful
    with pytest.raises(JobError, match="nothing of the model would be trained"):
        loop.train(ready, Recording())


def test_a_tuned_adapter_is_trained_on(tmp_path, base, training):
    first = run(task_of(tmp_path / "first", training, n_epochs=6), base)
    recorder, fresh = Recording(), Recording()
    run(task_of(tmp_path / "second", training, tuned_dir=first.model_dir), base, recorder)
    run(task_of(tmp_path / "fresh", training), base, fresh)
    assert recorder.reports[0].train_loss < 0.7 * fresh.reports[0].train_loss


SMALL = {"type": "lora", "rank": 4, "alpha": 8, "dropout": 0.1, "targets": ["v_proj", "q_proj"]}


@pytest.fixture(scope="module")
def small_adapter(tmp_path_factory, base):
    folder = tmp_path_factory.mktemp("small")
    training = write_jsonl(folder / "train.jsonl", EXAMPLES)
    return run(task_of(folder / "job", training, local={"tune": SMALL}, n_epochs=1), base).model_dir


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"rank": 64}, "whose rank is 4;"),
        ({"alpha": 9}, "whose alpha is 8;"),
        ({"dropout": 0.2}, "whose dropout is 0.1;"),
        ({"targets": ["q_proj", "down_proj"]}, "whose targets is q_proj, v_proj;"),
        ({"variant": "dora"}, "whose variant is lora;"),
    ],
)
def test_an_adapter_that_is_trained_on_can_not_be_asked_to_be_another(
    tmp_path, base, training, small_adapter, option, words
):
    task = task_of(tmp_path / "job", training, tuned_dir=small_adapter, local={"tune": {"type": "lora", **option}})
    with pytest.raises(JobError, match=f"{words}.*leave the option out, or start from the base model") as caught:
        prepare(task, base=base)
    assert (caught.value.code, caught.value.param) == ("invalid_value", f"local.tune.{next(iter(option))}")


@pytest.mark.parametrize("tune", [None, SMALL, {"type": "lora"}, {**SMALL, "alpha": 8.0, "dropout": 0.0}])
def test_an_adapter_that_is_trained_on_may_be_asked_for_as_it_is_or_not_at_all(
    tmp_path, base, training, small_adapter, tune
):
    local = {} if tune is None else {"tune": tune}
    found = prepare(task_of(tmp_path / "job", training, tuned_dir=small_adapter, local=local), base=base)
    assert (found.options["rank"], found.options["dropout"]) == (4, 0.1)
    assert found.saves_adapter


@pytest.mark.parametrize("kind", ["full", "last_layers", "head"])
def test_whole_models_are_saved_where_weights_themselves_train(tmp_path, base, training, kind):
    outcome = run(task_of(tmp_path / "job", training, local={"tune": {"type": kind}}), base)
    assert (outcome.model_dir / "tokenizer.json").is_file()
    trained = {}
    for part in outcome.model_dir.glob("model*.safetensors"):
        trained |= load_file(part)
    started = load_file(base.path / "model.safetensors")
    assert trained.keys() >= started.keys()
    changed = {name for name in trained if name not in started or not torch.equal(trained[name], started[name])}
    assert ("lm_head.weight" in changed) == (kind == "head")
    assert ("model.layers.0.mlp.up_proj.weight" in changed) == (kind == "full")
    assert ("model.layers.2.mlp.up_proj.weight" in changed) == (kind != "head")


def test_the_rate_rises_and_falls_as_the_schedule_says():
    linear = [rate_factor(step, total_steps=100, warmup_share=0.1) for step in range(100)]
    assert linear[:10] == sorted(linear[:10])
    assert max(linear) == linear[10] == 1.0
    assert linear[-1] == pytest.approx(1 / 90)
    cosine = [rate_factor(step, total_steps=100, kind="cosine", warmup_share=0.0) for step in range(100)]
    assert cosine[50] == pytest.approx(0.5)
    assert rate_factor(99, total_steps=100, kind="constant") == 1.0


def test_samples_of_the_validation_file_are_shown_and_change_nothing(tmp_path, base, training, validation):
    plain, sampled = Recording(), Recording()
    run(task_of(tmp_path / "plain", training, validation=validation), base, plain)
    options = {"evaluation": {"samples": 2}}
    run(task_of(tmp_path / "sampled", training, validation=validation, local=options), base, sampled)
    shown = sampled.facts["samples"]
    assert shown["step"] == 6
    assert [(one["line"], one["expected"]) for one in shown["answers"]] == [(1, "RED"), (2, "GREEN")]
    assert all(isinstance(one["answer"], str) for one in shown["answers"])
    assert [r.train_loss for r in sampled.reports] == [r.train_loss for r in plain.reports]


@pytest.mark.parametrize("tune", [{"type": "lora", "rank": 4}, {"type": "lora", "rank": 4, "variant": "dora"}])
def test_bf16_with_fp32_adapters_follows_fp32(tmp_path, base, training, tune):
    exact, rounded = Recording(), Recording()
    calm = {"tune": tune, "learning_rate": 1e-3}
    run(task_of(tmp_path / "fp32", training, local=calm), base, exact)
    low = {**calm, "runtime": {"precision": "bf16"}}
    outcome = run(task_of(tmp_path / "bf16", training, local=low), base, rounded)
    assert rounded.facts["precision"] == "bf16"
    assert load_file(outcome.model_dir / "adapter_model.safetensors").popitem()[1].dtype is torch.float32
    for low_report, report in zip(rounded.reports, exact.reports, strict=True):
        assert low_report.train_loss == pytest.approx(report.train_loss, rel=0.03)


def test_weights_that_train_are_fp32_whatever_was_asked(tmp_path, base, training):
    recorder = Recording()
    options = {"tune": {"type": "full"}, "runtime": {"precision": "bf16"}}
    run(task_of(tmp_path / "job", training, local=options), base, recorder)
    assert recorder.facts["precision"] == "fp32"
    assert "bf16 loses small steps" in recorder.facts["precision_reason"]
