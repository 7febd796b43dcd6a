"""Linear layers that share an input, with or without a low-rank update, as one autograd function.

The update is merged into the weights once a pack (W + s B A), so that a layer costs one product forward and one back;
the gradients of A and B are skinny products that never form the gradient of W. With rank r that is
4 r (I + O) operations a token instead of the 6 r (I + O) of the textbook form. The merge is repeated in the backward
pass instead of kept: it costs what 2 r tokens cost, and saves a second copy of the weights.

Shapes: T tokens, I inputs, O outputs of one layer, P outputs of all layers together, R rank, Q ranks of all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from local_backend.engine.matmul import times_transposed
from local_backend.task import JobError


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

    @property
    def weight(self) -> torch.Tensor:
        """Nothing: who multiplies by a layer's weights on its own, as Mamba's blocks do, would pass the update by.

        Raises:
            JobError: Always.
        """
        text = (
            "This model multiplies by the weights of some of its layers on its own, past an adapter. Name other layers "
            "in `targets` (of Mamba's, `in_proj`), or train whole weights: tune `full` or `last_layers`."
        )
        raise JobError("invalid_targets", text, param="local.tune.targets")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to any number of leading dimensions."""
        return project(x.flatten(0, -2), [self]).view(*x.shape[:-1], -1)

    def merged(self) -> torch.Tensor:
        """The weights with the update in them, fp32."""
        return merged_weight(self.base.weight.to(self.lora_A.dtype), self.update)


def project_from(make_input: Callable[[], torch.Tensor], layers: Sequence[nn.Module]) -> torch.Tensor:
    """Apply layers to an input that is cheap to make: it is made again for the backward pass instead of kept."""
    return project(make_input(), layers, make_again=make_input)


def project(
    x_TI: torch.Tensor, layers: Sequence[nn.Module], *, make_again: Callable[[], torch.Tensor] | None = None
) -> torch.Tensor:
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
    return _Projection.apply(x_TI, make_again, tuple(scalings), *tensors)  # type: ignore[no-any-return, no-untyped-call]


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
    # Added within the product, which sums in fp32 and rounds once: beside a rounded product, half of an update as small
    # as it is in the first steps would be lost.
    out = torch.addmm(low, x_TI, layer.base.weight.t())
    if layer.magnitude is not None:
        out = out * (layer.magnitude / layer.merged().norm(dim=1).detach()).to(x_TI.dtype)
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
    def forward(
        ctx: Any, x_TI: torch.Tensor, make_again: Any, scalings: tuple[float, ...], *tensors: Any
    ) -> torch.Tensor:
        layers = _layers(tensors)
        out_TP = times_transposed(x_TI, _effective(layers, scalings))
        if any(layer.bias_O is not None for layer in layers):
            zeros = [torch.zeros(len(layer.weight_OI), dtype=x_TI.dtype, device=x_TI.device) for layer in layers]
            out_TP += torch.cat([z if one.bias_O is None else one.bias_O for z, one in zip(zeros, layers, strict=True)])
        has_magnitude = any(layer.magnitude_O is not None for layer in layers)
        is_kept = make_again is None and any(ctx.needs_input_grad[3:])
        ctx.save_for_backward(x_TI if is_kept else None, out_TP if has_magnitude else None, *tensors)
        ctx.make_again = make_again
        ctx.scalings = scalings
        return out_TP

    @staticmethod
    def backward(ctx: Any, dout_TP: torch.Tensor) -> tuple[Any, ...]:
        x_TI, out_TP, *tensors = ctx.saved_tensors
        layers = _layers(tensors)
        dout_TP = dout_TP.contiguous()
        dx_TI = None
        if ctx.needs_input_grad[0]:
            dx_TI = times_transposed(dout_TP, _effective(layers, ctx.scalings).t())
        needs = ctx.needs_input_grad[3:]
        if not any(needs):
            return (dx_TI, None, None, *([None] * len(tensors)))
        if x_TI is None:
            with torch.no_grad():
                x_TI = ctx.make_again()
            ctx.make_again = None
        grads: list[Any] = [None] * len(tensors)
        if any(needs[0::5]):
            grads[0::5] = _split(times_transposed(dout_TP.t(), x_TI.t()), layers)
        if any(needs[1::5]):
            grads[1::5] = _split(dout_TP.sum(0), layers)
        if any(layer.a_RI is not None for layer in layers):
            _update_grads(grads, layers, ctx.scalings, x_TI, dout_TP, out_TP)
        kept = [grad if need else None for grad, need in zip(grads, needs, strict=True)]
        return (dx_TI, None, None, *kept)


def _split(joined: torch.Tensor, layers: Sequence[_One]) -> list[torch.Tensor]:
    return list(torch.split(joined, [len(layer.weight_OI) for layer in layers]))


def _update_grads(
    grads: list[Any],
    layers: Sequence[_One],
    scalings: Sequence[float],
    x_TI: torch.Tensor,
    dout_TP: torch.Tensor,
    out_TP: torch.Tensor | None,
) -> None:
    """Fill in the gradients of A, B and magnitudes, four products for all layers together.

    The layers' B stand in one block-diagonal matrix. That computes some zeros, and saves copies of slices that cost
    more: oneDNN needs whole matrices.
    """
    blocks = _Blocks(layers, scalings)
    up_TQ = times_transposed(dout_TP, blocks.b_QP)
    down_TQ = times_transposed(x_TI, blocks.a_QI)
    da_QI = times_transposed(up_TQ.t(), x_TI.t())
    db_QP = times_transposed(down_TQ.t(), dout_TP.t())
    for k, (layer, place) in enumerate(zip(layers, blocks.places, strict=True)):
        if layer.a_RI is None or place is None:
            continue
        rank_rows, outputs, factor = place
        grads[5 * k + 2] = da_QI[rank_rows]
        grads[5 * k + 3] = (db_QP[rank_rows, outputs] * factor).t()
        if layer.magnitude_O is not None and out_TP is not None:
            # PEFT treats the norm as a constant, and so does the paper (section 4.3).
            unbiased_TO = out_TP[:, outputs] if layer.bias_O is None else out_TP[:, outputs] - layer.bias_O
            grads[5 * k + 4] = (dout_TP[:, outputs] * unbiased_TO).sum(0) / layer.magnitude_O


class _Blocks:
    """All layers' A below each other (Q, I), and their B, scaled, along a diagonal (Q, P)."""

    def __init__(self, layers: Sequence[_One], scalings: Sequence[float]) -> None:
        n_ranks = [0 if layer.a_RI is None else len(layer.a_RI) for layer in layers]
        n_outputs = [len(layer.weight_OI) for layer in layers]
        first = next(layer.a_RI for layer in layers if layer.a_RI is not None)
        self.a_QI = torch.cat([layer.a_RI for layer in layers if layer.a_RI is not None])
        self.b_QP = torch.zeros(sum(n_ranks), sum(n_outputs), dtype=first.dtype, device=first.device)
        self.places: list[tuple[slice, slice, Any] | None] = []
        """For each layer: its rows in Q, its columns in P, and what B is multiplied by."""
        rank, output = 0, 0
        for layer, scaling, n_rank, n_output in zip(layers, scalings, n_ranks, n_outputs, strict=True):
            place = (slice(rank, rank + n_rank), slice(output, output + n_output), _factor(layer, scaling))
            self.places.append(place if n_rank else None)
            if layer.b_OR is not None:
                self.b_QP[place[0], place[1]] = layer.b_OR.t() * place[2]
            rank, output = rank + n_rank, output + n_output


def _factor(layer: _One, scaling: float) -> Any:
    """What B A is multiplied by: the scaling, and for DoRA each output's share of its norm."""
    if layer.magnitude_O is None or layer.a_RI is None or layer.b_OR is None:
        return scaling
    norm_O = torch.addmm(layer.weight_OI, layer.b_OR, layer.a_RI, alpha=scaling).norm(dim=1)
    return scaling * layer.magnitude_O / norm_O
