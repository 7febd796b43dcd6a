"""Ways of fine-tuning and their hyperparameters, as the API names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from ftclient.hosts import MethodType

Auto = Literal["auto"]
Epochs = Annotated[int, Field(ge=1, le=50)]
BatchSize = Annotated[int, Field(ge=1, le=256)]
Multiplier = Annotated[float, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Method(_Frozen):
    """What all methods share. `auto` leaves the choice to the host."""

    type: ClassVar[MethodType]

    n_epochs: Epochs | Auto = "auto"
    """Passes over the training file, 1 to 50."""
    batch_size: BatchSize | Auto = "auto"
    """Examples an optimizer step, 1 to 256."""
    learning_rate_multiplier: Multiplier | Auto = "auto"
    """Times the host's base rate; some hosts read it as the rate itself (see `Host.learning_rate`)."""

    def hyperparameters(self) -> dict[str, Any]:
        """Return what was chosen; `auto` stays out."""
        return {name: value for name, value in self.model_dump(exclude=self._apart()).items() if value != "auto"}

    def body(self) -> dict[str, Any]:
        """Return the `method` object of the create body."""
        chosen = self.hyperparameters()
        return {"type": self.type, self.type: {**({"hyperparameters": chosen} if chosen else {}), **self._beside()}}

    def _apart(self) -> set[str]:
        """Return the fields that are not hyperparameters."""
        return set()

    def _beside(self) -> dict[str, Any]:
        """Return what stands beside the hyperparameters in the body."""
        return {}


class Supervised(_Method):
    """Learn to give the assistant's answers of the examples."""

    type: ClassVar[MethodType] = "supervised"


class DPO(_Method):
    """Learn to prefer one answer over another (direct preference optimization)."""

    type: ClassVar[MethodType] = "dpo"

    beta: Annotated[float, Field(gt=0, le=2)] | Auto = "auto"
    """How strongly to stay near the base model, above 0, up to 2."""


class Reinforcement(_Method):
    """Learn from the scores that a grader gives to sampled answers."""

    type: ClassVar[MethodType] = "reinforcement"

    grader: Mapping[str, Any]
    """A grader object of the API, sent as it is."""
    response_format: Mapping[str, Any] | None = None
    """A JSON schema that sampled answers must follow."""
    compute_multiplier: Annotated[float, Field(gt=0.00001, le=10)] | Auto = "auto"
    eval_interval: Annotated[int, Field(ge=1)] | Auto = "auto"
    eval_samples: Annotated[int, Field(ge=1)] | Auto = "auto"
    reasoning_effort: Literal["default", "low", "medium", "high"] | None = None

    def hyperparameters(self) -> dict[str, Any]:
        """Return what was chosen; `auto` stays out."""
        return {name: value for name, value in super().hyperparameters().items() if value is not None}

    def _apart(self) -> set[str]:
        return {"grader", "response_format"}

    def _beside(self) -> dict[str, Any]:
        beside = {"grader": dict(self.grader)}
        return {**beside, "response_format": dict(self.response_format)} if self.response_format else beside


Method = Supervised | DPO | Reinforcement
