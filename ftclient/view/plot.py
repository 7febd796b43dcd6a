"""Two small curves in characters: dots of braille, or plain letters where the terminal knows no better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from rich.text import Text

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of each dot of a braille character, by row and column (Unicode chapter 21.1)."""
TRAIN_STYLE, VALID_STYLE = "cyan", "magenta"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Which numbers the edges of the plot stand for."""

    first_step: int
    last_step: int
    least: float
    most: float

    def x(self, step: int, cells: int) -> int:
        """Return the column of a step among `cells`."""
        span = max(1, self.last_step - self.first_step)
        return min(cells - 1, max(0, round((step - self.first_step) / span * (cells - 1))))

    def y(self, loss: float, cells: int) -> int:
        """Return the row of a loss among `cells`, 0 at the top."""
        span = self.most - self.least
        share = (loss - self.least) / span if span > 0 else 0.5
        return round((1 - share) * (cells - 1))


def plot(
    train: Mapping[int, float],
    valid: Mapping[int, float],
    *,
    width: int,
    height: int,
    last_step: int | None = None,
    ascii_only: bool = False,
) -> list[Text]:
    """Return the lines of a plot of losses over steps: training as a line, validation as marks.

    Args:
        train: Loss by step.
        valid: Loss by step.
        width: Columns in all, labels among them.
        height: Lines.
        last_step: The step at the right edge; None is the last that there is.
        ascii_only: Draw with letters instead of braille.
    """
    losses = [*train.values(), *valid.values()]
    if not losses or height < 1:
        return []
    steps = [*train, *valid]
    scale = Scale(first_step=min(steps), last_step=max(last_step or 0, *steps, 1), least=min(losses), most=max(losses))
    lowest = f"{scale.least:.2f}" if scale.least < scale.most else ""
    labels = [f"{scale.most:.2f}", *[""] * (height - 2), lowest][:height]
    margin = max(map(len, labels)) + 2
    columns = max(4, width - margin)
    draw = _letters if ascii_only else _braille
    rows = draw(train, scale, columns, height)
    marks = {(scale.y(loss, height), scale.x(step, columns)) for step, loss in valid.items()}
    return [
        _line(label, margin, row, y, marks, ascii_only=ascii_only)
        for y, (label, row) in enumerate(zip(labels, rows, strict=True))
    ]


def _line(label: str, margin: int, row: str, y: int, marks: set[tuple[int, int]], *, ascii_only: bool) -> Text:
    text = Text()
    text.append(label.rjust(margin - 2) + (" |" if ascii_only else " │"), style="dim")
    for x, char in enumerate(row):
        if (y, x) in marks:
            text.append("o" if ascii_only else "●", style=VALID_STYLE)
        else:
            text.append(char, style=TRAIN_STYLE)
    return text


def _braille(series: Mapping[int, float], scale: Scale, columns: int, lines: int) -> list[str]:
    cells = [[0] * columns for _ in range(lines)]
    for x, y in _path(series, scale, columns * 2, lines * 4):
        cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
    return ["".join(chr(0x2800 + bits) if bits else " " for bits in row) for row in cells]


def _letters(series: Mapping[int, float], scale: Scale, columns: int, lines: int) -> list[str]:
    cells = [[" "] * columns for _ in range(lines)]
    for x, y in _path(series, scale, columns, lines):
        cells[y][x] = "*"
    return ["".join(row) for row in cells]


def _path(series: Mapping[int, float], scale: Scale, columns: int, rows: int) -> list[tuple[int, int]]:
    """Return the dots of a line through all points, column by column without gaps."""
    points = [(scale.x(step, columns), scale.y(series[step], rows)) for step in sorted(series)]
    dots = points[:1]
    for (x0, y0), (x1, y1) in pairwise(points):
        n = max(abs(x1 - x0), abs(y1 - y0), 1)
        dots += [(round(x0 + (x1 - x0) * i / n), round(y0 + (y1 - y0) * i / n)) for i in range(1, n + 1)]
    return dots
