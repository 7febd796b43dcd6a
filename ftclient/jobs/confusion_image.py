"""Which labels a classifier takes for which, as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from ftclient.jobs.classification import Classification
from ftclient.jobs.curves_image import write_picture

_NAMES_PX, _TOP_PX, _FOOT_PX = 190, 40, 150
_SIDE_PX = 700
"""Of the square, at most; a cell has 26 pixels at most and 8 at least."""
_LETTERS = 26
_COLOUR = "14, 116, 144"


def write_confusion(found: Classification, path: Path, *, title: str) -> Path:
    """Write a square of true labels (rows) and given ones (columns) to a `.svg` or `.png` file; return its path.

    Raises:
        ValueError: The name ends otherwise, or examples have several labels each.
        MissingDependencyError: PNG needs another package; the text is the command that installs it.
    """
    return write_picture(confusion_svg(found, title=title), path)


def confusion_svg(found: Classification, *, title: str) -> str:
    """Return the picture. The darker, the larger the share of a true label's examples; counts where there is room.

    Raises:
        ValueError: Examples have several labels each, so none is taken for another.
    """
    if not found.confusion:
        raise ValueError(
            "Where examples have several labels each, none is taken for another: there is no such picture."
        )
    n = len(found.confusion)
    cell = min(26.0, max(8.0, _SIDE_PX / n))
    width, height = _NAMES_PX + n * cell + 20, _TOP_PX + n * cell + _FOOT_PX
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="system-ui, sans-serif" font-size="{min(11.0, cell - 1):.1f}" role="img">'
        f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="8" y="22" font-size="14" font-weight="600" fill="#111">{escape(title)}: accuracy '
        f"{found.accuracy:.1%}, macro F1 {found.macro_f1:.3f}</text>{''.join(_cells(found, cell))}</svg>\n"
    )


def _cells(found: Classification, cell: float) -> Iterator[str]:
    names = [each.label for each in found.per_class]
    for i, row in enumerate(found.confusion):
        y = _TOP_PX + i * cell
        name, middle = _short(names[i]), y + 0.72 * cell
        yield f'<text x="{_NAMES_PX - 6}" y="{middle:.1f}" text-anchor="end" fill="#333">{name}</text>'
        x, foot = _NAMES_PX + (i + 0.72) * cell, _TOP_PX + len(names) * cell + 6
        yield (
            f'<text transform="translate({x:.1f} {foot:.1f}) rotate(-90)" text-anchor="end" fill="#333">{name}</text>'
        )
        total = sum(row) or 1
        for j, count in enumerate(row):
            yield from _cell(_NAMES_PX + j * cell, y, cell, count, count / total)


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


def _short(name: str) -> str:
    return escape(name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "\u2026")
