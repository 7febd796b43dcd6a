"""What a file of a task holds: a small file is rendered whole, and of a large one a random sample.

Rendering 100,000 examples takes up to a minute; some thousands of them say the same to within a fraction of a percent.
A job renders all that it trains on, and refuses what its plan may have missed before the first step.

Examples drawn from many are further apart than all of them, so that those which begin alike without a common prompt
share less than they will: the estimate of time is a little high then.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ftclient.data import reader
from local_backend.engine.forecast.choice import first_step
from local_backend.engine.rows import Row, read_rows
from local_backend.engine.template import Template
from local_backend.task import MethodType

SAMPLE_BYTES = 8 << 20
"""Files up to this size are rendered whole, and of others about so much: two or three seconds."""
LEAST_SAMPLED = 500
N_LONGEST = 64
"""Lines that are rendered whatever is drawn: they decide about memory, and whether the context is long enough."""
_SEED = 20_240_229


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a file holds."""

    rows: Sequence[Row]
    """All examples, or those drawn, in the file's order."""
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


NOTHING = Content(rows=(), first_step=(), n_examples=0, n_tokens=0, n_loss_tokens=0, render_s=0.0)


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
    sizes = _line_sizes(path)
    n_bytes = sum(sizes.values())
    if n_bytes <= SAMPLE_BYTES or len(sizes) <= LEAST_SAMPLED:
        rows = read()
        return _counted(rows, batch_size=batch_size, render_s=time.perf_counter() - started)
    lines = list(sizes)
    drawn = _drawn(sizes)
    first = {lines[i] for i in first_step(len(lines), batch_size=batch_size)[:LEAST_SAMPLED]}
    longest = set(heapq.nlargest(N_LONGEST, lines, key=lambda line: sizes[line]))
    by_line = {row.line: row for row in read(only=drawn | first | longest)}
    share = sum(sizes[line] for line in by_line) / n_bytes
    render_s = (time.perf_counter() - started) / share
    return _estimated(
        [by_line[line] for line in sorted(drawn)],
        sizes,
        first=[by_line[line] for line in sorted(first)],
        longest=[by_line[line] for line in sorted(longest)],
        render_s=render_s,
    )


def _line_sizes(path: Path) -> dict[int, int]:
    """Bytes of each line that is not blank, by its number."""
    with reader.open_binary(path) as file:
        return {number: len(raw) for number, raw in enumerate(file, start=1) if not raw.isspace()}


def _drawn(sizes: dict[int, int]) -> set[int]:
    """Lines drawn at random, without putting any back, until there is enough; the same for the same file."""
    lines = np.fromiter(sizes, dtype=np.int64)
    order = np.random.Generator(np.random.Philox(key=[_SEED, len(lines)])).permutation(lines)
    found: set[int] = set()
    n_bytes = 0
    for line in order.tolist():
        if n_bytes >= SAMPLE_BYTES and len(found) >= LEAST_SAMPLED:
            break
        found.add(line)
        n_bytes += sizes[line]
    return found


def _counted(rows: Sequence[Row], *, batch_size: int, render_s: float) -> Content:
    first = first_step(len(rows), batch_size=batch_size) if rows else []
    return Content(
        rows=rows,
        first_step=[rows[i] for i in first],
        n_examples=len(rows),
        n_tokens=sum(row.n_tokens for row in rows),
        n_loss_tokens=sum(row.n_loss_tokens for row in rows),
        render_s=render_s,
    )


def _estimated(
    rows: Sequence[Row], sizes: dict[int, int], *, first: Sequence[Row], longest: Sequence[Row], render_s: float
) -> Content:
    """Scale what was drawn by the file's bytes: tokens a byte differ less than tokens an example (a ratio estimate)."""
    drawn_bytes, n_bytes = sum(sizes[row.line] for row in rows), sum(sizes.values())
    n_drawn, times = sum(row.n_tokens for row in rows), n_bytes / drawn_bytes
    off = [row.n_tokens - n_drawn * sizes[row.line] / drawn_bytes for row in rows]
    undrawn = 1 - len(rows) / len(sizes)
    deviation = math.sqrt(undrawn * sum(x * x for x in off) * len(rows) / max(1, len(rows) - 1)) / n_drawn
    return Content(
        rows=rows,
        longest=longest,
        first_step=first,
        n_examples=len(sizes),
        n_tokens=round(n_drawn * times),
        n_loss_tokens=round(sum(row.n_loss_tokens for row in rows) * times),
        n_sampled=len(rows),
        deviation=deviation,
        render_s=render_s,
    )
