"""What a job leaves behind: the final model, its checkpoints, and its metrics by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftclient.jobs.curves import Overfitting, best_checkpoint, find_overfitting
from ftclient.jobs.diagnosis import Diagnosis, diagnose
from ftclient.jobs.metrics import StepMetrics

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """A job that ended well."""

    job_id: str
    model: str
    """Name of the tuned model, to be used wherever a model's name is."""
    metrics: Sequence[StepMetrics]
    checkpoints: Sequence[FineTuningJobCheckpoint]
    trained_tokens: int | None
    """Billed tokens over all epochs."""
    job: FineTuningJob
    """The job as the API returned it last."""

    @property
    def overfitting(self) -> Overfitting | None:
        """Where validation turned while training loss fell; None where it did not, or was not measured."""
        return find_overfitting(self.metrics)

    @property
    def diagnosis(self) -> Diagnosis:
        """Whether the job learnt its examples by heart, too little, or well, with the evidence."""
        return diagnose(self.metrics)

    @property
    def best_checkpoint(self) -> FineTuningJobCheckpoint | None:
        """The checkpoint that did best on validation; that of the final model where it is as good but for noise."""
        return best_checkpoint(self.checkpoints, self.metrics, model=self.model)

    @property
    def best_model(self) -> str:
        """Name of the model to use: that of the best checkpoint, else the final one."""
        best = self.best_checkpoint
        return best.fine_tuned_model_checkpoint if best else self.model

    def plot(self, path: Path | str) -> Path:
        """Write the curves as a picture, `.svg` or `.png`, and return its path.

        Raises:
            MissingDependencyError: PNG needs the extra `plots`.
        """
        from ftclient.jobs.curves_image import write_curves

        return write_curves(self.metrics, Path(path), title=self.model)
