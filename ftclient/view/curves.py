"""Curves of a job in the terminal: loss, accuracy and rewards, each as far as they were measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from ftclient.jobs.curves import points_of, validation_points
from ftclient.jobs.metrics import StepMetrics
from ftclient.view.plot import TRAIN_STYLE, VALID_STYLE, plot

_WIDEST, _NARROW, _LINES = 100, 50, 8
_PANELS = (
    ("loss", "train_loss", None),
    ("accuracy", "train_mean_token_accuracy", "full_valid_mean_token_accuracy"),
    ("reward", "train_mean_reward", "full_valid_mean_reward"),
    ("reward margin", "rewards_margin", None),
)


@dataclass(frozen=True)
class Curves:
    """The metrics of a job, as something that rich can draw; empty where a series has fewer than two points."""

    metrics: Sequence[StepMetrics]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw a panel for each thing that was measured."""
        width = min(options.max_width, _WIDEST)
        for title, train_name, valid_name in _PANELS:
            train = dict(points_of(self.metrics, train_name))
            if len(train) > 1:
                valid = dict(self._validation(title, valid_name))
                yield from _panel(title, train, valid, width=width, ascii_only=options.ascii_only)

    def _validation(self, title: str, name: str | None) -> Sequence[tuple[int, float]]:
        if title == "loss":
            return validation_points(self.metrics)
        return points_of(self.metrics, name) if name else []


def _panel(
    title: str, train: dict[int, float], valid: dict[int, float], *, width: int, ascii_only: bool
) -> Iterator[Text]:
    legend = Text(f"{title}  ", style="bold")
    is_narrow = width < _NARROW
    for mark, name, series, style in (
        ("*" if ascii_only else "⠒", "train" if is_narrow else "training", train, TRAIN_STYLE),
        ("o" if ascii_only else "●", "valid" if is_narrow else "validation", valid, VALID_STYLE),
    ):
        if series:
            legend.append(f"{mark} {name} {series[max(series)]:.3f}  ", style=style)
    legend.rstrip()
    yield legend
    yield from plot(train, valid, width=width, height=_LINES, ascii_only=ascii_only)
    yield Text()
