"""bf16: what it must not lose, and where it is worth asking for."""

import pytest
import torch
import transformers
from torch import nn

from local_backend.engine import decoder, device, loss
from local_backend.engine.projection import AdaptedLinear


@pytest.mark.parametrize("is_dora", [False, True])
def test_an_update_far_below_the_rounding_of_the_output_is_not_lost(is_dora):
    """It must show in the mean over many outputs, as large as it is, though hardly one of them can hold it."""
    torch.manual_seed(0)
    x = torch.randn(256, 128).bfloat16()
    base = nn.Linear(128, 256, bias=False).bfloat16()
    layer = AdaptedLinear(base, rank=4, scaling=1.0, is_dora=is_dora)
    layer.lora_A.data.normal_(std=0.1)
    layer.lora_B.data.normal_(std=5e-4)
    update = (x.float() @ layer.lora_A.t() @ layer.lora_B.t()).detach()
    assert update.abs().mean() < 2**-9 * base(x).float().abs().mean()
    found = (layer(x).float() - base(x).float()).detach()
    share = float((found * update).sum() / update.square().sum())
    assert share == pytest.approx(1.0, abs=0.15)


def test_a_norm_whose_weights_are_around_zero_is_not_rounded_around_one():
    """bf16 has steps of 0.8 % above one: nearly all of these weights would become nothing."""
    norm = transformers.models.gemma.modeling_gemma.GemmaRMSNorm(256).bfloat16()
    torch.manual_seed(0)
    norm.weight.data.uniform_(-0.003, 0.003)
    x = torch.randn(64, 256).bfloat16()
    found, expected = decoder._norm(norm, x), norm(x)
    assert found.dtype is torch.bfloat16
    assert (found == expected).float().mean() > 0.99
    assert (found == norm(x / (1 + norm.weight.float())).bfloat16()).float().mean() < 0.9


def test_the_gradient_of_the_hidden_states_is_summed_in_single_precision():
    """Over 64 blocks of the vocabulary; a sum in bf16 is four times as wrong."""
    torch.manual_seed(0)
    n_vocabulary = 64 * 64
    # All tokens are about as likely, and each block pulls a little in the same direction.
    hidden, weight = 0.01 * torch.randn(32, 64).bfloat16(), (torch.randn(n_vocabulary, 64) + 0.5).bfloat16()
    targets, weights = torch.randint(n_vocabulary, (32,)), torch.ones(32)
    exact = hidden.double().requires_grad_()
    torch.nn.functional.cross_entropy(exact @ weight.double().t(), targets, reduction="sum").backward()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss, "BLOCK_TOKENS", 64)
        found, _ = loss.nll_gradient(hidden.requires_grad_(), targets, weights, head=loss.Head(weight))
    assert found.dtype is torch.bfloat16
    error = float((found.double() - exact.grad).norm() / exact.grad.norm())
    assert error < 0.004  # in bf16 it is 0.012


@pytest.mark.parametrize(
    ("capabilities", "asked", "words"),
    [
        ({"avx512_bf16": True}, "auto", "bf16, if asked for"),
        ({"amx_bf16": True}, "auto", "bf16, if asked for"),
        ({}, "auto", "several times faster than bf16"),
        ({}, "bf16", "no arithmetic for it"),
        ({"avx512_bf16": True}, "bf16", "asked for"),
    ],
)
def test_the_reason_for_a_precision_knows_the_processor(capabilities, asked, words, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    machine = device.choose_machine({"device": "cpu", "precision": asked})
    assert words in machine.precision_reason
    assert machine.precision == ("bf16" if asked == "bf16" else "fp32")
