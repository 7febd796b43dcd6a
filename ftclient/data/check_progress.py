"""A progress bar for checks, on stderr: share, bytes a second and the time that is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftclient.data.check import Progress

_SHOWN_AFTER_BYTES = 16 << 20
"""Smaller files are checked before a bar could be read."""


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """Give a callback for the argument `progress` of `check_file` and `Dataset.check` that draws a bar.

    Nothing is drawn for small files, nor where stderr is no terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(label, total=None, visible=False)

        def show(done_bytes: int, total_bytes: int | None) -> None:
            is_large = (total_bytes or done_bytes) >= _SHOWN_AFTER_BYTES
            bars.update(task, completed=done_bytes, total=total_bytes, visible=is_large)

        yield show
