"""The runner: validates jobs and runs them in order, one at a time, until none is left.

One runner works on a home at a time; a lock on `runner.lock` decides which, and the system releases it with the
process, however that dies. Whoever creates a job starts a runner if the lock is free. A runner that is about to go
looks for jobs once more after it has released the lock, so that none is stranded in between.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

from sqlalchemy.exc import SQLAlchemyError

from local_backend.models import reference
from local_backend.names import is_tuned, random_text
from local_backend.recorder import JobRecorder, StoppedError, result_csv
from local_backend.room import is_no_room
from local_backend.settings import EngineName, Settings
from local_backend.store.blobs import Incoming, blob_path, sync_folder
from local_backend.store.database import Store
from local_backend.store.models import Models
from local_backend.store.sweep import sweep_job, sweep_jobs
from local_backend.store.tables import JobRow
from local_backend.store.work import Work
from local_backend.task import Engine, Hyperparameters, JobError, ModelRef, Signal, Task, UserError
from local_backend.trace import where
from local_backend.validation import validate

IDLE_S = 3.0
"""How long a runner waits for more work before it goes."""

POLL_S = 0.1
"""How often it looks for work that another process may have left."""

BEAT_S = 2.0

MAX_ATTEMPTS = 5
"""A job whose process died so often without one new step is given up."""

STUCK_S = 60.0
"""How long after a cancel a training may keep the runner before the runner is replaced."""

_LOCK_PATIENCE_S = 0.5
"""Longer than anybody holds the lock just to look whether it is free."""

log = logging.getLogger("local_backend.runner")


class Engines:
    """The engines by name, each loaded on first use. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._loaded: dict[str, Engine] = {}

    def get(self, name: str) -> Engine:
        """Return an engine."""
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = engine_for(replace(self._settings, engine=cast("EngineName", name)))
            return self._loaded[name]


def engine_for(settings: Settings) -> Engine:
    """Return the engine that the settings name; torch is loaded by its engine on first use."""
    if settings.engine == "simulated":
        from local_backend.simulated import SimulatedEngine

        return SimulatedEngine(settings)
    from local_backend.engine import TorchEngine

    return TorchEngine(settings)


def lock_path(settings: Settings) -> Path:
    """Where the lock of this home's runner is."""
    return settings.server_dir / "runner.lock"


@contextmanager
def held_lock(path: Path, *, pid: int) -> Iterator[bool]:
    """Hold the runner's lock, with a process id inside; yields False if another runner has it."""
    with path.open("a+b") as file:
        mine = _lock(file, fcntl.LOCK_EX)
        if mine:
            file.truncate(0)
            file.write(str(pid).encode())
            file.flush()
        yield mine


def holder(settings: Settings) -> int:
    """The process id of the runner that holds the lock; 0 if it is a thread of some program, or there is none."""
    text = lock_path(settings).read_bytes() if is_running(settings) else b""
    return int(text) if text.isdigit() else 0


def is_running(settings: Settings) -> bool:
    """Whether a runner works on this home."""
    with lock_path(settings).open("a+b") as file:
        return not _try_lock(file, fcntl.LOCK_SH)


def _lock(file: IO[bytes], kind: int) -> bool:
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while not _try_lock(file, kind):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _try_lock(file: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Runner:
    """Works on the jobs of one home. `run` returns when none is left, another runner is at it, or `stop` is set."""

    def __init__(
        self, settings: Settings, store: Store, engines: Engines, *, make_way: Callable[[], None] | None = None
    ) -> None:
        self._settings = settings
        self._store = store
        self._engines = engines
        self._work = Work(store, owner=random_text(16))
        self.stop = threading.Event()
        self.wake = threading.Event()
        self._make_way = make_way
        """Ends this process and starts another runner; None: it runs in a thread, which cannot be ended."""
        self._job: str | None = None
        self._unwanted_since: float | None = None
        self._beat_at = -BEAT_S
        self._home_inode = 0

    def run(self) -> bool:
        """Work until nothing is left; False if another runner has the lock."""
        while True:
            pid = 0 if self._make_way is None else os.getpid()
            with held_lock(lock_path(self._settings), pid=pid) as mine:
                if not mine:
                    return False
                self._work_under_lock()
            if self.stop.is_set() or not self._work.is_waited_for():
                return True

    def _work_under_lock(self) -> None:
        self._home_inode = self._settings.server_dir.stat().st_ino
        self._work.take_over()
        with _put_off():
            sweep_jobs(self._store)
        done = threading.Event()
        side = threading.Thread(target=self._attend, args=(done,), name="ftclient-validate", daemon=True)
        side.start()
        try:
            self._run_jobs()
        except StoppedError:
            log.info("stopped; unfinished jobs go on when the home is next opened")
        finally:
            done.set()
            side.join()
            self._work.rest()

    def _run_jobs(self) -> None:
        last_work = time.monotonic()
        while not self.stop.is_set() and time.monotonic() - last_work < IDLE_S:
            self.wake.clear()
            job = self._work.claim()
            if job is not None:
                self._run_job(job)
            if job is not None or self._work.is_waited_for():
                last_work = time.monotonic()
            if job is None:
                self.wake.wait(POLL_S)

    def _attend(self, done: threading.Event) -> None:
        """Beside the training: look at the files of new jobs, and show that the runner is alive."""
        while not done.is_set():
            try:
                is_busy = self._attend_once()
            except (OSError, SQLAlchemyError) as error:  # a full disk, above all: it may get better
                log.error("the store cannot be used: %s", type(error).__name__)  # noqa: TRY400 - no training text
                is_busy = False
                done.wait(BEAT_S)
            if not is_busy:
                done.wait(POLL_S)

    def _attend_once(self) -> bool:
        if not self._has_home():
            log.error("%s is gone: nothing is left to work on", self._settings.server_dir)
            self.stop.set()
            return False
        job = self._work.next_to_validate()
        if job is not None:
            self._validate(job)
            self.wake.set()
        if time.monotonic() - self._beat_at > BEAT_S:
            self._work.beat(self._job)
            self._replace_if_stuck()
            self._beat_at = time.monotonic()
        return job is not None

    def _has_home(self) -> bool:
        """Whether the home is still there: what was deleted can be written to for ever, and nobody reads it."""
        try:
            return self._settings.server_dir.stat().st_ino == self._home_inode
        except FileNotFoundError:
            return False

    def _replace_if_stuck(self) -> None:
        """An engine that does not notice a cancel keeps all other jobs from running: then this process ends."""
        job = self._job
        if job is None or self._work.signal(job) is not Signal.CANCEL:
            self._unwanted_since = None
        elif self._unwanted_since is None:
            self._unwanted_since = time.monotonic()
        elif time.monotonic() - self._unwanted_since > STUCK_S and self._make_way is not None:
            log.error("%s: still busy %d s after its end; another runner takes over", job, STUCK_S)
            self._make_way()

    def _validate(self, job: JobRow) -> None:
        try:
            verdict = validate(job, blobs=self._store.blobs, settings=self._settings)
        except JobError as error:
            self._work.rejected(job.id, error=error_object(error), notes=[])
        except Exception as error:  # noqa: BLE001 - whatever it is, this job fails and the next ones go on
            log.error("%s: %s", job.id, where(error))  # noqa: TRY400 - messages may quote training text
            self._work.rejected(job.id, error=error_object(_crash(error)), notes=[])
        else:
            self._work.validated(job.id, hyperparameters=verdict.hyperparameters, notes=verdict.notes)

    def _run_job(self, job: JobRow) -> None:
        """Run one job to its end, a pause or a cancel."""
        log.info("%s: taken up (attempt %d)", job.id, job.attempts)
        self._job = job.id
        try:
            self._train(job)
        except StoppedError:
            with _put_off():
                self._work.put_back(job.id)
            raise
        except JobError as error:
            self._fail(job, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, this job fails and the next ones go on
            log.error("%s: %s", job.id, where(error))  # noqa: TRY400 - messages may quote training text
            self._fail(job, _crash(error))
        finally:
            self._job = None
        with _put_off():
            sweep_job(self._store, job.id)

    def _fail(self, job: JobRow, error: JobError) -> None:
        """Record a failure, if need be once there is room for that: a job that is not ended would be trained again."""
        base = base_of(job.model, store=self._store, settings=self._settings)
        while True:
            try:
                return self._work.failed(job.id, error_object(error), base=base)
            except (OSError, SQLAlchemyError) as trouble:
                log.error("%s: its end cannot be recorded: %s", job.id, type(trouble).__name__)  # noqa: TRY400 - as above
            if self.stop.wait(BEAT_S):
                raise StoppedError

    def _train(self, job: JobRow) -> None:
        if job.attempts > MAX_ATTEMPTS:
            raise JobError("server_error", _gave_up_text(job))
        task = task_of(job, store=self._store, settings=self._settings)
        task.work_dir.mkdir(mode=0o700, exist_ok=True)
        sync_folder(task.work_dir.parent)
        recorder = JobRecorder(self._work, job, stop=self.stop)
        with closing(recorder):
            outcome = self._engines.get(job.engine).train(task, recorder)
        log.info("%s: %s", job.id, outcome.kind)
        if outcome.kind == "paused":
            self._work.paused(job.id, outcome, base=task.model.base)
        elif outcome.kind == "succeeded":
            with Incoming(self._store.incoming) as incoming:
                incoming.write(result_csv(self._work.metrics(job.id)))
                self._work.succeeded(job.id, outcome, base=task.model.base, result=incoming.finish())


def task_of(job: JobRow, *, store: Store, settings: Settings) -> Task:
    """Describe a validated job to an engine.

    Raises:
        JobError: The tuned model that it starts from is gone.
    """
    return Task(
        job_id=job.id,
        model=model_of(job.model, store=store, settings=settings),
        method="dpo" if job.method == "dpo" else "supervised",
        training_path=blob_path(store.blobs, job.training_sha256),
        validation_path=blob_path(store.blobs, job.validation_sha256) if job.validation_sha256 else None,
        hyperparameters=Hyperparameters(**job.hyperparameters),
        seed=job.seed,
        local=job.local,
        work_dir=store.jobs / job.id,
    )


def model_of(name: str, *, store: Store, settings: Settings) -> ModelRef:
    """Return what an engine starts from: a base model, or a tuned one with its folder.

    Raises:
        JobError: There is no such model any more.
    """
    if not is_tuned(name):
        try:
            return reference(name, settings=settings)
        except UserError as error:
            raise JobError(error.code or "model_not_found", error.message, "model") from error
    row = Models(store).get(name)
    if row is None:
        raise JobError("model_not_found", f"The model {name} was deleted; choose another one.", "model")
    return ModelRef(base=row.base, tuned_dir=Path(row.model_dir))


@contextmanager
def _put_off() -> Iterator[None]:
    """Tidying that a store in trouble does not allow now is done by the next runner."""
    try:
        yield
    except (OSError, SQLAlchemyError) as error:
        log.warning("the store cannot be used: %s", type(error).__name__)


def base_of(name: str, *, store: Store, settings: Settings) -> str:
    """The base model of what a job starts from, also where that has gone since: its checkpoints are named after it."""
    if is_tuned(name):
        return Models(store).base_of(name) or name
    try:
        return reference(name, settings=settings).base
    except (UserError, OSError):
        return name


def error_object(error: JobError) -> dict[str, str | None]:
    """The `error` of a failed job."""
    return {"code": error.code, "message": error.message, "param": error.param}


def _gave_up_text(job: JobRow) -> str:
    step = job.progress.get("step", 0)
    return (
        f"The training process died {MAX_ATTEMPTS} times in a row after step {step}, most likely for want of memory. "
        "Use a smaller model, shorter examples or a smaller batch_size."
    )


def _crash(error: Exception) -> JobError:
    if is_no_room(error):
        return JobError("disk_full", "The training stopped: the disk is full. Free some space.")
    if isinstance(error, OSError) and error.errno is not None:
        return JobError("server_error", f"The training stopped: {error.strerror}; runner.log says where.")
    name = type(error).__name__
    return JobError("server_error", f"The training stopped on an internal error ({name}); runner.log says where.")
