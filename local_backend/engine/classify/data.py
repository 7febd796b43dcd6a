"""The examples of a job as a classifier takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from local_backend.engine.classify.examples import Example, read_examples
from local_backend.engine.classify.labels import Labels, example_weights, find_labels, set_aside
from local_backend.engine.classify.readers import Reader
from local_backend.task import JobError, Task


@dataclass(frozen=True, kw_only=True)
class Row:
    """One example, read by the body's tokenizer or image processor."""

    place: int
    """Among all rows of the job, from 0."""
    line: int
    input: Any
    targets: tuple[int, ...]
    weight: float
    n_tokens: int


@dataclass(frozen=True, kw_only=True)
class Data:
    """All examples of a job."""

    labels: Labels
    train: list[Row]
    valid: list[Row]


def read_data(task: Task, reader: Reader, *, options: dict[str, Any], known: Labels | None) -> Data:
    """Read the files of a job; `known` are the labels of the classifier that it starts from.

    Raises:
        JobError: A line can't be used, or the labels can't be learned; names line and remedy.
    """
    examples = [one for one in read_examples(task.training_path, param="training_file") if one.weight > 0]
    if not examples:
        text = "The training file has no example that counts: every answer has the weight 0."
        raise JobError("invalid_training_file", text, param="training_file")
    labels = _with_known(find_labels(examples), known)
    rows = _rows(examples, reader, labels, param="training_file", first=0)
    valid: list[Row] = []
    if task.validation_path is not None:
        held = list(read_examples(task.validation_path, param="validation_file"))
        valid = _rows(held, reader, labels, param="validation_file", first=len(rows))
    elif options["valid_share"]:
        kept, aside = set_aside([row.targets for row in rows], share=options["valid_share"], seed=task.seed)
        rows, valid = [rows[i] for i in kept], [rows[i] for i in aside]
    weights = example_weights(
        [row.targets for row in rows], [row.weight for row in rows], balance=options["balance"], n=len(labels.names)
    )
    train = [_weighted(row, weight) for row, weight in zip(rows, weights, strict=True)]
    return Data(labels=labels, train=train, valid=valid)


def one_hot(rows: Sequence[Row], n_labels: int) -> torch.Tensor:
    """Right labels as 0 and 1 (B, L)."""
    targets_BL = torch.zeros(len(rows), n_labels)
    for i, row in enumerate(rows):
        targets_BL[i, list(row.targets)] = 1.0
    return targets_BL


def smoothed(targets_BL: torch.Tensor, *, smoothing: float, is_multi: bool) -> torch.Tensor:
    """Take a share from the right labels: spread over all, or (several labels) towards one half."""
    if not smoothing:
        return targets_BL
    return targets_BL * (1 - smoothing) + (smoothing / 2 if is_multi else smoothing / targets_BL.shape[1])


def _with_known(found: Labels, known: Labels | None) -> Labels:
    """A classifier that is trained on keeps its labels, their order too; new ones come after."""
    if known is None:
        return found
    new = tuple(name for name in found.names if name not in known.names)
    return Labels(names=(*known.names, *new), is_multi=found.is_multi or known.is_multi)


def _rows(examples: Sequence[Example], reader: Reader, labels: Labels, *, param: str, first: int) -> list[Row]:
    return [
        Row(
            place=place,
            line=example.line,
            input=found,
            targets=labels.targets(example, param=param),
            weight=example.weight,
            n_tokens=reader.size(found),
        )
        for place, (example, found) in enumerate(
            zip(examples, reader.read_all(examples, param=param), strict=True), first
        )
    ]


def _weighted(row: Row, weight: float) -> Row:
    return row if weight == row.weight else replace(row, weight=weight)
