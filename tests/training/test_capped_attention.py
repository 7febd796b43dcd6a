"""Capped attention, some query rows at a time, equals the formula on whole matrices of scores, and keeps none."""

import pytest
import torch

from local_backend.engine import attention
from local_backend.engine.attention import attend_densely, plan_attention
from local_backend.engine.packing import pack
from tests.training.tiny import sequence

SHARED = list(range(10, 40))
TREE = [sequence([*SHARED, *range(40 + k, 55 + k)]) for k in range(4)] + [sequence(range(5, 28)), sequence([3, 4])]


def formula(q_THD, k_TGD, v_TGD, *, mask_TT, scale, softcap):
    """softmax(cap * tanh(scores / cap)), all heads and all pairs of tokens at once."""
    n_repeats = q_THD.shape[1] // k_TGD.shape[1]
    q_HTD = q_THD.transpose(0, 1)
    k_HTD, v_HTD = (x.transpose(0, 1).repeat_interleave(n_repeats, dim=0) for x in (k_TGD, v_TGD))
    scores_HTT = torch.tanh(q_HTD @ k_HTD.transpose(1, 2) * scale / softcap) * softcap
    weights_HTT = torch.softmax(scores_HTT.masked_fill(~mask_TT, float("-inf")), dim=-1)
    return (weights_HTT @ v_HTD).transpose(0, 1)


def inputs(n_tokens, *, n_heads=6, n_groups=2, dtype=torch.float64):
    torch.manual_seed(0)
    return [torch.randn(n_tokens, n, 8, dtype=dtype, requires_grad=True) for n in (n_heads, n_groups, n_groups)]


def seen(part, window):
    """Which token sees which, found by walking each sequence."""
    mask_TT = torch.zeros(part.n_tokens, part.n_tokens, dtype=torch.bool)
    for places in part.places:
        for i, place in enumerate(places):
            first = 0 if window is None else max(0, i - window + 1)
            mask_TT[place, list(places[first : i + 1])] = True
    return mask_TT


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("n_groups", [1, 2, 6])
@pytest.mark.parametrize("slice_bytes", [1, 12_000, 1 << 30])
def test_it_is_the_formula_in_value_and_gradients(window, n_groups, slice_bytes, monkeypatch):
    monkeypatch.setattr(attention, "CAPPED_BYTES", slice_bytes)
    monkeypatch.setattr(attention, "MASK_ROWS", 16)
    part = pack(TREE)
    tensors = inputs(part.n_tokens, n_groups=n_groups)
    pull = torch.randn(tensors[0].shape, dtype=torch.float64)
    # Scores of some 3 against a cap of 2: it bends them clearly.
    found = attend_densely(*tensors, plan=plan_attention(part), scale=1.0, window=window, softcap=2.0)
    expected = formula(*tensors, mask_TT=seen(part, window), scale=1.0, softcap=2.0)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(found, tensors, pull), torch.autograd.grad(expected, tensors, pull), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_in_bf16_it_is_nearer_to_the_exact_result_than_the_formula(monkeypatch):
    monkeypatch.setattr(attention, "CAPPED_BYTES", 12_000)
    part = pack(TREE)
    exact = inputs(part.n_tokens)
    rough = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
    rounded = [tensor.detach().double().requires_grad_() for tensor in rough]
    mask_TT = seen(part, None)
    pull = torch.randn(exact[0].shape).bfloat16()
    found = attend_densely(*rough, plan=plan_attention(part), scale=1.0, softcap=2.0)
    naive = formula(*rough, mask_TT=mask_TT, scale=1.0, softcap=2.0)
    wanted = formula(*rounded, mask_TT=mask_TT, scale=1.0, softcap=2.0)
    assert found.dtype is torch.bfloat16
    assert float((found - wanted).detach().norm()) < float((naive - wanted).detach().norm())
    grads = [
        torch.autograd.grad(out, tensors, pull.to(out.dtype))
        for out, tensors in ((found, rough), (naive, rough), (wanted, rounded))
    ]
    for ours, theirs, right in zip(*grads, strict=True):
        assert float((ours - right).norm()) < 1.05 * float((theirs - right).norm())


def test_no_scores_are_kept_for_the_backward_pass():
    n_tokens = 600
    part = pack([sequence(range(3, 3 + n_tokens))])
    tensors = inputs(n_tokens, dtype=torch.float32)
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attend_densely(*tensors, plan=plan_attention(part), scale=1.0, softcap=2.0)
    floats = sum(one.numel() for one in kept.values() if one.is_floating_point())
    assert floats == n_tokens * (6 + 2 + 2 + 6) * 8 + n_tokens * 6
