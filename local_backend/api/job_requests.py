"""The body that creates a job."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator
from typing_extensions import Self

from local_backend.api.bodies import Body

Auto = Literal["auto"]
Epochs = Auto | Annotated[int, Field(ge=1, le=50)] | None
BatchSize = Auto | Annotated[int, Field(ge=1, le=256)] | None
Multiplier = Auto | Annotated[float, Field(gt=0)] | None
Beta = Auto | Annotated[float, Field(gt=0, le=2)] | None
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]


class Hyperparameters(Body):
    """The numbers of a supervised job; null is `auto`."""

    n_epochs: Epochs = "auto"
    batch_size: BatchSize = "auto"
    learning_rate_multiplier: Multiplier = "auto"

    def given(self) -> dict[str, Any]:
        """All of them, with null as `auto`."""
        return {name: "auto" if value is None else value for name, value in self}


class DpoHyperparameters(Hyperparameters):
    """The numbers of a preference job."""

    beta: Beta = "auto"


class SupervisedMethod(Body):
    """How supervised training is to be done."""

    hyperparameters: Hyperparameters | None = None


class DpoMethod(Body):
    """How preference training is to be done."""

    hyperparameters: DpoHyperparameters | None = None


class Method(Body):
    """Which method, and its numbers."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedMethod | None = None
    dpo: DpoMethod | None = None
    reinforcement: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _only_its_own_numbers(self) -> Self:
        for name in ("supervised", "dpo", "reinforcement"):
            if name != self.type and getattr(self, name) is not None:
                raise ValueError(f"'method.{name}' does not go with the method type '{self.type}'")
        return self


class Wandb(Body):
    """Where Weights & Biases shows the run."""

    project: str
    name: str | None = None
    entity: str | None = None
    tags: list[str] | None = None


class Integration(Body):
    """A service that the metrics are sent to."""

    type: Literal["wandb"]
    wandb: Wandb


class LoraTune(Body):
    """Low-rank adapters."""

    type: Literal["lora"] = "lora"
    rank: Annotated[int, Field(ge=1, le=4096)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32
    dropout: Share = 0.0
    targets: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] = "all-linear"
    variant: Literal["lora", "rslora", "dora"] = "lora"


class FullTune(Body):
    """All weights."""

    type: Literal["full"]


class LastLayersTune(Body):
    """The last n blocks."""

    type: Literal["last_layers"]
    n: Positive = 2


class HeadTune(Body):
    """The output head only."""

    type: Literal["head"]


def _tune_type(value: Any) -> str | None:
    found = value.get("type", "lora") if isinstance(value, dict) else getattr(value, "type", None)
    return found if isinstance(found, str) else None


Tune = Annotated[
    Annotated[LoraTune, Tag("lora")]
    | Annotated[FullTune, Tag("full")]
    | Annotated[LastLayersTune, Tag("last_layers")]
    | Annotated[HeadTune, Tag("head")],
    Discriminator(_tune_type),
]


class Schedule(Body):
    """How the learning rate moves."""

    type: Literal["linear", "cosine", "constant"] = "linear"
    warmup_share: Share = 0.03
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0


class Evaluation(Body):
    """How often validation data are looked at, and what follows from it."""

    every_steps: Positive | None = None
    early_stopping_patience: Positive | None = None
    keep_best: bool = False
    samples: Annotated[int, Field(ge=0)] = 0


class Runtime(Body):
    """What the machine is to do it with."""

    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    micro_batch_tokens: Positive | None = None
    threads: Positive | None = None
    checkpointing: bool | Literal["auto"] = "auto"


class Simulate(Body):
    """Speed and faults of the simulated engine."""

    speed: Literal["immediate", "timed", "step"] = "immediate"
    seconds_per_step: Annotated[float, Field(ge=0)] = 0.05
    fail_at_step: Positive | None = None
    fail_code: str = "server_error"
    hang_at_step: Positive | None = None


class Augment(Body):
    """How training images are changed, anew in every epoch."""

    flip: bool = False
    crop: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    mixup: Annotated[float, Field(ge=0)] = 0.0


class Classify(Body):
    """How a classifier is trained, beyond what every model has."""

    balance: Literal["none", "weights", "sampling"] = "none"
    label_smoothing: Share = 0.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    unfreeze: Literal["at_once", "gradually"] = "at_once"
    valid_share: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    warm_start: bool = True
    calibrate: bool = True
    augment: Augment | None = None


class Local(Body):
    """What only this server can do; the SDK sends its LocalOptions here."""

    tune: Tune = LoraTune()
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    schedule: Schedule = Schedule()
    evaluation: Evaluation = Evaluation()
    runtime: Runtime = Runtime()
    simulate: Simulate = Simulate()
    task: Literal["chat", "classify"] = "chat"
    classify: Classify = Classify()


MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]


class CreateJob(Body):
    """The whole body."""

    model: Annotated[str, Field(min_length=1)]
    training_file: str
    validation_file: str | None = None
    hyperparameters: Hyperparameters | None = None
    """OpenAI's older place for the numbers of a supervised job."""
    method: Method | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    metadata: Metadata | None = None
    integrations: Annotated[list[Integration], Field(max_length=5)] | None = None
    local: Local = Local()

    @model_validator(mode="after")
    def _one_place_for_numbers(self) -> Self:
        if self.hyperparameters is not None and self.method is not None and self.method.type != "supervised":
            raise ValueError("'hyperparameters' goes with supervised jobs only; put them into 'method'")
        own = self.method.supervised.hyperparameters if self.method and self.method.supervised else None
        if None not in (self.hyperparameters, own) and self.hyperparameters != own:
            raise ValueError("'hyperparameters' and 'method.supervised.hyperparameters' differ; give the second only")
        return self

    @property
    def method_type(self) -> str:
        """`supervised` unless said otherwise."""
        return self.method.type if self.method else "supervised"

    def numbers(self) -> dict[str, Any]:
        """The hyperparameters as given, "auto" where nothing was."""
        if self.method is not None and self.method.type == "dpo":
            found = self.method.dpo.hyperparameters if self.method.dpo else None
            return (found or DpoHyperparameters()).given()
        own = self.method.supervised.hyperparameters if self.method and self.method.supervised else None
        return (own or self.hyperparameters or Hyperparameters()).given()
