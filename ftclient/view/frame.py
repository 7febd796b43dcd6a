"""One picture of a job, fitted to the terminal it is drawn on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.panel import Panel
from rich.text import Text

from ftclient.view.plot import TRAIN_STYLE, VALID_STYLE, plot
from ftclient.view.scene import Scene
from ftclient.view.words import PATH, clock, ending, headline, printable, status_name

_WIDEST = 100
"""Wider lines are hard to read."""
_LOW, _LOWER = 26, 20
"""Terminals of fewer lines get a smaller plot and fewer events, then no plot: the ending must fit below."""
_BEST_LINES = 2
"""What the ending grows by where an earlier checkpoint did better."""
_NARROW = 50
"""Narrower pictures say the same in fewer words."""
_ASCII = str.maketrans("·…", "-~")
_BAD = frozenset({"failed", "cancelled"})


@dataclass(frozen=True)
class Frame:
    """What is known of a job now, as something that rich can draw."""

    scene: Scene
    now: float
    """Unix time of the picture."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it into what the terminal has."""
        width = min(options.max_width, _WIDEST)
        inner, plain = width - 4, options.ascii_only
        height = options.size.height - (_BEST_LINES if self.scene.best else 0)
        lines = [
            _cut(headline(self.scene), inner),
            _path(self.scene, plain=plain, names=inner >= _NARROW),
            *self._progress(inner, plain=plain),
            *self._losses(inner, height, plain=plain),
            *self._events(inner, height),
            *self._end(),
        ]
        if plain:
            for line in lines:
                line.plain = line.plain.translate(_ASCII).encode("ascii", "replace").decode()
        yield Panel(
            Group(*lines),
            title=Text(self.scene.job_id, style="bold"),
            title_align="left",
            width=width,
            padding=(0, 1),
            border_style=_border(self.scene.status),
            box=box.ASCII if plain else box.ROUNDED,
        )

    def _progress(self, width: int, *, plain: bool) -> list[Text]:
        scene, course = self.scene, self.scene.course
        lines = []
        if course.total_steps:
            share = course.step / course.total_steps
            count = f" {course.step}/{course.total_steps} {share:4.0%}"
            lines.append(_bar(share, width - len(count), plain=plain).append(count))
        facts = []
        if scene.tokens_per_s and not scene.ending:
            facts.append(f"{scene.tokens_per_s:,.0f} tokens/s")
        if scene.job:
            facts.append(clock(scene.elapsed_s(self.now)))
        left_s = scene.remaining_s(self.now)
        if scene.status == "running" and left_s is not None:
            facts.append(f"{clock(left_s)} left" if width < _NARROW else f"about {clock(left_s)} left")
        if facts:
            lines.append(Text(" · ".join(facts)))
        if scene.trouble:
            lines.append(Text(printable(scene.trouble), style="yellow"))
        return lines

    def _losses(self, width: int, height: int, *, plain: bool) -> list[Text]:
        course = self.scene.course
        rows = 7 if height >= _LOW else 4 if height >= _LOWER else 0
        drawn = plot(
            course.train, course.valid, width=width, height=rows, last_step=course.total_steps, ascii_only=plain
        )
        legend = Text()
        for name, series, style, mark in (
            ("train", course.train, TRAIN_STYLE, "*" if plain else "⠒"),
            ("validation" if width >= _NARROW else "valid", course.valid, VALID_STYLE, "o" if plain else "●"),
        ):
            if series:
                loss = " loss" if width >= _NARROW else ""
                legend.append(f"{mark} {name}{loss} {series[max(series)]:.3f}  ", style=style)
        legend.rstrip()
        return [*drawn, legend] if legend else drawn

    def _events(self, width: int, height: int) -> list[Text]:
        shown = 5 if height >= _LOW else 3 if height >= _LOWER else 2
        born = self.scene.job.created_at if self.scene.job else 0
        lines = []
        for event in list(self.scene.events)[-shown:]:
            style = {"error": "red", "warn": "yellow"}.get(event.level, "dim")
            age = f"{clock(event.created_at - born):>5} " if width >= _NARROW else ""
            lines.append(_cut(f"{age}{event.message}", width, style=style))
        return lines

    def _end(self) -> list[Text]:
        style = "red" if self.scene.status in _BAD else "bold"
        return [Text(line, style=style, overflow="fold") for line in ending(self.scene)]


def _path(scene: Scene, *, plain: bool, names: bool) -> Text:
    """Return the statuses of a job's way, with the one where it stands; without `names`, only that one by name."""
    status, text = scene.status, Text()
    steps = PATH if status in PATH else (*PATH[:-1], status)
    if status == "connecting":
        return text.append(status, style="dim")
    at = steps.index(status)
    for i, step in enumerate(steps):
        if i < at or scene.ending == "succeeded":
            mark, style = "+" if plain else "✓", "green"
        elif i == at:
            mark, style = (">" if plain else "●"), "bold red" if status in _BAD else "bold"
        else:
            mark, style = ("." if plain else "○"), "dim"
        text.append(f"{mark} {status_name(step)}  " if names or i == at else f"{mark} ", style=style)
    text.rstrip()
    return text


def _bar(share: float, width: int, *, plain: bool) -> Text:
    """Return a bar that is full at a share of 1, to half a column."""
    width = max(4, width)
    halves = math.floor(min(1.0, max(0.0, share)) * width * 2)
    if plain:
        full = halves // 2
        return Text("#" * full + "-" * (width - full))
    full, half = divmod(halves, 2)
    text = Text("━" * full + ("╸" if half else ""), style="green")
    return text.append("─" * (width - full - half), style="dim")


def _border(status: str) -> str:
    return {"succeeded": "green", "failed": "red", "cancelled": "red", "paused": "yellow"}.get(status, "blue")


def _cut(text: str, width: int, *, style: str = "") -> Text:
    line = Text(printable(text), style=style, no_wrap=True)
    line.truncate(width, overflow="ellipsis")
    return line
