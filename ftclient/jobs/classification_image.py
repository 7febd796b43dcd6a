"""How good a classifier is, as a picture: which labels are taken for which, F1 by label, and whether it is honest."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from ftclient.jobs.classification import Classification
from ftclient.jobs.curves_image import write_picture

_NAMES_PX, _TOP_PX, _FOOT_PX = 190, 40, 150
_SIDE_PX = 700
"""Of the square of labels, at most; a cell has 26 pixels at most and 8 at least."""
_BARS_PX, _GAP_PX, _PLOT_PX = 120, 30, 220
_LETTERS = 26
_COLOUR, _PLAIN, _SOFT = "14, 116, 144", "#0e7490", "#a21caf"


def write_classification(found: Classification, path: Path, *, title: str) -> Path:
    """Write the picture to a `.svg` or `.png` file and return its path.

    Raises:
        ValueError: The name ends otherwise.
        MissingDependencyError: PNG needs another package; the text is the command that installs it.
    """
    return write_picture(classification_svg(found, title=title), path)


def classification_svg(found: Classification, *, title: str) -> str:
    """Return the picture.

    On the left true labels are rows and given ones columns: the darker, the larger the share of a true label's examples
    (left out where examples have several labels each). Then the F1 of each label, and how often answers are right
    against how sure they are, as the model came out of training and after calibration.
    """
    n = len(found.per_class)
    cell = min(26.0, max(8.0, _SIDE_PX / n))
    square = n * cell if found.confusion else 0.0
    bars_at, plot_at = _NAMES_PX + square + 10, _NAMES_PX + square + _BARS_PX + 2 * _GAP_PX
    width = plot_at + _PLOT_PX + 20
    height = _TOP_PX + max(n * cell + (_FOOT_PX if found.confusion else 30), _PLOT_PX + 60)
    body = [*_rows(found, cell), *_bars(found, cell, bars_at), *_reliability(found, plot_at)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="system-ui, sans-serif" font-size="{min(11.0, cell - 1):.1f}" role="img">'
        f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="8" y="22" font-size="14" font-weight="600" fill="#111">{escape(title)}: accuracy '
        f"{found.accuracy:.1%}, macro F1 {found.macro_f1:.3f}</text>{''.join(body)}</svg>\n"
    )


def _rows(found: Classification, cell: float) -> Iterator[str]:
    """The names of the labels, and the square."""
    foot = _TOP_PX + len(found.per_class) * cell + 6
    for i, each in enumerate(found.per_class):
        name, middle = _short(each.label), _TOP_PX + (i + 0.72) * cell
        yield f'<text x="{_NAMES_PX - 6}" y="{middle:.1f}" text-anchor="end" fill="#333">{name}</text>'
        if found.confusion:
            x = _NAMES_PX + (i + 0.72) * cell
            turned = f'transform="translate({x:.1f} {foot:.1f}) rotate(-90)"'
            yield f'<text {turned} text-anchor="end" fill="#333">{name}</text>'
            total = sum(found.confusion[i]) or 1
            for j, count in enumerate(found.confusion[i]):
                yield from _cell(_NAMES_PX + j * cell, _TOP_PX + i * cell, cell, count, count / total)


def _cell(x: float, y: float, cell: float, count: int, share: float) -> Iterator[str]:
    alpha = 0.04 + 0.96 * share if count else 0.04
    yield (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}" '
        f'fill="rgba({_COLOUR}, {alpha:.2f})"/>'
    )
    if count and cell >= 16:  # noqa: PLR2004 - pixels that a number needs
        colour = "#fff" if share > 0.5 else "#111"  # noqa: PLR2004 - dark enough
        middle, foot = x + cell / 2, y + 0.68 * cell
        yield f'<text x="{middle:.1f}" y="{foot:.1f}" text-anchor="middle" fill="{colour}">{count}</text>'


def _bars(found: Classification, cell: float, left: float) -> Iterator[str]:
    """F1 of each label that occurs."""
    yield f'<text x="{left:.1f}" y="{_TOP_PX - 5}" fill="#333">F1</text>'
    for i, each in enumerate(found.per_class):
        if each.n:
            y, length = _TOP_PX + i * cell + 1, max(1.0, each.f1 * _BARS_PX)
            yield (
                f'<rect class="bar" x="{left:.1f}" y="{y:.1f}" width="{length:.1f}" height="{cell - 3:.1f}" '
                f'fill="{_PLAIN}"><title>{_short(each.label)}: {each.f1:.3f}</title></rect>'
            )


def _reliability(found: Classification, left: float) -> Iterator[str]:
    """Share right over confidence; on the diagonal, answers are as often right as they say."""
    top, side = _TOP_PX, _PLOT_PX
    yield f'<text x="{left:.1f}" y="{top - 5}" fill="#333">share right (up) over confidence (across)</text>'
    yield f'<rect x="{left:.1f}" y="{top}" width="{side}" height="{side}" fill="none" stroke="#bbb"/>'
    yield f'<path d="M{left:.1f} {top + side} L{left + side:.1f} {top}" stroke="#bbb" stroke-dasharray="3 3"/>'
    curves = (
        ("as trained", found.as_trained, _SOFT),
        ("calibrated", found.calibrated, _PLAIN),
    )
    for row, (name, said, colour) in enumerate(curves):
        points = [(left + each.confidence * side, top + (1 - each.right) * side) for each in said.bins]
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        if points:
            yield f'<path class="curve" d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points)
        foot = top + side + 18 + 16 * row
        yield f'<text x="{left:.1f}" y="{foot}" fill="{colour}">{name}: calibration error {said.ece:.3f}</text>'


def _short(name: str) -> str:
    return escape(name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "\u2026")
