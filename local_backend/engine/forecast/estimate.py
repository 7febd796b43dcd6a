"""Forecasts: render the files, choose how to compute, and sum up memory and time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from local_backend.engine import decoder
from local_backend.engine.device import Machine, choose_machine
from local_backend.engine.forecast.calibration import NOT_MEASURED, calibrate
from local_backend.engine.forecast.choice import Choice, budget_bytes, choose, demand_of
from local_backend.engine.forecast.costs import Costs, guessed
from local_backend.engine.forecast.duration import Course, Duration, duration_of
from local_backend.engine.forecast.load import Load, measure_load, measure_whole
from local_backend.engine.forecast.memory import Memory, memory_of
from local_backend.engine.forecast.size import Size, as_trained, empty_model, size_of
from local_backend.engine.frozen import SHARE_OF_FREE_DISK
from local_backend.engine.rows import Row, read_rows
from local_backend.engine.template import Template
from local_backend.engine.training import DEFAULT_TUNE, context_tokens
from local_backend.engine.vision.reader import reads_images
from local_backend.engine.weights import ModelDir
from local_backend.task import Forecast, JobError, MeasureProgress, Task, UserError

_Found = TypeVar("_Found")

SEES = (
    "Examples are computed one at a time, and what it takes to look at their images is not counted: expect more time "
    "than is said here."
)


@dataclass(frozen=True, kw_only=True)
class _Files:
    """The rendered files of a task."""

    rows: list[Row]
    valid_rows: list[Row]
    context_tokens: int
    render_s: float

    @property
    def everything(self) -> list[Row]:
        return [*self.rows, *self.valid_rows]


def forecast(task: Task, *, base: ModelDir, folder: Path, progress: MeasureProgress | None = None) -> Forecast:
    """Render the files and estimate time and memory.

    Args:
        task: What would run.
        base: The model.
        folder: Where measurements of this machine are kept; the first for a model takes some ten seconds.
        progress: Told how such a measurement comes along.

    Raises:
        UserError: A file or the model can't be used; the text names line and remedy.
    """
    tune = task.local.get("tune") or DEFAULT_TUNE
    runtime = task.local.get("runtime") or {}
    machine = _for_users(partial(as_trained, choose_machine(runtime), tune))
    files = _for_users(partial(_files, task, base))
    model = _for_users(partial(empty_model, base.path, tune))
    size = size_of(model, saves_whole=_saves_whole(task), is_packed=decoder.supports(model.config))
    demand = demand_of(
        files.rows, files.valid_rows, size=size, batch_size=task.hyperparameters.batch_size, machine=machine
    )
    choice = choose(demand, runtime, budget_bytes=budget_bytes(machine.device, is_job=False))
    sees = reads_images(base.path)
    measure = partial(calibrate, base, machine=machine, tune=tune, runtime=runtime, folder=folder, progress=progress)
    measured = None if sees else measure()
    costs = measured or guessed(size.shape)
    course = _course(task, files, size, choice)
    memory = _memory(course, files, size, machine, costs)
    duration = duration_of(course, size=size, costs=costs)
    return Forecast(
        n_examples=len(files.rows),
        tokens_per_epoch=sum(row.n_tokens for row in files.rows),
        loss_tokens_per_epoch=sum(len(p.weights) - p.weights.count(0.0) for row in files.rows for p in row.parts),
        longest_example_tokens=max((len(part.ids) for row in files.rows for part in row.parts), default=0),
        context_tokens=files.context_tokens,
        time_s=duration.total,
        memory_bytes=memory.total,
        notes=[*_notes(course, size, choice, memory), *([SEES] if sees else [] if measured else [NOT_MEASURED])],
        choices=_choices(choice, machine, tune),
        memory=asdict(memory),
        time=asdict(duration),
        energy_kwh=_energy_kwh(duration, costs),
    )


def _for_users(make: Callable[[], _Found]) -> _Found:
    try:
        return make()
    except JobError as error:
        raise UserError(error.message, param=error.param, code=error.code) from error


def _files(task: Task, base: ModelDir) -> _Files:
    started = time.perf_counter()
    template = Template.of(base.path)
    limit = context_tokens(base.path)
    read = partial(read_rows, template=template, context_tokens=limit, method=task.method)
    rows = read(task.training_path, param="training_file")
    valid_rows = read(task.validation_path, param="validation_file") if task.validation_path else []
    if not rows:
        raise JobError("invalid_training_file", "The training file has no examples.", param="training_file")
    return _Files(rows=rows, valid_rows=valid_rows, context_tokens=limit, render_s=time.perf_counter() - started)


def _saves_whole(task: Task) -> bool:
    """Whether checkpoints are whole models: other ways than adapters, and adapters on whole tuned models."""
    is_lora = (task.local.get("tune") or DEFAULT_TUNE).get("type", "lora") == "lora"
    start = task.model.tuned_dir
    return not is_lora or (start is not None and not (start / "adapter_config.json").is_file())


def _course(task: Task, files: _Files, size: Size, choice: Choice) -> Course:
    limit = choice.micro_batch_tokens
    whole = partial(measure_whole, max_tokens=limit, is_packed=size.is_packed)
    load = measure_load(
        files.rows,
        batch_size=task.hyperparameters.batch_size,
        seed=task.seed,
        max_tokens=limit,
        is_packed=size.is_packed,
    )
    once = whole(files.everything, frozen=True) if size.frozen_blocks else None
    if once is not None and states_bytes(once, size) >= SHARE_OF_FREE_DISK * shutil.disk_usage(task.work_dir).free:
        once = None
    return Course(
        load=load,
        once=once,
        reference=whole(files.everything) if task.method == "dpo" else None,
        valid=whole(files.valid_rows) if files.valid_rows else None,
        n_epochs=task.hyperparameters.n_epochs,
        batch_size=task.hyperparameters.batch_size,
        valid_every=(task.local.get("evaluation") or {}).get("every_steps"),
        n_valid=len(files.valid_rows),
        is_recomputed=choice.checkpointing,
        render_s=files.render_s,
    )


def states_bytes(once: Load, size: Size) -> int:
    """Of the file of kept states: of rows, if all blocks are frozen, else of all tokens."""
    n_states = once.rows if size.trained_blocks == 0 else once.tokens
    return int(4 * n_states * size.shape.D)


def _memory(course: Course, files: _Files, size: Size, machine: Machine, costs: Costs) -> Memory:
    """At the worst moment: a step, or the frozen blocks' one pass over everything."""
    loads: Sequence[Load | None] = (course.load, course.once, course.reference, course.valid)
    on_gpu = machine.device.type == "cuda"
    return memory_of(
        size,
        n_tokens=max(load.largest_tokens for load in loads if load),
        n_rows=max(load.largest_rows for load in loads if load),
        rendered_tokens=sum(row.n_tokens for row in files.everything),
        item_bytes=machine.dtype.itemsize,
        is_recomputed=course.is_recomputed,
        process_bytes=0 if on_gpu else costs.process_bytes,
        states_bytes=states_bytes(course.once, size) if course.once else 0,
    )


def _choices(choice: Choice, machine: Machine, tune: Any) -> dict[str, Any]:
    """How the job would be computed, under the names that the job's facts have."""
    return {
        "tune": dict(tune),
        "device": str(machine.device),
        "precision": machine.precision,
        "precision_reason": machine.precision_reason,
        "threads": machine.threads,
        "checkpointing": choice.checkpointing,
        "micro_batch_tokens": choice.micro_batch_tokens,
        "micro_batch_reason": choice.reason,
        "largest_micro_batch_tokens": choice.largest_micro_batch_tokens,
        "available_memory_bytes": choice.available_bytes,
    }


def _energy_kwh(duration: Duration, costs: Costs) -> float | None:
    return None if costs.watts is None else costs.watts * duration.total / 3.6e6


def _notes(course: Course, size: Size, choice: Choice, memory: Memory) -> list[str]:
    notes, load = [], course.load
    if load.tokens < 0.9 * load.n_tokens:
        saved = 1 - load.tokens / load.n_tokens
        notes.append(f"Prefixes that examples share are computed once, which saves {saved:.0%} of the tokens.")
    if course.once is not None:
        n_frozen = size.frozen_blocks
        notes.append(
            f"The first {n_frozen} blocks don't train: they are computed once for all epochs and kept on disk."
        )
    if not choice.fits:
        notes.append(
            f"The job would take about {memory.total / 2**30:.1f} GiB, and {choice.available_bytes / 2**30:.1f} GiB "
            "are free: it would run out of memory. Use a smaller model, shorter examples, or train fewer weights."
        )
    return notes
