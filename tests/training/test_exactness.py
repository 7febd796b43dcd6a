"""Packed, prefix-shared and micro-batched training equals one sequence at a time, in loss and in every gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from local_backend.engine import adapters
from local_backend.engine.network import verify
from local_backend.task import JobError
from tests.training.tiny import PACKED_SHAPES, gradients, network_of, reference_loss, sequence, tiny_model

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5}


@st.composite
def trees(draw):
    """Sequences that branch off each other at random places, with random weights, some of them zero."""
    token = st.integers(3, 96)
    found = [draw(st.lists(token, min_size=2, max_size=24))]
    for _ in range(draw(st.integers(1, 5))):
        parent = draw(st.sampled_from(found))
        kept = draw(st.integers(0, len(parent)))
        rest = draw(st.lists(token, min_size=2 if kept == 0 else 1, max_size=16))
        found.append(parent[:kept] + rest)
    weight = st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.25])
    sequences = [
        sequence(ids, [0.0, *draw(st.lists(weight, min_size=len(ids) - 1, max_size=len(ids) - 1))]) for ids in found
    ]
    if all(sum(s.weights) == 0 for s in sequences):
        sequences[0].weights[1] = 1.0
    return sequences


def assert_close(found, expected, *, tolerance):
    """Relative to each gradient's own norm, or to a thousandth of all of them where its own is nothing."""
    floor = 1e-3 * torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    for name, gradient in expected.items():
        error = float((found[name] - gradient).norm() / torch.maximum(gradient.norm(), floor))
        assert error < tolerance, f"{name}: {error:.2e}"


def adapted(shape, dtype, **options):
    """A network whose adapters are away from their start, where B is zero and A has no gradient."""
    network = network_of(tiny_model(shape, dtype=dtype))
    adapters.add_adapters(network.model, {"type": "lora", "rank": 4, "alpha": 8, **options}, seed=3)
    generator = torch.Generator().manual_seed(5)
    for _, layer in adapters.adapted_layers(network.model):
        noise = torch.randn(layer.lora_B.shape, generator=generator, dtype=torch.float64) * 0.1
        layer.lora_B.data.copy_(noise)
    return network


def assert_equals_reference(network, sequences, *, max_tokens, tolerance):
    expected_loss = reference_loss(network.model, sequences)
    expected_loss.backward()
    expected = gradients(network)
    network.model.zero_grad()
    sums = network.train_step(sequences, max_tokens=max_tokens)
    assert sums.loss == pytest.approx(float(expected_loss.detach()), rel=tolerance)
    assert_close(gradients(network), expected, tolerance=tolerance)
    network.model.zero_grad()


@pytest.mark.parametrize("shape", PACKED_SHAPES)
@given(sequences=trees(), max_tokens=st.sampled_from([1, 30, 10_000]))
@settings(max_examples=8)
def test_a_packed_tree_equals_one_sequence_at_a_time(shape, sequences, max_tokens):
    network = adapted(shape, torch.float64)
    assert network.is_packed
    # The reference attention that knows Gemma 2's capped scores rounds its softmax to fp32.
    tolerance = TOLERANCE[torch.float32 if shape == "gemma2" else torch.float64]
    assert_equals_reference(network, sequences, max_tokens=max_tokens, tolerance=tolerance)


@pytest.mark.parametrize("shape", ["llama", "qwen3", "mistral", "gemma3"])
def test_in_single_precision_too(shape):
    torch.manual_seed(1)
    stem = torch.randint(3, 97, (40,)).tolist()
    sequences = [sequence(stem + torch.randint(3, 97, (n,)).tolist()) for n in (5, 9, 150, 30)]
    assert_equals_reference(
        adapted(shape, torch.float32), sequences, max_tokens=10_000, tolerance=TOLERANCE[torch.float32]
    )


@pytest.mark.parametrize("variant", ["lora", "rslora", "dora"])
def test_variants_of_low_rank_updates(variant):
    torch.manual_seed(2)
    stem = torch.randint(3, 97, (12,)).tolist()
    sequences = [sequence(stem + torch.randint(3, 97, (n,)).tolist()) for n in (5, 9, 3)]
    network = adapted("llama-biased", torch.float64, variant=variant)
    assert_equals_reference(network, sequences, max_tokens=10_000, tolerance=TOLERANCE[torch.float64])


def test_an_unknown_architecture_takes_the_plain_path_and_says_so():
    network = adapted("gpt-neox", torch.float64)
    assert not network.is_packed
    assert "gpt_neox" in network.packing
    sequences = [sequence([5, 6, 7, 8, 9, 10]), sequence([5, 6, 7, 11])]
    assert_equals_reference(network, sequences, max_tokens=10_000, tolerance=TOLERANCE[torch.float64])


@pytest.mark.parametrize(("shape", "is_packed"), [("llama-longrope", False), ("llama-dynamic", True)])
def test_tables_of_positions_do_not_depend_on_what_is_packed_beside(shape, is_packed):
    """Longrope takes its table by the longest text of a call; dynamic tables change beyond a model's context only."""
    torch.manual_seed(3)
    sequences = [sequence(torch.randint(3, 97, (n,)).tolist()) for n in (100, 12, 20)]
    network = adapted(shape, torch.float64)
    assert network.is_packed == is_packed
    assert ("longrope" in network.packing) != is_packed
    assert_equals_reference(network, sequences, max_tokens=10_000, tolerance=TOLERANCE[torch.float64])


@pytest.mark.parametrize("shape", [*PACKED_SHAPES, "gpt-neox"])
def test_a_model_is_compared_with_transformers_when_it_is_loaded(shape):
    network = network_of(tiny_model(shape, dtype=torch.float32))
    was_packed = network.is_packed
    verify(network)
    assert network.is_packed == was_packed


def test_a_packed_way_that_turns_out_wrong_is_not_taken():
    changed = tiny_model("llama", dtype=torch.float32)
    for layer in changed.model.layers:
        layer.mlp.forward = lambda x, mlp=layer.mlp: mlp.down_proj(torch.tanh(mlp.gate_proj(x)) + mlp.up_proj(x))
    network = network_of(changed)
    verify(network)
    assert not network.is_packed
    assert "one sequence at a time" in network.packing


def test_a_model_that_changes_its_logits_is_refused():
    model = tiny_model("cohere", dtype=torch.float32)
    with pytest.raises(JobError, match="'cohere' do more to their logits"):
        verify(network_of(model))
