"""Several jobs in one view: a table that is drawn again and again, or lines where nothing can be drawn."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ftclient.errors import FtclientError
from ftclient.jobs.follow import Poll
from ftclient.jobs.job import Job
from ftclient.view.scene import Scene
from ftclient.view.watch import REFRESH_S, STOP, can_draw
from ftclient.view.words import clock, printable, status_name

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

_NARROW = 70
_LEAVE_S = 2.0
"""How long a view that is left waits for calls that are under way."""
_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "red", "running": "cyan"}
_News = tuple[int, "Poll | FtclientError | None"]


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
        FtclientError: A job cannot be followed any more; the others are still shown to their end first.
        KeyboardInterrupt: Ctrl-C. The text of how to come back has been printed; the jobs go on.
    """
    console = console or Console(stderr=True)
    scenes = [Scene(job_id=job.id, host_title=job.host.title, command=command) for job in jobs]
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
        screen.close()
        for thread in threads:
            thread.join(_LEAVE_S)  # so that nobody closes the client under a call
        if isinstance(error, KeyboardInterrupt):
            ids = " ".join(job.id for job in jobs)
            text = f"Left the view; the jobs go on. Come back with: {command} watch {ids}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        raise
    screen.close()
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
    except FtclientError as error:
        news.put((number, error))
    except _LeftError:
        return
    else:
        news.put((number, None))


def _show_until_all_end(
    scenes: Sequence[Scene],
    screen: _Drawn | _Printed,
    news: queue.SimpleQueue[_News],
    check: Callable[[], None] | None,
) -> list[FtclientError]:
    """Show what comes, and return the errors of jobs that could not be followed to their end."""
    going, errors = set(range(len(scenes))), list[FtclientError]()
    while going:
        try:
            number, found = news.get(timeout=REFRESH_S)
            if isinstance(found, Poll):
                scenes[number].add(found)
            else:
                going.discard(number)
                if found is not None:
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
        self._scenes = scenes
        if time.monotonic() - self._drawn_at >= REFRESH_S / 2:
            self._drawn_at = time.monotonic()
            self._live.update(table(scenes, now=time.time(), width=self._live.console.width), refresh=True)

    def close(self) -> None:
        """Leave the last table standing."""
        self._live.update(table(self._scenes, now=time.time(), width=self._live.console.width), refresh=True)
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

    def close(self) -> None:
        """Nothing is left to do."""


def table(scenes: Sequence[Scene], *, now: float, width: int) -> RenderableType:
    """Return one row a job; narrow terminals get fewer columns."""
    is_wide = width >= _NARROW
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("job", "status", "step", *(("loss", "valid loss", "left") if is_wide else ())):
        shown.add_column(name, justify="left" if name in ("job", "status") else "right", overflow="fold")
    for scene in scenes:
        step = f"{scene.step}/{scene.total_steps}" if scene.total_steps else ""
        cells: list[str | Text] = [Text(printable(scene.job_id)), _status(scene), step]
        if is_wide:
            cells += [_last(scene.train), _last(scene.valid), _left(scene, now)]
        shown.add_row(*cells)
    return shown


def _status(scene: Scene) -> Text:
    if scene.trouble:
        return Text("no answer", style="yellow")
    return Text(status_name(scene.status), style=_STYLES.get(scene.status, ""))


def _last(series: dict[int, float]) -> str:
    return f"{series[max(series)]:.3f}" if series else ""


def _left(scene: Scene, now: float) -> str:
    left_s = None if scene.ended else scene.remaining_s(now)
    return clock(left_s) if left_s is not None else ""
