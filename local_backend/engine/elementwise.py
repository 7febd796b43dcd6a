"""Norm, rotary embedding and gated activation with backward passes that touch memory as rarely as torch allows.

Shapes: T tokens, D width, H heads, F half the width of a fused gate-and-up projection.
"""

from __future__ import annotations

from typing import Any

import torch


def rms_norm(x_TD: torch.Tensor, weight_D: torch.Tensor, *, eps: float) -> torch.Tensor:
    """Return x / rms(x) * weight over the last dimension."""
    out: torch.Tensor = _RMSNorm.apply(x_TD, weight_D, eps)  # type: ignore[no-untyped-call]
    return out


def rotate(x_THD: torch.Tensor, cos_TK: torch.Tensor, sin_TK: torch.Tensor) -> torch.Tensor:
    """Rotary embedding; `cos_TK` and `sin_TK` hold the first half of the angles (the second is the same)."""
    out: torch.Tensor = _Rotation.apply(x_THD, cos_TK, sin_TK)  # type: ignore[no-untyped-call]
    return out


def swiglu(gate_up_TE: torch.Tensor) -> torch.Tensor:
    """Return silu(gate) * up, of gate and up side by side."""
    out: torch.Tensor = _SwiGLU.apply(gate_up_TE)  # type: ignore[no-untyped-call]
    return out


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight_D: torch.Tensor, eps: float) -> torch.Tensor:
        wide = x if x.dtype in {torch.float32, torch.float64} else x.float()
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight_D, inverse)
        out: torch.Tensor = (wide * inverse).mul_(weight_D).to(x.dtype)
        return out

    @staticmethod
    def backward(ctx: Any, dout: torch.Tensor) -> tuple[Any, ...]:
        x, weight_D, inverse = ctx.saved_tensors
        dweight_D = None
        wide = x.to(inverse.dtype)
        if ctx.needs_input_grad[1]:
            dweight_D = (dout * (wide * inverse)).flatten(0, -2).sum(0).to(weight_D.dtype)
        scaled = dout * weight_D.to(inverse.dtype)
        along = torch.linalg.vecdot(scaled, wide).unsqueeze(-1)
        dx = scaled.mul_(inverse).addcmul_(wide, along.mul_(inverse.pow(3)).div_(-x.shape[-1]))
        return dx.to(x.dtype), dweight_D, None


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_THD: torch.Tensor, cos_TK: torch.Tensor, sin_TK: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos_TK, sin_TK)
        return _rotated(x_THD, cos_TK, sin_TK)

    @staticmethod
    def backward(ctx: Any, dout_THD: torch.Tensor) -> tuple[Any, ...]:
        cos_TK, sin_TK = ctx.saved_tensors
        return _rotated(dout_THD, cos_TK, -sin_TK), None, None


def _rotated(x_THD: torch.Tensor, cos_TK: torch.Tensor, sin_TK: torch.Tensor) -> torch.Tensor:
    half = x_THD.shape[-1] // 2
    first, second = x_THD[..., :half], x_THD[..., half:]
    cos_T1K, sin_T1K = cos_TK.unsqueeze(1), sin_TK.unsqueeze(1)
    out_THD = torch.empty_like(x_THD, memory_format=torch.contiguous_format)
    torch.mul(first, cos_T1K, out=out_THD[..., :half]).addcmul_(second, sin_T1K, value=-1)
    torch.mul(second, cos_T1K, out=out_THD[..., half:]).addcmul_(first, sin_T1K)
    return out_THD


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up_TE: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate_up_TE)
        gate_TF, up_TF = gate_up_TE.chunk(2, dim=-1)
        return torch.nn.functional.silu(gate_TF).mul_(up_TF)

    @staticmethod
    def backward(ctx: Any, dout_TF: torch.Tensor) -> Any:
        (gate_up_TE,) = ctx.saved_tensors
        gate_TF, up_TF = gate_up_TE.chunk(2, dim=-1)
        out_TE = torch.empty_like(gate_up_TE)
        dgate_TF, dup_TF = out_TE.chunk(2, dim=-1)
        torch.mul(torch.nn.functional.silu(gate_TF), dout_TF, out=dup_TF)
        dgate_TF.copy_(torch.ops.aten.silu_backward(dout_TF * up_TF, gate_TF))
        return out_TE
