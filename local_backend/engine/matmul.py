"""Matrix products on the machine's fastest library.

torch multiplies fp32 matrices with MKL, which is tuned for Intel; oneDNN, which torch ships as well, reaches twice its
rate and more on AMD's AVX-512 cores, and as much elsewhere. It is reached through the operator that torch.compile uses.
"""

from __future__ import annotations

from functools import lru_cache

import torch


def times_transposed(x_TI: torch.Tensor, w_OI: torch.Tensor) -> torch.Tensor:
    """Return x @ w.T for matrices (T, I) and (O, I); either may be a transposed view."""
    if x_TI.dtype is torch.float32 and x_TI.device.type == "cpu" and uses_onednn():
        return _onednn(x_TI, w_OI)
    return x_TI @ w_OI.t()


@lru_cache(maxsize=1)
def uses_onednn() -> bool:
    """Whether fp32 products go to oneDNN here: it must be there and agree with torch's own product."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    x, w = torch.linspace(-1, 1, 12).view(3, 4), torch.linspace(0, 1, 8).view(2, 4)
    try:
        return torch.allclose(_onednn(x, w), x @ w.t(), atol=1e-5)
    except RuntimeError:
        return False


def _onednn(x_TI: torch.Tensor, w_OI: torch.Tensor) -> torch.Tensor:
    if not (w_OI.is_contiguous() or w_OI.t().is_contiguous()):
        w_OI = w_OI.contiguous()  # else oneDNN falls back to a loop that is a thousand times slower
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x_TI, w_OI, None, "none", [], "")  # noqa: SLF001 - see above
    return out
