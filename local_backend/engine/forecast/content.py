"""What a file of a task holds: a small file is rendered whole, and of a large one a sample.

Rendering 100,000 examples takes up to a minute; some thousands of them say the same to within a fraction of a percent.
A job renders all that it trains on, and refuses what its plan may have missed before the first step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from local_backend.engine.forecast import sampling
from local_backend.engine.forecast.choice import first_step
from local_backend.engine.forecast.sampling import Lines
from local_backend.engine.rows import Row, read_rows
from local_backend.engine.template import Template
from local_backend.task import MethodType

WHOLE_BYTES = 8 << 20
"""Files up to this size are rendered whole."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a file holds."""

    rows: Sequence[Row]
    """All examples, or those drawn at random, in the file's order."""
    neighbours: Sequence[Row]
    """All examples, or runs of those that begin alike: what a pass over everything is measured by."""
    longest: Sequence[Row] = ()
    """The longest examples, where not all were rendered."""
    first_step: Sequence[Row]
    """Those by which a job chooses how many tokens to compute at once."""
    n_examples: int
    n_tokens: int
    n_loss_tokens: int
    n_sampled: int | None = None
    """Examples by which tokens are estimated; None: all are counted."""
    deviation: float = 0.0
    """Standard error of `n_tokens`, as a share of it."""
    render_s: float
    """Rendering all of it."""

    @property
    def longest_tokens(self) -> int:
        """Of the longest example seen."""
        return max((row.n_tokens for row in (*self.rows, *self.longest)), default=0)

    @property
    def longest_sequence_tokens(self) -> int:
        """Of the longest sequence seen; a preference example has two."""
        return max((len(part.ids) for row in (*self.rows, *self.longest) for part in row.parts), default=0)


NOTHING = Content(rows=(), neighbours=(), first_step=(), n_examples=0, n_tokens=0, n_loss_tokens=0, render_s=0.0)


def read_content(
    path: Path,
    *,
    template: Template,
    context_tokens: int,
    method: MethodType,
    param: str,
    batch_size: int,
) -> Content:
    """Render a file, or enough of it.

    Raises:
        JobError: A line of those rendered can't be rendered, trains nothing or is longer than the context.
    """
    read = partial(read_rows, path, template=template, context_tokens=context_tokens, method=method, param=param)
    started = time.perf_counter()
    lines = sampling.read_lines(path)
    n_examples = len(lines.numbers_N)
    first = first_step(n_examples, batch_size=batch_size) if n_examples else []
    if lines.n_bytes <= WHOLE_BYTES or n_examples <= sampling.LEAST_SAMPLED:
        rows = read()
        return _counted(rows, [rows[i] for i in first], render_s=time.perf_counter() - started)
    drawn, longest, neighbours = sampling.drawn(lines), sampling.longest(lines), sampling.neighbours(path, lines)
    of_first = set(lines.numbers_N[first].tolist())
    found_s = time.perf_counter() - started
    by_line = {row.line: row for row in read(only=drawn | longest | neighbours | of_first)}
    share = sum(lines.weights[line] for line in by_line) / float(lines.weights_N.sum())
    return _estimated(
        lines,
        [by_line[line] for line in sorted(drawn)],
        neighbours=[by_line[line] for line in sorted(neighbours)],
        longest=[by_line[line] for line in sorted(longest)],
        first=[by_line[line] for line in sorted(of_first)],
        render_s=(time.perf_counter() - started - found_s) / share,
    )


def _counted(rows: Sequence[Row], first: Sequence[Row], *, render_s: float) -> Content:
    return Content(
        rows=rows,
        neighbours=rows,
        first_step=first,
        n_examples=len(rows),
        n_tokens=sum(row.n_tokens for row in rows),
        n_loss_tokens=sum(row.n_loss_tokens for row in rows),
        render_s=render_s,
    )


def _estimated(
    lines: Lines,
    rows: Sequence[Row],
    *,
    neighbours: Sequence[Row],
    longest: Sequence[Row],
    first: Sequence[Row],
    render_s: float,
) -> Content:
    """Scale what was drawn by the lines' weights: tokens differ less from those than from each other (a ratio)."""
    drawn = sum(lines.weights[row.line] for row in rows)
    n_drawn, times = sum(row.n_tokens for row in rows), float(lines.weights_N.sum()) / drawn
    off = [row.n_tokens - n_drawn * lines.weights[row.line] / drawn for row in rows]
    undrawn = 1 - len(rows) / len(lines.numbers_N)
    deviation = math.sqrt(undrawn * sum(x * x for x in off) * len(rows) / max(1, len(rows) - 1)) / n_drawn
    return Content(
        rows=rows,
        neighbours=neighbours,
        longest=longest,
        first_step=first,
        n_examples=len(lines.numbers_N),
        n_tokens=round(n_drawn * times),
        n_loss_tokens=round(sum(row.n_loss_tokens for row in rows) * times),
        n_sampled=len(rows),
        deviation=deviation,
        render_s=render_s,
    )
