"""What a plan says of a run, against the run."""

import copy
from functools import partial

import pytest
import torch

from local_backend.engine import loop
from local_backend.engine.attention import CAPPED_BYTES
from local_backend.engine.device import choose_machine
from local_backend.engine.forecast import calibration, load
from local_backend.engine.forecast.choice import budget_bytes, choose, demand_of, first_step
from local_backend.engine.forecast.costs import Rate, Work, fit
from local_backend.engine.forecast.estimate import forecast
from local_backend.engine.forecast.memory import GRADIENT_BYTES, MOMENTS_BYTES, memory_of
from local_backend.engine.forecast.size import Shape, empty_model, size_of
from local_backend.engine.network import load_network
from local_backend.engine.packing import pack
from local_backend.engine.rows import Row
from local_backend.engine.training import prepare
from local_backend.engine.tuning import choose_weights
from local_backend.task import UserError
from tests.training.tiny import (
    NO_TIME,
    Recording,
    chat,
    network_of,
    sequence,
    task_of,
    tiny_folder,
    tiny_model,
    write_jsonl,
)

EXAMPLES = [chat(f"A long question that all share, up to its number, {n}?", f"Answer {n}") for n in range(12)]
TUNES = [{"type": "lora"}, {"type": "full"}, {"type": "last_layers", "n": 2}, {"type": "head"}]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder of measurements that the tests share: the first of each kind is made for real."""
    return tmp_path_factory.mktemp("calibration")


@pytest.fixture
def plan(base, measured):
    return partial(forecast, base=base, folder=measured)


def test_tokens_are_those_of_the_run(base, plan, tmp_path):
    task = task_of(tmp_path / "job", write_jsonl(tmp_path / "t.jsonl", EXAMPLES))
    task.work_dir.mkdir()
    found = plan(task)
    recorder = Recording()
    outcome = loop.train(prepare(task, base=base), recorder)
    assert found.n_examples == 12
    assert found.tokens_per_epoch == recorder.facts["trained_tokens_per_epoch"]
    assert outcome.trained_tokens == 2 * found.tokens_per_epoch
    assert found.loss_tokens_per_epoch == recorder.facts["loss_tokens_per_epoch"]
    assert found.context_tokens == 512
    assert found.longest_example_tokens < 100
    assert any("share" in note for note in found.notes)


def test_a_machine_is_measured_once_with_progress(base, measured, tmp_path):
    task = task_of(tmp_path, write_jsonl(tmp_path / "t.jsonl", EXAMPLES), local={"tune": {"type": "head"}})
    told = []
    first = forecast(task, base=base, folder=measured, progress=lambda *part: told.append(part))
    assert [done for done, _, _ in told] == [1, 2, 3, 4]
    assert calibration.NOT_MEASURED not in first.notes
    told.clear()
    again = forecast(task, base=base, folder=measured, progress=lambda *part: told.append(part))
    assert told == []
    assert again.time.keys() == first.time.keys()
    assert again.time_s == pytest.approx(sum(again.time.values()))
    assert again.memory_bytes == sum(again.memory.values())


def test_a_measurement_of_another_setting_or_age_is_not_taken(base, measured, tmp_path):
    machine = choose_machine({"threads": 1})
    key = calibration.key_of(base, machine, {"type": "lora"})
    assert key != calibration.key_of(base, choose_machine({"threads": 2}), {"type": "lora"})
    assert key != calibration.key_of(base, machine, {"type": "lora", "variant": "dora"})
    assert key == calibration.key_of(base, machine, {"type": "lora", "alpha": 7})
    file = next(measured.glob("*.json"))
    assert calibration.read(file) is not None
    old = tmp_path / "old.json"
    old.write_text(file.read_text().replace('"made_at": ', '"made_at": -'))
    assert calibration.read(old) is None
    old.write_text(file.read_text()[:100])
    assert calibration.read(old) is None


def test_a_machine_that_can_not_be_measured_is_guessed_and_told(base, tmp_path):
    broken = copy.copy(base)
    object.__setattr__(broken, "sha256", "f" * 64)
    task = task_of(tmp_path, write_jsonl(tmp_path / "t.jsonl", EXAMPLES))
    (tmp_path / "file").write_text("in the way")
    found = forecast(task, base=broken, folder=tmp_path / "file")
    assert calibration.NOT_MEASURED in found.notes
    assert found.time_s > 0


def test_more_epochs_take_longer_and_the_head_alone_less(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(load, "time", NO_TIME)
    training = write_jsonl(tmp_path / "t.jsonl", EXAMPLES * 20)
    few, many = (plan(task_of(tmp_path, training, n_epochs=n)) for n in (1, 30))
    assert many.time["steps"] == pytest.approx(30 * few.time["steps"])
    assert many.time["start"] == few.time["start"]
    head = plan(task_of(tmp_path, training, local={"tune": {"type": "head"}}))
    assert head.time["frozen"] > 0
    assert few.time["frozen"] == 0
    assert (
        head.memory["gradients"]
        < plan(task_of(tmp_path, training, local={"tune": {"type": "full"}})).memory["gradients"]
    )
    assert any("computed once for all epochs" in note for note in head.notes)


@pytest.mark.parametrize("runtime", [{}, {"micro_batch_tokens": 100, "checkpointing": True}])
@pytest.mark.parametrize("tune", [TUNES[0], TUNES[3]], ids=lambda tune: tune["type"])
def test_a_job_computes_as_its_plan_said(base, plan, tmp_path, tune, runtime):
    task = task_of(tmp_path, write_jsonl(tmp_path / "t.jsonl", EXAMPLES), local={"tune": tune, "runtime": runtime})
    planned, recorder = plan(task).choices, Recording()
    loop.train(prepare(task, base=base), recorder)
    for name in ("device", "precision", "precision_reason", "threads", "checkpointing", "micro_batch_tokens"):
        assert recorder.facts[name] == planned[name], name
    assert recorder.facts["tune"] == tune
    assert planned["tune"] == tune


@pytest.mark.parametrize("tune", TUNES, ids=lambda tune: tune["type"])
def test_sizes_are_those_of_the_real_tensors(base, tune):
    """Parameters, gradients and the optimizer's state, counted without loading anything."""
    network = load_network(base.path, choose_machine({"threads": 1}))
    choose_weights(network.model, tune, seed=0)
    parameters = [parameter for _, parameter in network.parameters()]
    optimizer = torch.optim.AdamW(parameters, fused=True)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state = [v for one in optimizer.state.values() for name, v in one.items() if name != "step"]
    size = size_of(empty_model(base.path, tune), saves_whole=False, is_packed=True)
    assert 4 * (size.frozen_weights + size.trained_weights) == sum(p.nbytes for p in network.model.parameters())
    assert GRADIENT_BYTES * size.trained_weights == sum(p.grad.nbytes for p in parameters)
    assert MOMENTS_BYTES * size.trained_weights == sum(v.nbytes for v in state)


def saved_bytes(network, part):
    """What autograd keeps of a forward pass beside the weights: each storage once."""
    own = {p.untyped_storage().data_ptr() for p in network.model.parameters()}
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network.hidden(part)
    return sum(one.untyped_storage().nbytes() for pointer, one in kept.items() if pointer not in own)


@pytest.mark.parametrize("shape", ["llama", "llama-biased", "qwen2", "qwen3", "gemma"])
def test_activations_are_those_that_autograd_keeps(shape):
    """In a pack with a shared prefix and rows at its end; all weights train, so that even the first block keeps all."""
    network = network_of(tiny_model(shape, dtype=torch.float32))
    choose_weights(network.model, {"type": "full"}, seed=0)
    ids = [[*range(40), *range(50 + k, 70 + k)] for k in range(3)]
    part = pack([sequence(one, [0.0] * 50 + [1.0] * 10) for one in ids])
    size, n_rows = Shape.of(network.model.config), len(part.row_targets_R)
    expected = 4 * size.kept_with_ends(part.n_tokens, n_blocks=3, n_rows=n_rows)
    assert saved_bytes(network, part) == pytest.approx(expected, rel=0.02)
    network.recompute_blocks()
    expected = 4 * size.kept_with_ends(part.n_tokens, n_blocks=3, n_rows=n_rows, is_recomputed=True)
    made_again = 4 * part.n_tokens * (size.kept_by_block + size.K)
    assert saved_bytes(network, part) == pytest.approx(expected - made_again, rel=0.02)


def test_capped_and_windowed_attention_keep_masks_and_no_scores():
    """One mask for each way of seeing, whatever the number of blocks; scores would be 6 heads * 4 bytes each."""
    ids = [[*range(40), *range(50 + k, 90 + k)] for k in range(3)]
    part = pack([sequence(one, [0.0] * 50 + [1.0] * 30) for one in ids])
    n_rows, square = len(part.row_targets_R), part.n_tokens**2
    for shape, masks in ("gemma2", 2 * square), ("mistral", 4 * square):
        network = network_of(tiny_model(shape, dtype=torch.float32))
        choose_weights(network.model, {"type": "full"}, seed=0)
        size = Shape.of(network.model.config)
        kept = 4 * size.kept_with_ends(part.n_tokens, n_blocks=3, n_rows=n_rows)
        slices = 4 * min(CAPPED_BYTES, 4 * 6 * square) if shape == "gemma2" else 0
        assert size.masks(part.n_tokens, item_bytes=4) == masks + slices
        # The kernel for windows wants a key and a value for each query head; the plain keys lie in one piece with it.
        repeated = 3 * 4 * part.n_tokens * (2 * (6 - 2) + 2) * 8 if shape == "mistral" else 0
        assert saved_bytes(network, part) == pytest.approx(kept + masks + repeated, rel=0.02)


def test_what_does_not_fit_is_computed_in_smaller_parts_then_again_and_is_told(base):
    rows = [Row(n, (sequence([n, *range(1, 200)]),)) for n in range(20)]
    size = size_of(empty_model(base.path, {"type": "lora"}), saves_whole=False, is_packed=True)
    first = [rows[i] for i in first_step(20, batch_size=4)]
    machine = choose_machine({"threads": 1})
    demand = demand_of(first, longest_tokens=200, rendered_tokens=4_000, size=size, machine=machine)
    plenty = choose(demand, {}, budget_bytes=64 << 30)
    assert (plenty.micro_batch_tokens, plenty.checkpointing, plenty.fits) == (demand.fitting_tokens, False, True)
    tight = choose(demand, {}, budget_bytes=int(demand.bytes_at(300, is_recomputed=False) / 0.9))
    assert 200 <= tight.micro_batch_tokens <= 300
    assert not tight.checkpointing
    assert "fit into memory" in tight.reason
    tighter = choose(demand, {}, budget_bytes=int(demand.bytes_at(200, is_recomputed=True) / 0.9) + 1)
    assert (tighter.checkpointing, tighter.fits) == (True, True)
    hopeless = choose(demand, {}, budget_bytes=1 << 20)
    assert not hopeless.fits
    assert choose(demand, {"micro_batch_tokens": 77}, budget_bytes=1 << 20).micro_batch_tokens == 77
    assert budget_bytes(torch.device("cpu"), is_job=True) > budget_bytes(torch.device("cpu"), is_job=False) > 0


def test_a_preference_job_has_its_reference_in_the_plan(plan, tmp_path):
    pairs = [
        {
            "input": {"messages": [{"role": "user", "content": f"Question {n}?"}]},
            "preferred_output": [{"role": "assistant", "content": "Yes."}],
            "non_preferred_output": [{"role": "assistant", "content": "No way, never."}],
        }
        for n in range(12)
    ]
    training = write_jsonl(tmp_path / "t.jsonl", pairs)
    validation = write_jsonl(tmp_path / "v.jsonl", pairs[:4])
    found = plan(task_of(tmp_path, training, validation=validation, method="dpo"))
    assert found.time["frozen"] > 0
    assert found.time["evaluation"] > 0


def test_a_line_that_can_not_be_trained_is_named(plan, tmp_path):
    training = write_jsonl(tmp_path / "t.jsonl", [*EXAMPLES, chat("x " * 600, "y")])
    with pytest.raises(UserError, match="Line 13: It has"):
        plan(task_of(tmp_path, training))


def test_rates_are_found_again_though_one_measurement_was_disturbed():
    rate = Rate(0.01, 0.002, 1e-5, 1e-8)
    sizes = [(4, 800, 1e4), (4, 240, 5e3), (1, 800, 1e4), (1, 240, 5e3), (4, 700, 245e3), (4, 768, 3e5), (4, 800, 8e4)]
    works = [Work(1, n, n * tokens, n * pairs) for n, tokens, pairs in sizes]
    seconds = [rate.seconds(work) for work in works]
    seconds[2] *= 3
    found = fit(works, seconds)
    for work in works:
        assert found.seconds(work) == pytest.approx(rate.seconds(work), rel=0.02)
    assert min(found.per_pack_s, found.per_block_s, found.per_block_token_s, found.per_block_pair_s) >= 0
    assert found.seconds(works[0] + works[1] * 3) == pytest.approx(seconds[0] + 3 * seconds[1], rel=0.02)


def test_terms_grow_with_what_they_stand_for(base):
    size = size_of(empty_model(base.path, {"type": "full"}), saves_whole=True, is_packed=True)
    numbers = {"n_rows": 10, "rendered_tokens": 1000, "item_bytes": 4, "is_recomputed": False, "process_bytes": None}
    small, large = (memory_of(size, n_tokens=n, **numbers) for n in (100, 200))
    assert large.activations > 1.8 * small.activations
    assert (large.weights, large.moments) == (small.weights, small.moments)
    on_gpu = memory_of(size, n_tokens=100, **{**numbers, "process_bytes": 0})
    assert (on_gpu.process, on_gpu.rows) == (0, 0)
