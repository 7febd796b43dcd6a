"""Blocks that are computed again in the backward pass, so that all they keep for it is their input (T, D).

The same operations run on the same numbers, so nothing about the result changes, on CPUs to the last bit. It costs a
second forward pass: up to half as much time again with adapters, a third with whole weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

Block = Callable[[torch.Tensor], torch.Tensor]


def recomputes(runtime: Mapping[str, Any], *, needed_bytes: int, available_bytes: int) -> bool:
    """Whether blocks are computed again instead of kept: as asked, else where the longest example would not fit.

    Args:
        runtime: The task's `runtime` options; `checkpointing` is true, false or "auto", which is also the default.
        needed_bytes: What a step on the longest example takes if blocks keep all that the backward pass wants.
        available_bytes: What the machine has for it.
    """
    asked = runtime.get("checkpointing", "auto")
    return needed_bytes > available_bytes if asked in {"auto", None} else bool(asked)


def recomputed(block: Block, x_TD: torch.Tensor, weights: Sequence[nn.Parameter]) -> torch.Tensor:
    """Apply a block whose own `weights` may train; its inner results are made again when gradients are wanted."""
    out: torch.Tensor = _Recomputed.apply(block, x_TD, *weights)  # type: ignore[no-untyped-call]
    return out


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, block: Block, x_TD: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        ctx.block, ctx.random = block, _random_states(x_TD.device)
        ctx.save_for_backward(x_TD, *weights)
        return block(x_TD)

    @staticmethod
    def backward(ctx: Any, dout_TD: torch.Tensor) -> tuple[Any, ...]:
        needs = ctx.needs_input_grad[1:]
        x_TD, *weights = ctx.saved_tensors
        x_TD = x_TD.detach().requires_grad_(needs[0])
        with torch.enable_grad(), _random_as(ctx.random, x_TD.device):
            out_TD = ctx.block(x_TD)
        wanted = [tensor for tensor, need in zip((x_TD, *weights), needs, strict=True) if need]
        found = iter(torch.autograd.grad(out_TD, wanted, dout_TD, allow_unused=True))
        return (None, *(next(found) if need else None for need in needs))


def _random_states(device: torch.device) -> list[torch.Tensor]:
    """Dropout must drop the same numbers again."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


@contextlib.contextmanager
def _random_as(states: list[torch.Tensor], device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.set_rng_state(states[0])
        if device.type == "cuda":
            torch.cuda.set_rng_state(states[1], device)
        yield
