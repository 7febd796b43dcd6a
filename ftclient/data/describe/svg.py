"""Plots as inline SVG: bars by name, and histograms. Colours come from the page's style."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH_PX = 520
_ROW_PX, _BAR_PX = 24, 14
_NAME_PX, _VALUE_PX = 190, 64
_CHAR_PX = 7.2
"""About the width of a letter at 12 px; characters of East Asia take two."""
_PLOT_PX, _FOOT_PX = 150, 34
_TOP_PX = 16


def bars(entries: Sequence[tuple[str, float, str]], *, title: str, most: float | None = None) -> str:
    """Horizontal bars.

    Args:
        entries: Name, value, and the value as it is to be shown.
        title: What is shown, for those who cannot see it.
        most: The value of a full bar; by default the largest.
    """
    most = most or max((value for _, value, _ in entries), default=1) or 1
    names_px = min(_NAME_PX, max((_text_px(name) for name, _, _ in entries), default=0) + 10)
    room = _WIDTH_PX - names_px - _VALUE_PX
    parts = []
    for row, (name, value, shown) in enumerate(entries):
        y = row * _ROW_PX
        width = max(1.5, value / most * room)
        parts.append(
            f'<text x="0" y="{y + 15}">{escape(_shortened(name, names_px))}<title>{escape(name)}</title></text>'
            f'<rect class="rail" x="{names_px}" y="{y + 4}" width="{room}" height="{_BAR_PX}" rx="2"/>'
            f'<rect class="bar" x="{names_px}" y="{y + 4}" width="{width:.1f}" height="{_BAR_PX}" rx="2"/>'
            f'<text x="{_WIDTH_PX}" y="{y + 15}" text-anchor="end" class="soft">{escape(shown)}</text>'
        )
    return _svg(len(entries) * _ROW_PX, title, "".join(parts))


def columns(bins: Sequence[Mapping[str, int]], *, title: str, unit: str) -> str:
    """A histogram.

    Args:
        bins: Bins with `from`, `to` and `n`; the last may be wider than the others.
        title: What is shown, for those who cannot see it.
        unit: What is counted, below the axis.
    """
    most = max((entry["n"] for entry in bins), default=1) or 1
    step = _WIDTH_PX / max(1, len(bins))
    base = _TOP_PX + _PLOT_PX
    parts = [f'<line class="axis" x1="0" y1="{base}" x2="{_WIDTH_PX}" y2="{base}"/>']
    for at, entry in enumerate(bins):
        height = max(1.0, entry["n"] / most * _PLOT_PX) if entry["n"] else 0
        hint = f"{entry['from']:,}-{entry['to']:,}: {entry['n']:,}"
        parts.append(
            f'<rect class="bar" x="{at * step + 1:.1f}" y="{base - height:.1f}" width="{step - 2:.1f}" '
            f'height="{height:.1f}" rx="1.5"><title>{escape(hint)}</title></rect>'
        )
    parts += _labels(bins, step, base, unit)
    peak = max(range(len(bins)), key=lambda at: bins[at]["n"], default=0)
    parts.append(
        f'<text class="soft" x="{(peak + 0.5) * step:.1f}" y="{_TOP_PX - 4}" text-anchor="middle">{most:,}</text>'
    )
    return _svg(base + _FOOT_PX, title, "".join(parts))


def _labels(bins: Sequence[Mapping[str, int]], step: float, base: int, unit: str) -> list[str]:
    """The starts of some bins and the end of the last, and the unit below."""
    every = max(1, len(bins) // 5)
    parts = [
        f'<text class="soft" x="{at * step:.1f}" y="{base + 15}">{bins[at]["from"]:,}</text>'
        for at in range(0, max(min(1, len(bins)), len(bins) - every // 2 - 1), every)
    ]
    end = f"{bins[-1]['to']:,}" if bins else ""
    parts.append(f'<text class="soft" x="{_WIDTH_PX}" y="{base + 15}" text-anchor="end">{end}</text>')
    parts.append(f'<text class="soft" x="{_WIDTH_PX / 2}" y="{base + 31}" text-anchor="middle">{escape(unit)}</text>')
    return parts


def _svg(height: float, title: str, inside: str) -> str:
    size = f'viewBox="0 0 {_WIDTH_PX} {height}"'
    return f'<svg {size} role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>{inside}</svg>'


def _text_px(text: str) -> float:
    return sum(_CHAR_PX * (1.8 if unicodedata.east_asian_width(sign) in "WF" else 1) for sign in text)


def _shortened(text: str, room_px: float) -> str:
    while text and _text_px(text) > room_px:
        text = text[:-2] + "…" if text.endswith("…") else text[:-1] + "…"
        if text == "…":
            break
    return text
