"""Texts of the view that need no layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftclient.data.counted import counted
from ftclient.view.scene import Scene

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

PATH = ("validating_files", "queued", "running", "succeeded")
"""The way of a job that nothing happens to."""

_NAMES = {"validating_files": "validating", "succeeded": "done"}


def status_name(status: str) -> str:
    """Return a status as the view shows it; one that is not known stands for itself."""
    return _NAMES.get(status, printable(status))


def headline(scene: Scene) -> str:
    """Return model, method and hyperparameters in one line."""
    job = scene.job
    if job is None:
        return f"asking {scene.host.title} ..."
    parts = [printable(job.model), method_of(job)]
    chosen = job.hyperparameters  # null for dpo and reinforcement
    if chosen:
        if isinstance(chosen.n_epochs, int):
            parts.append(counted(chosen.n_epochs, "epoch"))
        if isinstance(chosen.batch_size, int):
            parts.append(f"batch {chosen.batch_size}")
    return " · ".join(parts)


def method_of(job: FineTuningJob) -> str:
    """Return the way of tuning; jobs without one are supervised."""
    return printable(job.method.type) if job.method else "supervised"


def ending(scene: Scene) -> list[str]:
    """Return what to do with a job that has ended or waits; [] while it goes on."""
    job, end = scene.job, scene.ending
    if job is None:
        return []
    if end == "succeeded" and job.fine_tuned_model:
        name = printable(job.fine_tuned_model)
        tokens = f", trained on {job.trained_tokens:,} tokens" if job.trained_tokens else ""
        return [f"Your model{tokens}:", f"  {name}", *best_checkpoint(scene), *_use(scene, name)]
    if end == "failed":
        said = printable((job.error and job.error.message) or "the host gave no reason")
        return [f"Failed: {said.replace('`ftclient ', f'`{scene.command} ')}"]
    if end == "cancelled":
        return ["Cancelled.", *_left(scene)]
    if scene.status == "paused":
        return ["Paused. Go on with:", f"  {scene.command} resume {job.id}"]
    return []


def _left(scene: Scene) -> list[str]:
    """Return how to see the checkpoints of a job that was cancelled, if its last events tell of any."""
    if not any(event.message.startswith("Checkpoint created") for event in scene.events):
        return []
    return ["Its checkpoints can be used:", f"  {scene.command} checkpoints {scene.job_id}"]


def best_checkpoint(scene: Scene) -> list[str]:
    """Return which checkpoint did best in validation, where it is not the last one."""
    if scene.best is None or scene.job is None:
        return []
    step, name = scene.best.step_number, scene.best.fine_tuned_model_checkpoint
    if name == scene.job.fine_tuned_model:
        return [f"It is the checkpoint of step {step:,}, which did best in validation."]
    return [f"The checkpoint of step {step:,} did better in validation:", f"  {printable(name)}"]


def _use(scene: Scene, name: str) -> list[str]:
    if scene.host.before_use:
        return ["Before you use it:", f"  {scene.host.before_use}", f'  {scene.command} chat DEPLOYMENT "..."']
    return ["Use it:", f'  {scene.command} chat {name} "..."', f'  client.chat("{name}", "...")']


def way_back(scene: Scene) -> str:
    """Return how to see a job again that goes on without being watched."""
    return f"Left the view; job {scene.job_id} goes on. Come back with: {scene.command} watch {scene.job_id}"


def clock(seconds: float) -> str:
    """Return a time span as m:ss, or h:mm:ss."""
    whole = max(0, int(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def printable(text: str) -> str:
    """Return text from outside without what could move a terminal's cursor."""
    return "".join(char if char.isprintable() else " " for char in text)
