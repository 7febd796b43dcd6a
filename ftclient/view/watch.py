"""Watching a job until it ends: drawn where there is a terminal or a notebook, else in lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from rich.console import Console

from ftclient.errors import BackendError, FtclientError
from ftclient.jobs.follow import ENDED, Poll, ending_of
from ftclient.jobs.job import Job
from ftclient.view.frame import Frame
from ftclient.view.plain import Lines
from ftclient.view.scene import Scene
from ftclient.view.words import way_back

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

STOP = ENDED | {"paused"}
"""A paused job is shown and left: it may stay so for days."""
REFRESH_S = 0.25


class Screen(Protocol):
    """Where a job is shown."""

    def show(self, scene: Scene, poll: Poll | None) -> None:
        """Show the scene; `poll` is what is new in it, None when only time has passed."""

    def close(self) -> None:
        """Leave the last picture standing."""


def watch(
    job: Job, *, console: Console | None = None, screen: Screen | None = None, command: str = "ftclient"
) -> FineTuningJob:
    """Show a job until it ends or is paused, and return it as it is then.

    Args:
        job: What to watch.
        console: Where to; None is the terminal behind stderr, or the notebook.
        screen: How; None chooses by what the console can do.
        command: How the shell reaches the same backend, for the texts that say what to type next.

    Raises:
        KeyboardInterrupt: Ctrl-C. The text of how to come back has been printed; the job goes on.
    """
    console = console or Console(stderr=True)
    screen = screen or screen_for(console)
    scene = Scene(job_id=job.id, host=job.host, command=command)
    try:
        screen.show(scene, None)  # a slow host is seen to be asked
        for poll in job.polls(stop=STOP, sleep=_ticking(screen, scene)):
            scene.add(poll, details=_details(job, poll))
            scene.best = earlier_best(job)
            screen.show(scene, poll)
    except KeyboardInterrupt:
        screen.close()
        console.print(way_back(scene), markup=False, highlight=False, soft_wrap=True)
        raise
    except BaseException:
        screen.close()
        raise
    screen.close()
    assert scene.job is not None  # noqa: S101 - polls end only with a job in hand
    return scene.job


def screen_for(console: Console) -> Screen:
    """Return how to show jobs on this console."""
    if console.is_jupyter:
        from ftclient.view.notebook import NotebookScreen

        return NotebookScreen()
    return LiveScreen(console) if can_draw(console) else PlainScreen(console)


def can_draw(console: Console) -> bool:
    """Whether pictures can be drawn over each other: FORCE_COLOR in a log file does not make it a terminal."""
    is_tty = getattr(console.file, "isatty", lambda: False)()
    return bool(is_tty and console.is_terminal and console.is_interactive and not console.is_dumb_terminal)


class LiveScreen:
    """A terminal: one picture, drawn over and over."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.time) -> None:
        from rich.live import Live

        self._clock = clock
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._live.start()

    def show(self, scene: Scene, poll: Poll | None) -> None:  # noqa: ARG002 - the picture has everything
        """Draw the scene as it is now."""
        self._live.update(Frame(scene, self._clock()), refresh=True)

    def close(self) -> None:
        """Leave the last picture standing, all of it."""
        self._live.vertical_overflow = "visible"
        self._live.stop()


class PlainScreen:
    """Anything else: lines."""

    def __init__(self, console: Console) -> None:
        self._console, self._lines = console, Lines()

    def show(self, scene: Scene, poll: Poll | None) -> None:
        """Print what is new."""
        for line in self._lines.of(scene, poll) if poll else ():
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing is left to do."""


def _ticking(screen: Screen, scene: Scene) -> Callable[[float], None]:
    """Return a sleep that keeps clocks in the picture moving."""

    def sleep(pause_s: float) -> None:
        until = time.monotonic() + pause_s
        while (left_s := until - time.monotonic()) > 0:
            time.sleep(min(REFRESH_S, left_s))
            screen.show(scene, None)

    return sleep


def _details(job: Job, poll: Poll) -> dict[str, object]:
    """Return speed and time left where the host tells them; the view does without where it cannot."""
    if poll.job is None or poll.job.status != "running":
        return {}
    try:
        return job.details()
    except BackendError:  # the next look will say what is wrong
        return {}


def earlier_best(job: Job) -> FineTuningJobCheckpoint | None:
    """Return the checkpoint that did best of a job that has ended well, where it is not the last."""
    seen = job.latest
    if seen is None or ending_of(seen) != "succeeded" or not seen.validation_file:
        return None
    try:
        result = job.result()
    except FtclientError:  # the model is there all the same, and its name is what counts
        return None
    best = result.best_checkpoint
    return best if best and best.step_number < result.checkpoints[-1].step_number else None
