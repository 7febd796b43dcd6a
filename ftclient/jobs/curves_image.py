"""Curves of a job as a picture: SVG written here, PNG drawn from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from ftclient.errors import MissingDependencyError
from ftclient.jobs.curves import Points, points_of, validation_points
from ftclient.jobs.metrics import StepMetrics

_WIDTH_PX, _PANEL_PX = 720, 220
_LEFT_PX, _RIGHT_PX, _TOP_PX, _FOOT_PX = 56, 16, 34, 30
_TICKS = 4
_COLOURS = ("#0e7490", "#a21caf", "#b45309", "#15803d", "#1d4ed8", "#b91c1c")
"""Of the first curve of a panel, the second, and so on; of training and validation where it is about one job."""
_LETTER_PX, _GAP_PX = 6.5, 18
_PANELS = (
    ("loss", ("train_loss", None)),
    ("token accuracy", ("train_mean_token_accuracy", "full_valid_mean_token_accuracy")),
    ("mean reward", ("train_mean_reward", "full_valid_mean_reward")),
    ("reward margin of preferences", ("rewards_margin", None)),
)


def write_curves(metrics: Sequence[StepMetrics], path: Path, *, title: str) -> Path:
    """Write the curves to a `.svg` or `.png` file and return its path.

    Raises:
        ValueError: The name ends otherwise, or there is nothing to draw.
        MissingDependencyError: PNG needs another package; the text is the command that installs it.
    """
    return write_picture(curves_svg(metrics, title=title), path)


def write_jobs(jobs: Mapping[str, Sequence[StepMetrics]], path: Path, *, title: str) -> Path:
    """Write what several jobs reached in validation as one picture, a curve for each, by the name that it is given.

    Raises:
        ValueError: The name ends otherwise than in `.svg` or `.png`, or no job was validated.
        MissingDependencyError: PNG needs another package; the text is the command that installs it.
    """
    of_loss = {name: validation_points(metrics) for name, metrics in jobs.items()}
    accuracies = {name: points_of(metrics, "full_valid_mean_token_accuracy") for name, metrics in jobs.items()}
    found = {"validation accuracy": accuracies, "validation loss": of_loss}
    panels = [_panel(name, series) for name, series in found.items() if any(series.values())]
    return write_picture(_picture(panels, title=title), path)


def curves_svg(metrics: Sequence[StepMetrics], *, title: str) -> str:
    """Return one SVG with a panel for each thing that was measured.

    Raises:
        ValueError: Nothing was measured.
    """
    return _picture(list(_drawn(metrics)), title=title)


def write_picture(svg: str, path: Path) -> Path:
    """Write an SVG as it is, or as PNG, by the name of the file.

    Raises:
        ValueError: The name ends otherwise.
        MissingDependencyError: PNG needs another package; the text is the command that installs it.
    """
    if path.suffix == ".svg":
        path.write_text(svg, encoding="utf-8")
    elif path.suffix == ".png":
        path.write_bytes(_png(svg))
    else:
        raise ValueError(f"{path.name}: pictures are written as .svg or .png.")
    return path


def _picture(panels: Sequence[str], *, title: str) -> str:
    if not panels:
        raise ValueError("There are no metrics to draw yet.")
    height = _TOP_PX + len(panels) * _PANEL_PX
    body = "".join(
        f'<g transform="translate(0 {_TOP_PX + i * _PANEL_PX})">{panel}</g>' for i, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH_PX} {height}" width="{_WIDTH_PX}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="12" role="img">'
        f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{_LEFT_PX}" y="22" font-size="14" font-weight="600" fill="#111">{escape(title)}</text>{body}</svg>\n'
    )


def _drawn(metrics: Sequence[StepMetrics]) -> Iterator[str]:
    for name, (train, valid) in _PANELS:
        series = {
            "training": points_of(metrics, train),
            "validation": validation_points(metrics) if name == "loss" else points_of(metrics, valid) if valid else [],
        }
        if any(series.values()):
            yield _panel(name, series)


def _panel(name: str, series: dict[str, Points]) -> str:
    values = [value for points in series.values() for _, value in points]
    steps = [step for points in series.values() for step, _ in points]
    least, most, first, last = min(values), max(values), min(steps), max(steps)

    def x(step: float) -> float:
        return _LEFT_PX + (step - first) / max(1, last - first) * (_WIDTH_PX - _LEFT_PX - _RIGHT_PX)

    def y(value: float) -> float:
        span = most - least
        return 20 + (1 - (value - least) / span if span else 0.5) * (_PANEL_PX - 20 - _FOOT_PX)

    parts = [f'<text x="{_LEFT_PX}" y="12" fill="#444">{escape(name)}</text>']
    for i in range(_TICKS + 1):
        value, step = least + (most - least) * i / _TICKS, first + (last - first) * i / _TICKS
        parts.append(f'<path d="M{_LEFT_PX} {y(value):.1f}H{_WIDTH_PX - _RIGHT_PX}" stroke="#e5e7eb"/>')
        parts.append(_label(_LEFT_PX - 6, y(value) + 4, f"{value:.3g}", "end"))
        parts.append(_label(x(step), _PANEL_PX - 12, f"{step:.0f}", "middle" if i else "start"))
    parts.append(_label(_LEFT_PX - 6, _PANEL_PX - 12, "step", "end"))
    places = _legend_px(list(series))
    for (label, points), place, colour in zip(series.items(), places, _COLOURS * len(series), strict=False):
        if not points:
            continue
        path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        parts += [f'<circle cx="{x(s):.1f}" cy="{y(v):.1f}" r="2.2" fill="{colour}"/>' for s, v in points[-60:]]
        parts.append(f'<text x="{place:.0f}" y="12" fill="{colour}">{escape(label)}</text>')
    return "".join(parts)


def _legend_px(labels: Sequence[str]) -> list[float]:
    """Where the names of the curves stand: side by side, up to the right edge."""
    widths = [len(label) * _LETTER_PX + _GAP_PX for label in labels]
    return [_WIDTH_PX - _RIGHT_PX - sum(widths[i:]) + _GAP_PX for i in range(len(widths))]


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#666" font-size="11">{escape(text)}</text>'


def _png(svg: str) -> bytes:
    try:
        import resvg_py
    except ImportError as error:
        raise MissingDependencyError('pip install "ftclient[plots]"') from error
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=2))
