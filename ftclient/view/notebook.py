"""A job in a notebook: one output, replaced at most twice a second."""

from __future__ import annotations

import io
import time
from importlib import import_module
from typing import Any

from rich.console import Console

from ftclient.jobs.follow import Poll
from ftclient.view.frame import Frame
from ftclient.view.scene import Scene

_WIDTH, _HEIGHT = 90, 40
_INTERVAL_S = 0.5
_FORMAT = '<pre style="line-height:1.2;font-family:monospace">{code}</pre>'


class NotebookScreen:
    """Shows pictures as HTML through IPython's display handle; needs no widgets."""

    def __init__(self) -> None:
        display = import_module("IPython.display").display  # a notebook has it; nothing else needs it

        self._handle: Any = display({"text/plain": ""}, raw=True, display_id=True)
        self._last: tuple[Scene, Poll | None] | None = None
        self._shown_at = 0.0

    def show(self, scene: Scene, poll: Poll | None) -> None:
        """Replace the picture, unless the last one is younger than half a second."""
        self._last = (scene, poll)
        if time.monotonic() - self._shown_at >= _INTERVAL_S:
            self._draw(scene)

    def close(self) -> None:
        """Leave the last picture standing."""
        if self._last:
            self._draw(self._last[0])

    def _draw(self, scene: Scene) -> None:
        self._shown_at = time.monotonic()
        self._handle.update({"text/html": html(scene), "text/plain": scene.status}, raw=True)


def html(scene: Scene) -> str:
    """Return the picture of a scene as HTML that needs no style sheet."""
    console = Console(
        record=True, file=io.StringIO(), width=_WIDTH, height=_HEIGHT, force_terminal=True, force_jupyter=False
    )
    console.print(Frame(scene, time.time()))
    return console.export_html(inline_styles=True, code_format=_FORMAT)
