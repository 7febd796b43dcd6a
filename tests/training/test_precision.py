"""bf16: what it must not lose, and where it is worth asking for."""

import pytest
import torch
from torch import nn

from local_backend.engine import device
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
