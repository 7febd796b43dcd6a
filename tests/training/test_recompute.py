"""Blocks that are computed again in the backward pass give the same gradients and take less memory."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from local_backend.engine import loop
from local_backend.engine.forecast import choice
from local_backend.engine.recompute import recomputes
from local_backend.engine.training import prepare
from local_backend.engine.tuning import choose_weights
from tests.training.tiny import (
    Recording,
    chat,
    gradients,
    network_of,
    reference_loss,
    sequence,
    task_of,
    tiny_folder,
    tiny_model,
    write_jsonl,
)

SEQUENCES = [sequence([(i * j + 3) % 97 for j in range(60)]) for i in range(1, 6)]
LORA = {"type": "lora", "rank": 4, "alpha": 8}


def step(network, *, seed=1):
    """Loss and gradients of one step, with the same dropout each time."""
    network.clear_gradients()
    torch.manual_seed(seed)
    return network.train_step(SEQUENCES, max_tokens=10_000), gradients(network)


@pytest.mark.parametrize("shape", ["llama", "llama-biased", "gemma2"])
@pytest.mark.parametrize(
    "options", [{**LORA, "dropout": 0.2}, {"type": "full"}, {"type": "last_layers", "n": 2}], ids=lambda o: o["type"]
)
def test_every_bit_is_the_same(shape, options):
    network = network_of(tiny_model(shape))
    choose_weights(network.model, options, seed=0)
    kept, expected = step(network)
    network.recompute_blocks()
    again, found = step(network)
    assert again == kept
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_models_on_the_plain_path_recompute_too():
    network = network_of(tiny_model("gpt-neox"))
    choose_weights(network.model, {"type": "full"}, seed=0)
    network.recompute_blocks()
    _, found = step(network)
    network.clear_gradients()
    reference_loss(network.model, SEQUENCES).backward()
    for name, gradient in gradients(network).items():
        assert torch.allclose(found[name], gradient, rtol=1e-6, atol=1e-9), name


def most_bytes(network):
    """The most memory that a step holds at one time, measured."""
    network.clear_gradients()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        network.train_step(SEQUENCES, max_tokens=10_000)
    held = most = 0
    for event in seen.profiler.kineto_results.events():
        held += event.nbytes() if event.name() == "[memory]" else 0
        most = max(most, held)
    return most


def test_memory_falls_by_what_blocks_no_longer_keep():
    network = network_of(tiny_model("llama", dtype=torch.float32))
    choose_weights(network.model, LORA, seed=0)
    kept = most_bytes(network)
    network.recompute_blocks()
    n_tokens, width, heads, groups, head_size, inner = sum(len(one.ids) for one in SEQUENCES), 48, 6, 2, 8, 80
    block = 2 * width + 2 * head_size * (heads + groups) + 2 * inner
    spared = 4 * n_tokens * (3 * block - (3 * width + block))  # of three blocks, their inputs and one whole one stay
    assert kept - most_bytes(network) > 0.7 * spared


def test_it_is_done_as_asked_or_where_the_longest_example_would_not_fit():
    needed = 1000
    assert not recomputes({}, needed_bytes=needed, available_bytes=needed)
    assert recomputes({"checkpointing": "auto"}, needed_bytes=needed, available_bytes=needed - 1)
    assert recomputes({"checkpointing": True}, needed_bytes=needed, available_bytes=2 * needed)
    assert not recomputes({"checkpointing": False}, needed_bytes=needed, available_bytes=1)


def test_a_job_says_that_it_recomputes_and_ends_with_the_same_weights(tmp_path, monkeypatch):
    base = tiny_folder(tmp_path / "base")
    file = write_jsonl(tmp_path / "train.jsonl", [chat(f"What is {word}?", word.upper()) for word in ("one", "two")])

    def run(name, **runtime):
        recorder = Recording()
        task = task_of(tmp_path / name, file, batch_size=2, local={"runtime": runtime})
        outcome = loop.train(prepare(task, base=base), recorder)
        return recorder.facts["checkpointing"], (outcome.model_dir / "adapter_model.safetensors").read_bytes()

    kept = run("kept")
    assert not kept[0]
    assert run("asked", checkpointing=True) == (True, kept[1])
    monkeypatch.setattr(choice, "available_bytes", lambda _: 1000)
    monkeypatch.setattr(choice, "_own_bytes", lambda _: 0)  # of a process that has run other tests
    assert run("short") == (True, kept[1])
    assert run("refused", checkpointing=False) == kept
