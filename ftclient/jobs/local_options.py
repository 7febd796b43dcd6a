"""Choices that only the local backend knows, grouped by concern. They travel as `local` in the create body."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoRA(_Frozen):
    """Train small low-rank matrices beside the frozen weights."""

    type: Literal["lora"] = "lora"
    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32
    """The update is scaled by alpha / rank (rslora: alpha / sqrt(rank))."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Which linear layers, by the last part of their name; `all-linear` is all of the blocks."""
    variant: Literal["lora", "rslora", "dora"] = "lora"


class Full(_Frozen):
    """Train all weights."""

    type: Literal["full"] = "full"


class LastLayers(_Frozen):
    """Train the last `n` blocks; what lies below is computed once and kept."""

    type: Literal["last_layers"] = "last_layers"
    n: Annotated[int, Field(ge=1)] = 2


class Head(_Frozen):
    """Train the output layer alone."""

    type: Literal["head"] = "head"


class Schedule(_Frozen):
    """How the learning rate moves over the run, and what holds the weights back."""

    type: Literal["linear", "cosine", "constant"] = "linear"
    warmup_share: Annotated[float, Field(ge=0, le=1)] = 0.03
    """Share of all steps in which the rate rises from 0."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0


class Evaluation(_Frozen):
    """When the validation file is looked at, and what follows from it."""

    every_steps: Annotated[int, Field(ge=1)] | None = None
    """Steps between validation batches; None lets the backend choose."""
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None
    """Epochs without a better validation loss after which training stops; None never stops early."""
    keep_best: bool = False
    """Whether the final model is the best epoch instead of the last."""
    samples: Annotated[int, Field(ge=0)] = 0
    """Answers sampled from the validation file at each epoch end."""


class Runtime(_Frozen):
    """Where and how precisely to compute."""

    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    micro_batch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens computed at once; None lets the backend choose. It never changes the result."""
    threads: Annotated[int, Field(ge=1)] | None = None
    checkpointing: bool | Literal["auto"] = "auto"
    """Keep only what goes into each block and compute the rest again for the gradient: less memory, a third more time,
    the same result. "auto" does so where the longest example would not fit otherwise."""


class Simulate(_Frozen):
    """Pace and faults of a simulated job, for tests of what surrounds training."""

    speed: Literal["immediate", "timed", "step"] = "immediate"
    seconds_per_step: Annotated[float, Field(ge=0)] = 0.05
    fail_at_step: Annotated[int, Field(ge=1)] | None = None
    fail_code: str = "server_error"
    hang_at_step: Annotated[int, Field(ge=1)] | None = None


Tune = Annotated[LoRA | Full | LastLayers | Head, Field(discriminator="type")]


class LocalOptions(_Frozen):
    """Everything that only the local backend can be asked for; the defaults are its own."""

    tune: Tune = LoRA()
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Absolute rate; None is the backend's base rate for this way of tuning and size of model."""
    schedule: Schedule = Schedule()
    evaluation: Evaluation = Evaluation()
    runtime: Runtime = Runtime()
    simulate: Simulate | None = None
    task: Literal["chat", "classify"] = "chat"

    def body(self) -> dict[str, Any]:
        """Return the `local` object of the create body: what differs from the defaults, ways of tuning in full."""
        body = self.model_dump(mode="json", exclude_defaults=True)
        return {**body, "tune": self.tune.model_dump(mode="json")} if "tune" in body else body
