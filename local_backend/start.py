"""Starting a runner: in a process of its own that outlives this one, or in a thread of this one."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO, Protocol

from sqlalchemy.exc import SQLAlchemyError

from local_backend.runner import Engines, Runner, holder, is_running
from local_backend.settings import Settings
from local_backend.store.database import Store
from local_backend.store.work import Work, runner_row

_STOP_WAIT_S = 60.0
"""Longer than a step takes, which a runner's thread finishes before it stops."""

_BOOT_S = 2.0
"""Longer than a runner takes from its start to its lock."""

log = logging.getLogger("local_backend.start")

STALE_S = 60.0
"""A runner shows its life every two seconds; one that has not for so long does not work any more."""

_LOG_BYTES = 1_000_000
"""The runner's log starts anew beyond this size; the one before is kept."""


class Starter(Protocol):
    """Makes sure that somebody works on the jobs."""

    def ensure(self) -> None:
        """Start a runner if there is work and none runs. Call it after a job was committed."""

    def stop(self) -> None:
        """End what runs inside this process; its job goes on when the home is next opened."""


def starter_for(settings: Settings, store: Store, *, engines: Engines) -> Starter:
    """Return the starter that the settings name."""
    if settings.runner == "thread":
        return ThreadStarter(settings, store, engines=engines)
    return ProcessStarter(settings, store)


class ThreadStarter:
    """Runs jobs in a thread of this process."""

    def __init__(self, settings: Settings, store: Store, *, engines: Engines) -> None:
        self._settings = settings
        self._store = store
        self._engines = engines
        self._lock = threading.Lock()
        self._runner: Runner | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def ensure(self) -> None:
        """Wake the runner's thread, or start one."""
        with self._lock:
            if self._stopped:
                return
            if self._runner is not None:
                self._runner.wake.set()
                return
            if not Work(self._store, owner="").is_waited_for():
                return
            self._runner = Runner(self._settings, self._store, self._engines)
            self._thread = threading.Thread(target=self._run, args=(self._runner,), name="ftclient-runner", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread at its next step."""
        with self._lock:
            self._stopped = True
            runner, thread = self._runner, self._thread
        if runner is not None and thread is not None:
            runner.stop.set()
            runner.wake.set()
            thread.join(_STOP_WAIT_S)

    def _run(self, runner: Runner) -> None:
        """Run until nothing is left. A job created at the last moment is seen here or starts another thread."""
        while True:
            had_lock = _run(runner)
            with self._lock:
                if runner.stop.is_set() or not Work(self._store, owner="").is_waited_for():
                    self._runner = self._thread = None
                    return
            if not had_lock:
                runner.stop.wait(0.2)


def _run(runner: Runner) -> bool:
    """Run; False: another runner has the lock, or the store could not be used and is to be tried again."""
    try:
        return runner.run()
    except (OSError, SQLAlchemyError) as error:
        log.error("the store cannot be used: %s", type(error).__name__)  # noqa: TRY400 - messages may quote data
        return False


class ProcessStarter:
    """Starts a runner as a process of its own."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._lock = threading.Lock()
        self._started_at = -_BOOT_S
        self._timer: threading.Timer | None = None
        self._stopped = False
        self._suspect: float | None = None

    def ensure(self) -> None:
        """Start a runner unless one holds the lock, which looks for work once more when it has let go of it.

        As long as there is work this looks again now and then: a runner that was started a moment ago may not have
        the lock yet, and one that is killed is to be missed soon.
        """
        with self._lock:
            if self._stopped or not Work(self._store, owner="").is_waited_for():
                return
            self._look_again()
            if is_running(self._settings):
                self._watch()
                return
            if time.monotonic() - self._started_at >= _BOOT_S:
                self._started_at = time.monotonic()
                start_process(self._settings)

    def stop(self) -> None:
        """Nothing of this process runs jobs."""
        with self._lock:
            self._stopped = True
            if self._timer is not None:
                self._timer.cancel()

    def _watch(self) -> None:
        """Kill a runner that holds the lock and shows no life (stopped, or hung beyond Python).

        It is looked at twice: after the machine has slept, its last sign of life is old although it lives.
        """
        row = runner_row(self._store)
        if row is None or time.time() - row.heartbeat_at < STALE_S:
            self._suspect = None
            return
        if self._suspect == row.heartbeat_at and holder(self._settings) == row.pid:
            os.kill(row.pid, signal.SIGKILL)
        self._suspect = row.heartbeat_at

    def _ensure_later(self) -> None:
        """Look from the timer, where nobody waits for an answer."""
        try:
            self.ensure()
        except FileNotFoundError:
            log.error("%s: the home is gone, and its jobs with it", self._settings.server_dir)  # noqa: TRY400 - no bug
            self.stop()
        except (OSError, SQLAlchemyError) as error:  # a full disk, above all: it may get better
            log.error("the store cannot be used: %s", type(error).__name__)  # noqa: TRY400 - messages may quote data

    def _look_again(self) -> None:
        if self._timer is None or not self._timer.is_alive() or self._timer is threading.current_thread():
            self._timer = threading.Timer(_BOOT_S, self._ensure_later)
            self._timer.daemon = True
            self._timer.start()


def start_process(settings: Settings) -> int:
    """Start a runner that is independent of this process and its terminal; return its process id."""
    with _open_log(settings.server_dir / "runner.log") as log:
        process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, "-m", "local_backend", "run", *_arguments(settings)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=settings.server_dir,
            env=_environment(),
            start_new_session=True,
        )
    # Somebody has to take note of its end, or it stays in the process table as long as this process lives.
    threading.Thread(target=process.wait, name="ftclient-reap", daemon=True).start()
    return process.pid


def _arguments(settings: Settings) -> list[str]:
    arguments = ["--home", str(settings.home.absolute()), "--cache", str(settings.cache.absolute())]
    arguments += ["--engine", settings.engine]
    return [*arguments, "--allow-local-paths"] if settings.allow_local_paths else arguments


def _environment() -> dict[str, str]:
    """The environment of this process, in which the same modules are found from any folder."""
    here = str(Path(__file__).resolve().parents[1])
    paths = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


def _open_log(path: Path) -> BinaryIO:
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return os.fdopen(handle, "ab")
