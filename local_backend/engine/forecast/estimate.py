"""Forecasts: render the files, choose how to compute, and sum up memory and time."""

from __future__ import annotations

import heapq
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
from local_backend.engine.forecast.content import NOTHING, Content, read_content
from local_backend.engine.forecast.costs import Costs, guessed
from local_backend.engine.forecast.duration import Course, Duration, duration_of
from local_backend.engine.forecast.load import Load, measure_alone, measure_load, measure_whole, together
from local_backend.engine.forecast.memory import Kept, Memory, memory_of
from local_backend.engine.forecast.size import Size, as_trained, empty_model, size_of
from local_backend.engine.frozen import SHARE_OF_FREE_DISK
from local_backend.engine.template import Template
from local_backend.engine.training import DEFAULT_TUNE, context_tokens
from local_backend.engine.vision.reader import reads_images
from local_backend.engine.weights import ModelDir
from local_backend.task import Forecast, JobError, MeasureProgress, Task, UserError

_Found = TypeVar("_Found")
N_LONGEST = 4

SEES = (
    "Examples are computed one at a time, and what it takes to look at their images is not counted: expect more time "
    "than is said here."
)


@dataclass(frozen=True, kw_only=True)
class _Files:
    """What the files of a task hold."""

    train: Content
    valid: Content
    context_tokens: int
    load_s: float
    """Loading what renders them."""

    @property
    def n_tokens(self) -> int:
        return self.train.n_tokens + self.valid.n_tokens

    @property
    def longest_tokens(self) -> int:
        return max(self.train.longest_tokens, self.valid.longest_tokens)

    @property
    def render_s(self) -> float:
        return self.load_s + self.train.render_s + self.valid.render_s


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
        files.train.first_step,
        longest_tokens=files.longest_tokens,
        rendered_tokens=files.n_tokens,
        size=size,
        machine=machine,
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
        n_examples=files.train.n_examples,
        tokens_per_epoch=files.train.n_tokens,
        loss_tokens_per_epoch=files.train.n_loss_tokens,
        longest_example_tokens=files.train.longest_sequence_tokens,
        context_tokens=files.context_tokens,
        time_s=duration.total,
        memory_bytes=memory.total,
        notes=[*_notes(course, size, choice, memory), *([SEES] if sees else [] if measured else [NOT_MEASURED])],
        choices=_choices(choice, machine, tune),
        memory=asdict(memory),
        time=asdict(duration),
        n_sampled=files.train.n_sampled,
        tokens_deviation=files.train.deviation,
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
    load_s = time.perf_counter() - started
    limit = context_tokens(base.path)
    batch_size = task.hyperparameters.batch_size
    read = partial(read_content, template=template, context_tokens=limit, method=task.method, batch_size=batch_size)
    train = read(task.training_path, param="training_file")
    valid = read(task.validation_path, param="validation_file") if task.validation_path else NOTHING
    if not train.n_examples:
        raise JobError("invalid_training_file", "The training file has no examples.", param="training_file")
    return _Files(train=train, valid=valid, context_tokens=limit, load_s=load_s)


def _saves_whole(task: Task) -> bool:
    """Whether checkpoints are whole models: other ways than adapters, and adapters on whole tuned models."""
    is_lora = (task.local.get("tune") or DEFAULT_TUNE).get("type", "lora") == "lora"
    start = task.model.tuned_dir
    return not is_lora or (start is not None and not (start / "adapter_config.json").is_file())


def _course(task: Task, files: _Files, size: Size, choice: Choice) -> Course:
    limit = choice.micro_batch_tokens

    def whole(part: Content, *, frozen: bool = False) -> Load:
        return measure_whole(
            part.neighbours, n_tokens=part.n_tokens, max_tokens=limit, is_packed=size.is_packed, frozen=frozen
        )

    train, valid = files.train, files.valid
    load = measure_load(
        train.rows,
        n_examples=train.n_examples,
        n_tokens=train.n_tokens,
        batch_size=task.hyperparameters.batch_size,
        seed=task.seed,
        max_tokens=limit,
        is_packed=size.is_packed,
    )
    each = [part for part in (train, valid) if part.n_examples]
    once = together([whole(part, frozen=True) for part in each]) if size.frozen_blocks else None
    if once is not None and states_bytes(once, size) >= SHARE_OF_FREE_DISK * shutil.disk_usage(task.work_dir).free:
        once = None
    return Course(
        load=load,
        once=once,
        reference=together([whole(part) for part in each]) if task.method == "dpo" else None,
        valid=whole(valid) if valid.rows else None,
        longest=_longest(files, is_packed=size.is_packed),
        n_epochs=task.hyperparameters.n_epochs,
        batch_size=task.hyperparameters.batch_size,
        valid_every=(task.local.get("evaluation") or {}).get("every_steps"),
        n_valid=valid.n_examples,
        is_recomputed=choice.checkpointing,
        render_s=files.render_s,
    )


def _longest(files: _Files, *, is_packed: bool) -> Load:
    """The longest examples, each by itself: a pack has no less than one."""
    rows = [row for part in (files.train, files.valid) for row in (*part.rows, *part.longest)]
    longest = heapq.nlargest(N_LONGEST, rows, key=lambda row: row.n_tokens)
    return measure_alone([row.parts for row in longest], n_tokens=0, is_packed=is_packed)


def states_bytes(once: Load, size: Size) -> int:
    """Of the file of kept states: of rows, if all blocks are frozen, else of all tokens."""
    n_states = once.rows if size.trained_blocks == 0 else once.tokens
    return int(4 * n_states * size.shape.D)


def _memory(course: Course, files: _Files, size: Size, machine: Machine, costs: Costs) -> Memory:
    """At the worst moment: a step, or the frozen blocks' one pass over everything."""
    loads: Sequence[Load | None] = (course.load, course.longest, course.once, course.reference, course.valid)
    on_gpu, once = machine.device.type == "cuda", course.once
    return memory_of(
        size,
        n_tokens=max(load.largest_tokens for load in loads if load),
        n_rows=max(load.largest_rows for load in loads if load),
        rendered_tokens=files.n_tokens,
        item_bytes=machine.dtype.itemsize,
        is_recomputed=course.is_recomputed,
        process_bytes=0 if on_gpu else costs.process_bytes,
        kept=Kept(n_bytes=states_bytes(once, size), n_entries=int(once.tokens + once.rows)) if once else None,
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
