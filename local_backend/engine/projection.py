"""Linear layers that share an input, with or without a low-rank update, as one autograd function.

The update is merged into the weights once a pack (W + s B A), so that a layer costs one product forward and one back;
the gradients of A and B are skinny products that never form the gradient of W. With rank r that is
4 r (I + O) operations a token instead of the 6 r (I + O) of the textbook form. The merge is repeated in the backward
pass instead of kept: it costs what 2 r tokens cost, and saves a second copy of the weights.

Shapes: T tokens, I inputs, O outputs of one layer, P outputs of all layers together, R rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from local_backend.engine.matmul import times_transposed


class Update(NamedTuple):
    """The low-rank update of a layer: scaling * B A, and DoRA's magnitude of each output."""

    a_RI: nn.Parameter
    b_OR: nn.Parameter
    scaling: float
    magnitude_O: nn.Parameter | None


class AdaptedLinear(nn.Module):
    """A linear layer with a low-rank update beside it. `base` keeps its weights as they are."""

    def __init__(
        self, base: nn.Linear, *, rank: int, scaling: float, dropout: float = 0.0, is_dora: bool = False
    ) -> None:
        super().__init__()
        self.base = base
        weight = base.weight
        # Adapters stay fp32 whatever the weights are: bf16 would swallow small steps.
        dtype = torch.float64 if weight.dtype is torch.float64 else torch.float32
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features, dtype=dtype, device=weight.device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, dtype=dtype, device=weight.device))
        self.magnitude = nn.Parameter(weight.detach().to(dtype).norm(dim=1)) if is_dora else None
        self.scaling = scaling
        self.dropout = dropout

    @property
    def update(self) -> Update:
        """The update's tensors."""
        return Update(self.lora_A, self.lora_B, self.scaling, self.magnitude)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to any number of leading dimensions."""
        return project(x.flatten(0, -2), [self]).view(*x.shape[:-1], -1)

    def merged(self) -> torch.Tensor:
        """The weights with the update in them, fp32."""
        return merged_weight(self.base.weight.to(self.lora_A.dtype), self.update)


def project(x_TI: torch.Tensor, layers: Sequence[nn.Module]) -> torch.Tensor:
    """Apply layers to one input and return their outputs side by side (T, P)."""
    if any(isinstance(layer, AdaptedLinear) and _must_stay_apart(layer) for layer in layers):
        return torch.cat([_apart(x_TI, layer) for layer in layers], dim=-1)
    tensors: list[torch.Tensor | None] = []
    scalings = []
    for layer in layers:
        base = layer.base if isinstance(layer, AdaptedLinear) else layer
        update = layer.update if isinstance(layer, AdaptedLinear) else None
        tensors += [base.weight, base.bias]  # type: ignore[list-item]
        tensors += [update.a_RI, update.b_OR, update.magnitude_O] if update else [None, None, None]
        scalings.append(update.scaling if update else 0.0)
    return _Projection.apply(x_TI, tuple(scalings), *tensors)  # type: ignore[no-any-return, no-untyped-call]


def merged_weight(weight_OI: torch.Tensor, update: Update) -> torch.Tensor:
    """W + s B A; for DoRA with each output's norm set to its magnitude."""
    merged_OI = torch.addmm(weight_OI, update.b_OR, update.a_RI, alpha=update.scaling)
    if update.magnitude_O is not None:
        merged_OI *= (update.magnitude_O / merged_OI.norm(dim=1))[:, None]
    return merged_OI


def _must_stay_apart(layer: AdaptedLinear) -> bool:
    """Dropout acts on the update's input alone; low precision would round the update away in the merge."""
    return (layer.dropout > 0 and layer.training) or layer.base.weight.dtype in {torch.bfloat16, torch.float16}


def _apart(x_TI: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    if not isinstance(layer, AdaptedLinear):
        out: torch.Tensor = layer(x_TI)
        return out
    dropped = nn.functional.dropout(x_TI, layer.dropout, layer.training)
    a_RI, b_OR = layer.lora_A.to(x_TI.dtype), layer.lora_B.to(x_TI.dtype)
    low = dropped @ a_RI.t() @ b_OR.t() * layer.scaling
    if layer.magnitude is None:
        return layer.base(x_TI) + low  # type: ignore[no-any-return]
    factor_O = (layer.magnitude / layer.merged().norm(dim=1).detach()).to(x_TI.dtype)
    plain = nn.functional.linear(x_TI, layer.base.weight)
    out = (plain + low) * factor_O
    return out if layer.base.bias is None else out + layer.base.bias


class _One(NamedTuple):
    """The tensors of one layer as the autograd function gets them."""

    weight_OI: torch.Tensor
    bias_O: torch.Tensor | None
    a_RI: torch.Tensor | None
    b_OR: torch.Tensor | None
    magnitude_O: torch.Tensor | None


def _layers(tensors: Sequence[Any]) -> list[_One]:
    return [_One(*tensors[i : i + 5]) for i in range(0, len(tensors), 5)]


def _effective(layers: Sequence[_One], scalings: Sequence[float]) -> torch.Tensor:
    """All layers' merged weights, one below the other (P, I)."""
    if len(layers) == 1 and layers[0].a_RI is None:
        return layers[0].weight_OI
    first = layers[0].weight_OI
    n_outputs = sum(len(layer.weight_OI) for layer in layers)
    out_PI = torch.empty(n_outputs, first.shape[1], dtype=first.dtype, device=first.device)
    start = 0
    for layer, scaling in zip(layers, scalings, strict=True):
        part = out_PI[start : start + len(layer.weight_OI)]
        if layer.a_RI is None or layer.b_OR is None:
            part.copy_(layer.weight_OI)
        else:
            torch.addmm(layer.weight_OI, layer.b_OR, layer.a_RI, alpha=scaling, out=part)
        if layer.magnitude_O is not None:
            part *= (layer.magnitude_O / part.norm(dim=1))[:, None]
        start += len(layer.weight_OI)
    return out_PI


class _Projection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TI: torch.Tensor, scalings: tuple[float, ...], *tensors: Any) -> torch.Tensor:
        layers = _layers(tensors)
        out_TP = times_transposed(x_TI, _effective(layers, scalings))
        if any(layer.bias_O is not None for layer in layers):
            zeros = [torch.zeros(len(layer.weight_OI), dtype=x_TI.dtype, device=x_TI.device) for layer in layers]
            out_TP += torch.cat([z if one.bias_O is None else one.bias_O for z, one in zip(zeros, layers, strict=True)])
        has_magnitude = any(layer.magnitude_O is not None for layer in layers)
        ctx.save_for_backward(x_TI, out_TP if has_magnitude else None, *tensors)
        ctx.scalings = scalings
        return out_TP

    @staticmethod
    def backward(ctx: Any, dout_TP: torch.Tensor) -> tuple[Any, ...]:
        x_TI, out_TP, *tensors = ctx.saved_tensors
        layers = _layers(tensors)
        effective_PI = None
        dx_TI = None
        if ctx.needs_input_grad[0]:
            effective_PI = _effective(layers, ctx.scalings)
            dx_TI = times_transposed(dout_TP, effective_PI.t())
        grads: list[Any] = []
        start = 0
        for k, (layer, scaling) in enumerate(zip(layers, ctx.scalings, strict=True)):
            end = start + len(layer.weight_OI)
            needs = ctx.needs_input_grad[2 + 5 * k : 7 + 5 * k]
            out_TO = None if layer.magnitude_O is None else out_TP[:, start:end]
            grads += _layer_grads(layer, scaling, x_TI, dout_TP[:, start:end], out_TO, needs)
            start = end
        return (dx_TI, None, *grads)


def _layer_grads(
    layer: _One,
    scaling: float,
    x_TI: torch.Tensor,
    dout_TO: torch.Tensor,
    out_TO: torch.Tensor | None,
    needs: Sequence[bool],
) -> list[torch.Tensor | None]:
    """Gradients of weight, bias, A, B and magnitude, where needed."""
    dweight = times_transposed(dout_TO.t(), x_TI.t()) if needs[0] else None
    dbias = dout_TO.sum(0) if needs[1] else None
    if layer.a_RI is None or layer.b_OR is None:
        return [dweight, dbias, None, None, None]
    dmagnitude = None
    if layer.magnitude_O is not None and out_TO is not None:
        # PEFT treats the norm as a constant, and so does the paper (section 4.3).
        norm_O = torch.addmm(layer.weight_OI, layer.b_OR, layer.a_RI, alpha=scaling).norm(dim=1)
        unbiased_TO = out_TO if layer.bias_O is None else out_TO - layer.bias_O
        dmagnitude = (dout_TO * unbiased_TO).sum(0) / layer.magnitude_O
        dout_TO = dout_TO * (layer.magnitude_O / norm_O)
    up_TR = times_transposed(dout_TO, layer.b_OR.t())
    down_TR = times_transposed(x_TI, layer.a_RI)
    da_RI = times_transposed(up_TR.t(), x_TI.t()).mul_(scaling)
    db_OR = times_transposed(dout_TO.t(), down_TR.t()).mul_(scaling)
    return [dweight, dbias, da_RI, db_OR, dmagnitude]
