"""Where to compute and how precisely, with the reasons that users are shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from local_backend.task import JobError


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a job runs on."""

    device: torch.device
    dtype: torch.dtype
    """Of the frozen weights and of the arithmetic; adapters are fp32 always."""
    precision_reason: str
    threads: int

    @property
    def precision(self) -> str:
        """`fp32` or `bf16`."""
        return "bf16" if self.dtype is torch.bfloat16 else "fp32"


def choose_machine(runtime: Mapping[str, Any]) -> Machine:
    """Resolve the `runtime` options.

    Raises:
        JobError: The device isn't there.
    """
    device = _device(runtime.get("device") or "auto")
    dtype, reason = _precision(runtime.get("precision") or "auto", device)
    return Machine(device=device, dtype=dtype, precision_reason=reason, threads=runtime.get("threads") or n_cores())


def n_cores() -> int:
    """Physical cores that this process may use; two threads on one core slow matrix products down."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    physical = (
        torch.cpu.get_capabilities().get("num_physical_cores") if hasattr(torch.cpu, "get_capabilities") else None
    )
    return max(1, min(allowed, int(physical or torch.get_num_threads())))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        text = f"This machine has no device {name!r}. Use `cpu` or `auto`."
        raise JobError("device_not_available", text, param="local.runtime.device") from error
    return device


def _precision(name: str, device: torch.device) -> tuple[torch.dtype, str]:
    if name != "auto":
        return (torch.bfloat16 if name == "bf16" else torch.float32), _asked(name, device)
    if device.type == "cuda":
        return torch.bfloat16, "this GPU multiplies bf16 matrices many times faster; adapters stay fp32"
    if device.type == "cpu" and multiplies_bf16():
        return (
            torch.float32,
            "exact; bf16, if asked for, is up to 1.5 times as fast on this CPU where examples are long",
        )
    return torch.float32, "exact, and several times faster than bf16 on this processor"


def _asked(name: str, device: torch.device) -> str:
    if name == "bf16" and device.type == "cpu" and not multiplies_bf16():
        return "asked for; this CPU has no arithmetic for it (AMX or AVX-512 BF16), so fp32 is several times faster"
    return "asked for"


def multiplies_bf16() -> bool:
    """Whether this CPU multiplies bf16 numbers itself; others convert each of them first."""
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
