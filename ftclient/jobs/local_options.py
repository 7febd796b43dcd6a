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
    """Keep only what goes into each block and compute the rest again for the gradient: less memory, up to half as much
    time again, the same result. "auto" does so where the longest example would not fit otherwise."""


class Augment(_Frozen):
    """Changed copies of training images, other ones in every epoch. Frozen parts are then computed every time."""

    flip: bool = False
    """Mirror every other image, left to right. Wrong for digits, letters and signs."""
    crop: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Largest share of the edges that is cut off; the rest is stretched to the old size."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Mix pairs of images and their labels; 0.1 to 0.4 is usual, 0 does not mix."""


class Classify(_Frozen):
    """How a classifier is trained, beyond what every model has."""

    balance: Literal["none", "weights", "sampling"] = "none"
    """Let all labels count the same, however many examples they have: by weights, or by how often they are drawn."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the right label's probability that is spread over all labels."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of a block in shares of that of the block above it."""
    unfreeze: Literal["at_once", "gradually"] = "at_once"
    """`gradually` trains the last layer first and reaches the lowest trained block in the last epoch."""
    valid_share: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of each label's training examples that is set aside to validate with, where no validation file is given."""
    warm_start: bool = True
    """Fit a new last layer to the untrained model before what lies below it trains."""
    calibrate: bool = True
    """Fit the probabilities to the validation data (temperature scaling)."""
    augment: Augment | None = None
    """Images only."""


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
    """`classify` gives a language model a last layer for the labels; encoders of texts and images are always so."""
    classify: Classify = Classify()

    def body(self) -> dict[str, Any]:
        """Return the `local` object of the create body: what differs from the defaults, ways of tuning in full."""
        body = self.model_dump(mode="json", exclude_defaults=True)
        return {**body, "tune": self.tune.model_dump(mode="json")} if "tune" in body else body
