"""Several jobs in one view: a table that is drawn again and again, or lines where nothing can be drawn."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ftclient.jobs.follow import Poll
from ftclient.jobs.job import Job
from ftclient.view.scene import Scene
from ftclient.view.watch import REFRESH_S, STOP, can_draw, earlier_best
from ftclient.view.words import best_checkpoint, clock, ending, printable, status_name

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

_NARROW = 70
_LEAVE_S = 2.0
"""How long a view that is left waits for calls that are under way."""
_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "red", "running": "cyan"}
_News = tuple[int, "Poll | Exception | _End"]


class _End(NamedTuple):
    """Nothing more will come of a job."""

    best: FineTuningJobCheckpoint | None


class _LeftError(Exception):
    """Ends the thread of a view that has been left."""


def watch_all(
    jobs: Sequence[Job],
    *,
    console: Console | None = None,
    command: str = "ftclient",
    check: Callable[[], None] | None = None,
) -> list[FineTuningJob]:
    """Show jobs until each has ended or is paused, and return them as they are then, in the same order.

    Args:
        jobs: What to watch.
        console: Where to; None is the terminal behind stderr.
        command: How this program is called, for the text of how to come back.
        check: Called several times a second; what it raises ends the view.

    Raises:
        Exception: The first error of a job that cannot be followed any more, mostly a FtclientError; the others are
            still shown to their end first.
        KeyboardInterrupt: Ctrl-C. The text of how to come back has been printed; the jobs go on.
    """
    console = console or Console(stderr=True)
    scenes = [Scene(job_id=job.id, host=job.host, command=command) for job in jobs]
    left, news = threading.Event(), queue.SimpleQueue[_News]()
    threads = [
        threading.Thread(target=_follow, args=(job, number, news, left), name=f"watch-{job.id}", daemon=True)
        for number, job in enumerate(jobs)
    ]
    for thread in threads:
        thread.start()
    screen = _Drawn(console) if can_draw(console) else _Printed(console)
    try:
        errors = _show_until_all_end(scenes, screen, news, check)
    except BaseException as error:
        left.set()
        screen.close(scenes)
        for thread in threads:
            thread.join(_LEAVE_S)  # so that nobody closes the client under a call
        if isinstance(error, KeyboardInterrupt):
            ids = " ".join(job.id for job in jobs)
            text = f"Left the view; the jobs go on. Come back with: {command} watch {ids}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        raise
    screen.close(scenes)
    if errors:
        raise errors[0]
    return [scene.job for scene in scenes if scene.job is not None]


def _follow(job: Job, number: int, news: queue.SimpleQueue[_News], left: threading.Event) -> None:
    def sleep(pause_s: float) -> None:
        if left.wait(pause_s):
            raise _LeftError

    try:
        for poll in job.polls(stop=STOP, sleep=sleep):
            news.put((number, poll))
        news.put((number, _End(earlier_best(job))))
    except _LeftError:
        return
    except Exception as error:  # noqa: BLE001 - a thread that ended without a word would be waited for for ever
        news.put((number, error))


def _show_until_all_end(
    scenes: Sequence[Scene],
    screen: _Drawn | _Printed,
    news: queue.SimpleQueue[_News],
    check: Callable[[], None] | None,
) -> list[Exception]:
    """Show what comes, and return the errors of jobs that could not be followed to their end."""
    going, errors = set(range(len(scenes))), list[Exception]()
    while going:
        try:
            number, found = news.get(timeout=REFRESH_S)
            if isinstance(found, Poll):
                scenes[number].add(found)
            else:
                going.discard(number)
                if isinstance(found, _End):
                    scenes[number].best = found.best
                else:
                    scenes[number].trouble = str(found)
                    errors.append(found)
        except queue.Empty:
            pass
        if check:
            check()
        screen.show(scenes)
    return errors


class _Drawn:
    """A terminal: one table, drawn over and over."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._live = Live(console=console, auto_refresh=False, vertical_overflow="visible")
        self._live.start()
        self._drawn_at = 0.0

    def show(self, scenes: Sequence[Scene]) -> None:
        """Draw the table as it is now, at most a few times a second."""
        if time.monotonic() - self._drawn_at >= REFRESH_S / 2:
            self._drawn_at = time.monotonic()
            self._live.update(table(scenes, now=time.time(), width=self._live.console.width), refresh=True)

    def close(self, scenes: Sequence[Scene]) -> None:
        """Leave the last table standing, with how the jobs have ended below it."""
        self._live.update(last_table(scenes, now=time.time(), width=self._live.console.width), refresh=True)
        self._live.stop()


class _Printed:
    """Anything else: a line whenever a job's status changes."""

    def __init__(self, console: Console) -> None:
        self._console, self._told = console, dict[str, str]()

    def show(self, scenes: Sequence[Scene]) -> None:
        """Print what has changed."""
        for scene in scenes:
            state = printable(scene.trouble) if scene.trouble else status_name(scene.status)
            if scene.job and self._told.get(scene.job_id) != state:
                self._told[scene.job_id] = state
                self._console.print(f"{scene.job_id}  {state}", markup=False, highlight=False, soft_wrap=True)

    def close(self, scenes: Sequence[Scene]) -> None:
        """Print how the jobs have ended."""
        for line in endings(scenes):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def last_table(scenes: Sequence[Scene], *, now: float, width: int) -> RenderableType:
    """Return the table as it stays, with how jobs have ended below it."""
    lines = [Text(line, overflow="fold") for line in endings(scenes)]
    return Group(table(scenes, now=now, width=width), *lines)


def endings(scenes: Sequence[Scene]) -> list[str]:
    """Return a line for each job that failed, and for each whose best checkpoint is not the last."""
    lines = []
    for scene in scenes:
        told = ending(scene)[:1] if scene.ending == "failed" else best_checkpoint(scene)
        if told:
            lines.append(f"{printable(scene.job_id)}: {' '.join(line.strip() for line in told)}")
    return lines


def table(scenes: Sequence[Scene], *, now: float, width: int) -> RenderableType:
    """Return one row a job; narrow terminals get two lines and fewer numbers, so that ids stay whole."""
    if width < _NARROW:
        return Group(*[line for scene in scenes for line in _narrow(scene)])
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("job", "status", "step", "loss", "valid loss", "left"):
        shown.add_column(name, justify="left" if name in ("job", "status") else "right", overflow="fold")
    for scene in scenes:
        course = scene.course
        cells = (_step(scene), _last(course.train), _last(course.valid), _left(scene, now))
        shown.add_row(Text(printable(scene.job_id)), _status(scene), *cells)
    return shown


def _narrow(scene: Scene) -> tuple[Text, Text]:
    return Text(printable(scene.job_id), overflow="fold"), Text("  ").append(_status(scene)).append(f"  {_step(scene)}")


def _step(scene: Scene) -> str:
    return f"{scene.course.step}/{scene.course.total_steps}" if scene.course.total_steps else ""


def _status(scene: Scene) -> Text:
    if scene.trouble:
        return Text("no answer", style="yellow")
    return Text(status_name(scene.status), style=_STYLES.get(scene.status, ""))


def _last(series: dict[int, float]) -> str:
    return f"{series[max(series)]:.3f}" if series else ""


def _left(scene: Scene, now: float) -> str:
    left_s = None if scene.ending else scene.remaining_s(now)
    return clock(left_s) if left_s is not None else ""
