"""Fold an adapter into the weights of its base model, and show that the result answers alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from local_backend.engine.complete import load_complete, placed
from local_backend.engine.generation.lora import LayerAdapter, RoutedLinear, Routing, read_adapter, route
from local_backend.engine.quiet import quiet
from local_backend.engine.template import Template
from local_backend.engine.vision.reader import reads_images
from local_backend.task import UserError

_HELD_PROMPTS = (
    "What can you do for me?",
    "Write one sentence about the sea.",
    '{"order": 1234, "state": "late"}',
    "こんにちは。荷物がまだ届きません。",
)
"""Never trained on here; a code, a sentence, a question and another script, so that all layers are exercised."""

_TOLERANCE = {torch.float32: 1e-2, torch.bfloat16: 1.0, torch.float16: 0.25}
"""Largest difference of a log-probability (nats) that rounding to the stored type explains; a wrong scale, a missing
layer, or a broken tie gives several nats."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """How a merged model, read back from disk, compares with base model and adapter on held prompts."""

    n_tokens: int
    largest_difference: float
    """Of a log-probability, in nats."""
    same_choice: float
    """Share of positions at which the most likely token is the same."""


def merge(base: Path, adapter: Path, *, to: Path) -> Verified:
    """Write the merged model to the folder `to`: fp32 arithmetic, stored in the base model's own type.

    Raises:
        UserError: The base model lacks weights, the adapter does not fit, or what was written does not answer like
            base model and adapter.
    """
    from transformers import AutoConfig

    stored = getattr(AutoConfig.from_pretrained(base, local_files_only=True), "dtype", None) or torch.float32
    prompts = [Template.of(base).prompt([{"role": "user", "content": text}]) for text in _HELD_PROMPTS]
    model, routing = _load(base), Routing()
    route(model, routing)
    tuned = read_adapter(adapter, model, dtype=torch.float32, device=torch.device("cpu"))
    routing.set([tuned], torch.device("cpu"))
    expected = _logprobs(model, prompts)
    for name, layer in tuned.layers.items():
        _fold(model.get_submodule(name), layer)
    _unroute(model)
    with quiet():
        model.to(stored).save_pretrained(to)
    del model
    return _verify(expected, _logprobs(_load(to), prompts), stored)


def _load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind = AutoModelForImageTextToText if reads_images(folder) else AutoModelForCausalLM
    try:
        with quiet():
            model, _ = load_complete(kind, folder, dtype=torch.float32, local_files_only=True)
    except (ValueError, RuntimeError) as error:
        text = f"The model can't be loaded to be merged: {str(error)[:300]}"
        raise UserError(text, param="model", code="model_not_supported") from error
    return placed(model, folder, torch.device("cpu")).eval().requires_grad_(requires_grad=False)


@torch.no_grad()
def _logprobs(model: Any, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    outputs = [model(input_ids=torch.tensor([list(ids)]), use_cache=False) for ids in prompts]
    return [output.logits[0].float().log_softmax(-1) for output in outputs]


def _fold(linear: Any, layer: LayerAdapter) -> None:
    weight_OI = linear.linear.weight
    merged_OI = weight_OI + layer.b_OR @ layer.a_RI
    weight_OI.copy_(merged_OI if layer.factor_O is None else merged_OI * layer.factor_O[:, None])


def _unroute(model: nn.Module) -> None:
    routed = [(name, module) for name, module in model.named_modules() if isinstance(module, RoutedLinear)]
    for name, module in routed:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, module.linear)


def _verify(expected: Sequence[Tensor], got: Sequence[Tensor], stored: torch.dtype) -> Verified:
    differences = [(one - other).abs().max().item() for one, other in zip(expected, got, strict=True)]
    same = [(one.argmax(-1) == other.argmax(-1)) for one, other in zip(expected, got, strict=True)]
    verified = Verified(
        n_tokens=sum(len(one) for one in same),
        largest_difference=max(differences),
        same_choice=torch.cat(same).float().mean().item(),
    )
    if not verified.largest_difference <= _TOLERANCE.get(stored, 1.0):
        raise UserError(
            f"The merged model does not answer like the tuned one (log-probabilities differ by up to "
            f"{verified.largest_difference:.3g}), so it was not exported. Export the adapter instead.",
            param="format",
            code="export_failed",
        )
    return verified
