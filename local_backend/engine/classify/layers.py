"""What of a classifier trains, how fast, and from when on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from local_backend.engine import adapters
from local_backend.engine.classify.body import blocks_in_order
from local_backend.engine.classify.classifier import Classifier
from local_backend.task import JobError

HEAD_RATE, HEAD_RATE_ABOVE_BODY = 2e-3, 5e-4
"""Of a last layer on standardised features, by itself and above a body that trains. The first was tried on 77 classes
of short questions: 91.7 % are right after three epochs and 91.6 % after ten; 1e-3 takes ten, 1e-2 learns by heart."""
BODY_RATES: Mapping[str, tuple[tuple[float, float], ...]] = {
    # (parameters below which it holds, rate). Small encoders want more than the 2e-5 that BERT's paper names.
    "full": ((50e6, 2e-4), (500e6, 5e-5), (float("inf"), 1e-5)),
    "last_layers": ((50e6, 3e-4), (500e6, 1e-4), (float("inf"), 5e-5)),
    "lora": ((1e9, 1e-3), (float("inf"), 3e-4)),
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """Weights that train alike."""

    parameters: list[tuple[str, nn.Parameter]]
    depth: int
    """0: the last layer; then the blocks from the top down; the embeddings are the deepest."""
    rate: float
    """Peak learning rate."""


def choose_parts(
    classifier: Classifier, tune: Mapping[str, Any], *, rate: float | None, multiplier: float, decay: float, seed: int
) -> list[Part]:
    """Freeze what is not to train and return the rest, the last layer first.

    Args:
        classifier: Its body may get adapters.
        tune: The `local.tune` of the job.
        rate: Absolute rate of the body (of the last layer where that trains alone); None takes the usual one.
        multiplier: Of the usual rates.
        decay: Rate of a block in shares of that of the one above.
        seed: Of the adapters' first values.

    Raises:
        JobError: The model has no such layers.
    """
    kind = tune["type"]
    model = classifier.body.model
    usual = HEAD_RATE if kind == "head" else HEAD_RATE_ABOVE_BODY
    head_rate = rate if kind == "head" and rate is not None else usual * multiplier
    head = Part(parameters=_named(classifier.head, "last_layer."), depth=0, rate=head_rate)
    if kind == "head":
        model.requires_grad_(requires_grad=False)
        return [head]
    body_rate = rate if rate is not None else multiplier * _usual_rate(kind, model)
    return [head, *_body_parts(model, tune, rate=body_rate, decay=decay, seed=seed)]


def trained_parts(parts: list[Part], *, unfreeze: str, epoch: int, n_epochs: int) -> list[Part]:
    """The parts that train in an epoch (from 0): all, or (`gradually`) the last layer first and the deepest last."""
    if unfreeze != "gradually" or n_epochs == 1:
        return parts
    deepest = max(part.depth for part in parts)
    reached = round(deepest * epoch / (n_epochs - 1))
    return [part for part in parts if part.depth <= reached]


def _body_parts(model: Any, tune: Mapping[str, Any], *, rate: float, decay: float, seed: int) -> list[Part]:
    blocks = [name for name, _ in blocks_in_order(model)]
    if tune["type"] == "lora":
        adapters.add_adapters(model, tune, seed=seed)
    else:
        model.requires_grad_(requires_grad=True)
    deepest = len(blocks) - _lowest_block(tune, len(blocks))
    by_depth: dict[int, list[tuple[str, nn.Parameter]]] = {}
    depth = len(blocks) + 1
    for name, parameter in model.named_parameters():
        # What stands between two blocks goes with the lower one; what stands above all, with the top one.
        depth = next((len(blocks) - i for i, block in enumerate(blocks) if name.startswith(block + ".")), depth)
        if depth > deepest:
            parameter.requires_grad_(requires_grad=False)
        elif parameter.requires_grad:
            by_depth.setdefault(depth, []).append((name, parameter))
    return [
        Part(parameters=by_depth[depth], depth=depth, rate=rate * decay ** (depth - 1)) for depth in sorted(by_depth)
    ]


def _lowest_block(tune: Mapping[str, Any], n_blocks: int) -> int:
    """Index of the lowest block that trains; -1: the embeddings train, too."""
    if tune["type"] != "last_layers":
        return -1
    n = int(tune.get("n", 2))
    if n > n_blocks:
        text = f"The model has {n_blocks} blocks, so the last {n} can't be trained."
        raise JobError("invalid_layers", text, param="local.tune.n")
    return n_blocks - n


def _usual_rate(kind: str, model: nn.Module) -> float:
    n = sum(parameter.numel() for parameter in model.parameters())
    return next(rate for limit, rate in BODY_RATES[kind] if n < limit)


def _named(module: nn.Module, prefix: str) -> list[tuple[str, nn.Parameter]]:
    return [(prefix + name, parameter) for name, parameter in module.named_parameters()]
