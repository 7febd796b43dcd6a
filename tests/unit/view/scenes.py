"""Scenes of jobs, made from objects of the official client's own types."""

from __future__ import annotations

from typing import Any

from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from ftclient import Host, StepMetrics, hosts
from ftclient.jobs.follow import Poll
from ftclient.view.curves import Curves
from ftclient.view.scene import Scene

BORN = 1_790_000_000
JOB_ID = "ftjob-abc123"


def job(status: str = "running", **fields: Any) -> FineTuningJob:
    """Return a job as the API sends it."""
    return FineTuningJob.construct(
        **{
            "id": JOB_ID,
            "created_at": BORN,
            "finished_at": None,
            "error": {"code": None, "message": None, "param": None},
            "fine_tuned_model": None,
            "hyperparameters": {"n_epochs": 4, "batch_size": 8, "learning_rate_multiplier": 1.0},
            "method": {"type": "supervised"},
            "model": "smollm2-135m",
            "object": "fine_tuning.job",
            "status": status,
            "trained_tokens": None,
            **fields,
        }
    )


def event(number: int, message: str, **fields: Any) -> FineTuningJobEvent:
    """Return an event as the API sends it, `number` seconds after the job was made."""
    return FineTuningJobEvent.construct(
        **{
            "id": f"ftevent-{number}",
            "created_at": BORN + number,
            "level": "info",
            "message": message,
            "object": "fine_tuning.job.event",
            "type": "message",
            "data": {},
            **fields,
        }
    )


def step(number: int, total: int, loss: float, **more: float) -> FineTuningJobEvent:
    """Return the metrics event of one step, one second after the one before."""
    data = {"step": number, "total_steps": total, "train_loss": loss, **more}
    text = f"Step {number}/{total}: training loss={loss:.2f}"
    return event(number, text, type="metrics", data=data)


def scene(*polls: Poll, details: dict[str, Any] | None = None, host: Host = hosts.LOCAL) -> Scene:
    """Return a scene that has taken in `polls`."""
    made = Scene(job_id=JOB_ID, host=host)
    for poll in polls:
        made.add(poll, details=details)
    return made


def half_way() -> Scene:
    """Return a job after 60 of its 120 steps, with validation every 20."""
    steps = [
        step(n, 120, 2.5 / (1 + n / 10), **({"valid_loss": 2.6 / (1 + n / 10)} if n % 20 == 0 else {}))
        for n in range(1, 61)
    ]
    first = [event(0, f"Created fine-tuning job: {JOB_ID}"), event(0, "Fine-tuning job started")]
    details = {"progress": {"step": 60, "total_steps": 120, "tokens_per_s": 1234.5, "remaining_s": 61.0}}
    return scene(Poll(job(), [*first, *steps]), details=details)


def done() -> Scene:
    """Return a job that has ended well."""
    made = half_way()
    name = "ft:smollm2-135m:personal::a1b2c3d4"
    ended = job("succeeded", finished_at=BORN + 130, fine_tuned_model=name, trained_tokens=63_048)
    last = [step(n, 120, 0.2) for n in range(61, 121)]
    made.add(Poll(ended, [*last, event(130, f"New fine-tuned model created: {name}")]))
    return made


def failed_resumable() -> Scene:
    """Return a job that failed at a backend with a home of its own, and can go on."""
    text = (
        "The disk is full: resume/step-00000040 could not be written. Free some space. Go on from step 35 with "
        f"`ftclient resume {JOB_ID}`. The model as it was after step 30 can be used: "
        "ft:smollm2-135m:personal::a1b2c3d4:ckpt-step-30"
    )
    made = half_way()
    made.command = "ftclient --home here"
    made.add(Poll(job("failed", error={"code": "disk_full", "message": text, "param": None}), []))
    return made


def at_azure() -> Scene:
    """Return a job that has ended well at a host where that is not the end of it."""
    name = "gpt-4.1-mini-2025-04-14.ft-abc123"
    return scene(Poll(job("succeeded", finished_at=BORN + 130, fine_tuned_model=name), []), host=hosts.AZURE)


def best_kept() -> Scene:
    """Return a job whose final model is its best checkpoint, not its last."""
    made = done()
    made.best = FineTuningJobCheckpoint.construct(step_number=40, fine_tuned_model_checkpoint=made.job.fine_tuned_model)
    return made


def curves() -> Curves:
    """Return the curves of a job whose accuracy was measured too."""
    return Curves(
        [
            StepMetrics(
                step=n,
                train_loss=2.5 / (1 + n / 10),
                train_mean_token_accuracy=1 - 0.8 / (1 + n / 10),
                **({"full_valid_loss": 2.6 / (1 + n / 10)} if n % 20 == 0 else {}),
            )
            for n in range(1, 121)
        ]
    )


def several() -> list[Scene]:
    """Return jobs of all kinds, as one table shows them."""
    failed = job("failed", error={"code": "x", "message": "Example 6 has [no] role.", "param": None})
    scenes = [
        overfitted(),
        scene(Poll(job(), [step(9, 36, 1.25, full_valid_loss=1.5)])),
        scene(Poll(job("compressing"), [])),
        scene(Poll(job("paused"), []), Poll(None, (), "gone")),
        scene(Poll(failed, [step(3, 36, 2.5)])),
    ]
    for number, each in enumerate(scenes, start=1):
        each.job_id = f"ftjob-{number:024}"
    return scenes


def overfitted() -> Scene:
    """Return a job that has ended well, but did best at step 40."""
    made = done()
    made.best = FineTuningJobCheckpoint.construct(
        step_number=40, fine_tuned_model_checkpoint="ft:smollm2-135m:personal::a1b2c3d4:ckpt-step-40"
    )
    return made
