"""The learning rate: where it starts, and how it moves over the run. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

BASE_RATES: Mapping[str, tuple[tuple[float, float], ...]] = {
    # (model size below which it holds, in parameters; rate). LoRA: tried on SmolLM2-135M, where 2e-4 for three epochs
    # of 160 examples learns nothing and 1e-3 does; larger models follow the rates usual for their size.
    "lora": ((1e9, 1e-3), (4e9, 5e-4), (math.inf, 2e-4)),
    "full": ((1e9, 1e-4), (4e9, 2e-5), (math.inf, 1e-5)),
    "last_layers": ((1e9, 3e-4), (4e9, 1e-4), (math.inf, 5e-5)),
    "head": ((math.inf, 1e-3),),
}
"""Learning rates for a multiplier of 1."""

METHOD_SHARES: Mapping[str, float] = {"supervised": 1.0, "dpo": 0.1}
"""What a method takes of the rate. At the full one, DPO pushes bad answers away until good ones are lost as well
(tried on SmolLM2-135M: four steps, and it answers beside the point)."""


def base_rate(tune_type: str, *, n_parameters: int, method: str = "supervised") -> float:
    """The absolute rate that a multiplier of 1 stands for."""
    return METHOD_SHARES[method] * next(rate for limit, rate in BASE_RATES[tune_type] if n_parameters < limit)


def resolve_rate(
    local: Mapping[str, Any], *, multiplier: float, n_parameters: int, method: str = "supervised"
) -> float:
    """The peak rate of a job: `learning_rate` if given, else multiplier times base rate."""
    if local.get("learning_rate") is not None:
        return float(local["learning_rate"])
    tune_type = (local.get("tune") or {}).get("type", "lora")
    return multiplier * base_rate(tune_type, n_parameters=n_parameters, method=method)


def rate_factor(step: int, *, total_steps: int, kind: str = "linear", warmup_share: float = 0.03) -> float:
    """Share of the peak rate at a step (from 0): rises over the warm-up, then falls to nearly 0 or stays."""
    n_warmup = math.ceil(warmup_share * total_steps)
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    if kind == "constant":
        return 1.0
    done = (step - n_warmup) / max(1, total_steps - n_warmup)
    return 1.0 - done if kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def factor_at(step: int, local: Mapping[str, Any], *, total_steps: int) -> float:
    """Share of the peak rate at a step (from 0), by the `schedule` of a task's `local` options."""
    schedule = local.get("schedule") or {}
    kind, warmup_share = schedule.get("type", "linear"), schedule.get("warmup_share", 0.03)
    return rate_factor(step, total_steps=total_steps, kind=kind, warmup_share=warmup_share)
