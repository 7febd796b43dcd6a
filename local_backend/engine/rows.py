"""Training files as rendered rows, and the order in which they are visited."""

from __future__ import annotations

import contextlib
import gc
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ftclient.data import reader
from local_backend.engine.template import Draft, Rendered, Template
from local_backend.task import JobError, MethodType, UserError


@dataclass(frozen=True)
class Row:
    """One example, rendered. For `dpo` the parts are the preferred and the non-preferred answer."""

    line: int
    parts: tuple[Rendered, ...]

    @property
    def n_tokens(self) -> int:
        """Rendered tokens, which are what is billed."""
        return sum(len(part.ids) for part in self.parts)

    @property
    def n_loss_tokens(self) -> int:
        """Tokens that are learned from."""
        return sum(len(part.weights) - part.weights.count(0.0) for part in self.parts)


def read_rows(
    path: Path,
    *,
    template: Template,
    context_tokens: int,
    method: MethodType,
    param: str,
    only: Collection[int] | None = None,
) -> list[Row]:
    """Render every example of a file, or those whose line is in `only`.

    Raises:
        JobError: A line can't be rendered, trains nothing or is longer than the context; names the line.
    """
    drafted = (
        (line, _drafts(example, line, template, method, param))
        for line, example in numbered_examples(path, param=param, only=only)
    )
    with _without_collections():
        rows = list(_finished(drafted, template))
    for row in rows:
        _check_length(row, context_tokens, param)
        if method == "dpo":
            _check_pair(row, param)
    return rows


def epoch_order(n: int, *, seed: int, epoch: int) -> list[int]:
    """The order of `n` examples in an epoch (from 0): a pure function of its arguments, the same on any machine."""
    return [int(i) for i in np.random.Generator(np.random.Philox(key=[seed % 2**64, epoch])).permutation(n)]


def step_indices(n: int, *, batch_size: int, seed: int, step: int) -> list[int]:
    """Which examples step `step` (from 0) visits. The last step of an epoch takes what is left."""
    steps_per_epoch = -(-n // batch_size)
    epoch, position = divmod(step, steps_per_epoch)
    order = epoch_order(n, seed=seed, epoch=epoch)
    return order[position * batch_size : (position + 1) * batch_size]


def numbered_examples(path: Path, *, param: str, only: Collection[int] | None = None) -> Iterator[tuple[int, Any]]:
    """Yield line number and JSON object of every example in a file, or of those whose line is in `only`.

    Raises:
        JobError: A line is no JSON object; names it.
    """
    with reader.open_binary(path) as file:
        for number, raw in enumerate(file, start=1):
            if (only is not None and number not in only) or not raw.strip():
                continue
            example = _parsed(raw.rstrip(b"\n"))
            if not isinstance(example, dict):
                raise invalid_line(number, "It is not a JSON object.", param)
            yield number, example


def _parsed(raw: bytes) -> Any:
    """Return a line's value, None if it has none; repeated keys have been found before."""
    try:
        return reader.parse_value(raw)
    except ValueError:
        line = reader.parse_line(raw)
        return line.value if line.is_json else None


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Stop the garbage collector, which looks through all rows again and again while they come, for a fifth longer."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


_DRAFTS_AT_ONCE = 500
"""Enough to keep all cores busy with tokens, and too few to be felt in memory."""


def _finished(drafted: Iterator[tuple[int, list[Draft]]], template: Template) -> Iterator[Row]:
    """Make rows of drafts, in order. A thread makes tokens, outside Python, while the next drafts are written."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ftclient-tokens") as thread:
        waiting: deque[tuple[list[tuple[int, int]], Future[list[Rendered]]]] = deque()
        while part := list(islice(drafted, _DRAFTS_AT_ONCE)):
            sizes = [(line, len(drafts)) for line, drafts in part]
            waiting.append((sizes, thread.submit(template.finish, [one for _, drafts in part for one in drafts])))
            if len(waiting) > 1:
                yield from _rows(*waiting.popleft())
        for each in waiting:
            yield from _rows(*each)


def _rows(sizes: list[tuple[int, int]], finished: Future[list[Rendered]]) -> Iterator[Row]:
    parts = iter(finished.result())
    return (Row(line, tuple(islice(parts, n))) for line, n in sizes)


def _drafts(example: dict[str, Any], line: int, template: Template, method: MethodType, param: str) -> list[Draft]:
    try:
        return template.pair_drafts(example) if method == "dpo" else template.drafts(example)
    except UserError as error:
        raise invalid_line(line, error.message, param) from error
    except (KeyError, TypeError) as error:
        raise invalid_line(line, f"{error!s:.60} is missing or of the wrong type.", param) from error


def _check_length(row: Row, context_tokens: int, param: str) -> None:
    longest = max(len(part.ids) for part in row.parts)
    if longest > context_tokens:
        what = (
            f"It has {longest:,} tokens, and the model's context holds {context_tokens:,}. Nothing is cut in silence: "
            "shorten or remove it."
        )
        raise invalid_line(row.line, what, param)


def _check_pair(row: Row, param: str) -> None:
    """Refuse answers that the tokenizer makes alike, as some do with other forms of the same letters."""
    if row.parts[0].ids == row.parts[1].ids:
        what = "Both answers of this pair are the same tokens, so it ranks nothing. Drop it."
        raise invalid_line(row.line, what, param)


def invalid_line(line: int, what: str, param: str) -> JobError:
    """The error with which a job ends over a line of one of its files."""
    name = param.replace("_", " ")
    text = f"The job failed due to an invalid {name}. Line {line}: {what}"
    return JobError("invalid_" + param, text, param=param)
