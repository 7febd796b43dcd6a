"""How long a training takes, part by part."""

from __future__ import annotations

from dataclasses import dataclass, fields

from local_backend.engine.forecast.costs import Costs
from local_backend.engine.forecast.load import Load
from local_backend.engine.forecast.size import Size
from local_backend.engine.pace import RESUME_AT_EPOCHS_S, RESUME_EVERY_S, valid_every

RUNNER_S = 0.8
"""Until a runner has opened the store, looked at the files and taken the job, beside what its imports take."""
RECORD_S = 0.004
"""Recording a step, beside what the disk takes."""
CHECKPOINT_SYNCS, RESUME_SYNCS, RECORD_SYNCS = 10, 6, 2
"""Files and folders made safe for each."""


@dataclass(frozen=True, kw_only=True)
class Duration:
    """Seconds of a job from its creation to its end."""

    start: float
    """The runner, torch, the model."""
    render: float
    """The files, as tokens."""
    frozen: float
    """Blocks that do not train, once for all epochs."""
    steps: float
    evaluation: float
    checkpoints: float
    """And resume points."""

    @property
    def total(self) -> float:
        """All of it."""
        return float(sum(getattr(self, field.name) for field in fields(self)))


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a job goes through."""

    load: Load
    """An epoch."""
    once: Load | None
    """All files in one go, through frozen blocks; None: nothing is kept."""
    reference: Load | None
    """All files in one go by the untrained model, for preferences."""
    valid: Load | None
    """The validation file in one go."""
    longest: Load
    """The longest examples, which need not be among those laid out; for the memory that they take."""
    n_epochs: int
    batch_size: int
    valid_every: int | None
    """Steps between validation batches, if asked for."""
    n_valid: int
    """Validation examples."""
    is_recomputed: bool
    render_s: float


def duration_of(course: Course, *, size: Size, costs: Costs) -> Duration:
    """Sum up."""
    steps_s = course.n_epochs * (course.load.prepare_s + _epoch_s(course, size, costs))
    evaluation_s = course.n_epochs * _evaluation_s(course, size, costs)
    return Duration(
        start=RUNNER_S + costs.start_s + costs.load_s,
        render=course.render_s,
        frozen=_once_s(course, size, costs),
        steps=steps_s,
        evaluation=evaluation_s,
        checkpoints=_checkpoints_s(course, size, costs, training_s=steps_s + evaluation_s),
    )


def _epoch_s(course: Course, size: Size, costs: Costs) -> float:
    load, shape = course.load, size.shape
    seconds = costs.train.seconds(load.work(shape, n_blocks=size.trained_blocks))
    n_again = size.trained_blocks if course.is_recomputed else 0
    if course.once is None:
        n_again += size.frozen_blocks
    again = load.work(shape, n_blocks=n_again)
    seconds += costs.forward.seconds(again) - costs.forward.per_row_s * again.rows if n_again else 0.0
    if course.reference is not None:  # the rewards are measured before the gradient
        seconds += costs.forward.per_row_s * load.rows
    per_step_s = costs.per_step_s + costs.per_trained_weight_s * size.trained_weights
    return seconds + load.steps * (per_step_s + RECORD_S + RECORD_SYNCS * costs.sync_s)


def _evaluation_s(course: Course, size: Size, costs: Costs) -> float:
    """The whole file at the end of an epoch, and a batch of it every so many steps."""
    if course.valid is None:
        return 0.0
    n_blocks = size.shape.n_blocks if course.once is None else size.trained_blocks
    whole_s = costs.forward.seconds(course.valid.work(size.shape, n_blocks=n_blocks))
    steps = course.load.steps
    every = valid_every(course.valid_every, steps_per_epoch=steps)
    share = min(1.0, course.batch_size / course.n_valid)
    return whole_s * (1.0 + steps / every * share)


def _once_s(course: Course, size: Size, costs: Costs) -> float:
    seconds = 0.0
    if course.once is not None:
        work = course.once.work(size.shape, n_blocks=size.frozen_blocks)
        seconds += costs.forward.seconds(work) - costs.forward.per_row_s * work.rows + 2 * course.once.prepare_s
    if course.reference is not None:
        n_blocks = size.shape.n_blocks if course.once is None else size.trained_blocks
        seconds += costs.forward.seconds(course.reference.work(size.shape, n_blocks=n_blocks))
    return seconds


def _checkpoints_s(course: Course, size: Size, costs: Costs, *, training_s: float) -> float:
    trained_bytes = 4 * size.trained_weights
    shared_bytes = 4 * size.frozen_weights if size.saves_whole else 0  # the checkpoints of a job have them in common
    checkpoint_s = trained_bytes / costs.write_bytes_per_s + CHECKPOINT_SYNCS * costs.sync_s
    resume_s = 3 * trained_bytes / costs.write_bytes_per_s + RESUME_SYNCS * costs.sync_s
    epoch_s = training_s / course.n_epochs
    n_between = int(training_s // RESUME_EVERY_S)
    n_resume = max(n_between, course.n_epochs) if epoch_s > RESUME_AT_EPOCHS_S else n_between
    return shared_bytes / costs.write_bytes_per_s + course.n_epochs * checkpoint_s + n_resume * resume_s
