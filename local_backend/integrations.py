"""Sending a job's metrics to Weights & Biases, where that package is installed and has a key."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping
from typing import Any

from local_backend.store.tables import JobRow

log = logging.getLogger("local_backend.integrations")

_NOT_SENT = "The metrics were not sent to Weights & Biases: "


class WandbRun:
    """One run at Weights & Biases. What goes wrong there is noted and never stops the training."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def send(self, data: Mapping[str, Any]) -> None:
        """Send the metrics of one step."""
        if self._run is not None:
            try:
                self._run.log(dict(data), step=data["step"])
            except Exception as error:  # noqa: BLE001 - another company's service must not fail a job
                log.warning("Weights & Biases refused a step: %s", type(error).__name__)
                self._run = None

    def close(self) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish()


def connect(job: JobRow) -> tuple[list[WandbRun], list[str]]:
    """Open what the job's integrations ask for; return the runs, and a note for each that cannot be had."""
    runs, notes = [], []
    for integration in job.integrations:
        reason = _missing()
        if reason is None:
            try:
                runs.append(WandbRun(_open(integration["wandb"], job)))
                continue
            except Exception as error:  # noqa: BLE001 - another company's service must not fail a job
                reason = f"it could not be reached ({type(error).__name__})."
        notes.append(_NOT_SENT + reason)
    return runs, notes


def _missing() -> str | None:
    if importlib.util.find_spec("wandb") is None:
        return "the package is not installed where the jobs run (pip install wandb)."
    if not os.environ.get("WANDB_API_KEY"):
        return "there is no key where the jobs run (set WANDB_API_KEY)."
    return None


def _open(given: Mapping[str, Any], job: JobRow) -> Any:
    """Open a run under the job's id, so that a resumed job goes on in the same one; the tags are those OpenAI adds."""
    import wandb

    return wandb.init(
        project=given["project"],
        name=given.get("name"),
        entity=given.get("entity"),
        tags=[*given.get("tags", []), "openai/finetune", f"openai/{job.model}", f"openai/{job.id}"],
        id=job.id,
        resume="allow",
        config={"model": job.model, "seed": job.seed, **job.hyperparameters},
    )
