"""Splitting a file into files, line by line as they are, and comparing two files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftclient.data.duplicates import SIMILARITY
from ftclient.data.new_file import new_file
from ftclient.data.prompts import exchange_of
from ftclient.data.reader import BOM, open_binary, parse_line
from ftclient.data.split import GroupKey, find_leaks, labels_of, split_examples
from ftclient.errors import DataError

_NAMES = {1: ("train",), 2: ("train", "test"), 3: ("train", "valid", "test")}


@dataclass
class Part:
    """One file of a split."""

    path: Path
    share: float
    """What was asked for, of 1."""
    lines: list[int] = field(default_factory=list)
    """Lines of the source, from 1."""
    labels: Counter[str] = field(default_factory=Counter)
    """How often each label occurs, where answers are labels."""

    def to_json(self) -> dict[str, Any]:
        """The part as `ftclient split --json` prints it."""
        return {
            "path": str(self.path),
            "share": self.share,
            "n_examples": len(self.lines),
            "lines": self.lines,
            "labels": dict(self.labels.most_common()),
        }


def split_file(
    source: str | Path,
    shares: Sequence[float] = (0.8, 0.1, 0.1),
    *,
    to: str | Path | None = None,
    seed: int = 7,
    group_by: GroupKey | str | None = None,
    label_by: GroupKey | str | None = None,
    overwrite: bool = False,
) -> list[Part]:
    """Split a file into `NAME.train.jsonl`, `NAME.valid.jsonl` and `NAME.test.jsonl`.

    Lines are copied as they are, in the order of the source. What belongs together is described in
    `ftclient.data.split`, as are the arguments that are not named here.

    Args:
        source: A JSONL file.
        shares: The size of each part; two parts are named train and test, more than three part1, part2, ...
        to: The folder of the new files; by default that of the source.
        seed: Another seed gives another split.
        group_by: Key or function whose value must not be in two parts.
        label_by: Key or function that gives the label to balance.
        overwrite: Replace files of these names.

    Raises:
        DataError: A line is no JSON object, or a file exists already.
        ValueError: The shares do not add up to 1.
    """
    source = Path(source)
    numbers: list[int] = []
    answers: list[str | None] = []

    def examples() -> Iterator[dict[str, Any]]:
        for number, _, example in _numbered(source):
            exchange = exchange_of(example)
            numbers.append(number)
            answers.append(exchange.answer_text.strip() if len(exchange.answers) == 1 else None)
            yield example

    found = split_examples(examples(), shares, seed=seed, group_by=group_by, label_by=label_by)
    labels = labels_of(answers)
    parts = []
    for name, share, positions in zip(_names(len(shares)), shares, found, strict=True):
        path = Path(to or source.parent) / f"{_stem(source)}.{name}.jsonl"
        counts = Counter(label for position in positions if (label := labels[position]) is not None)
        parts.append(Part(path, share, [numbers[position] for position in positions], counts))
    _write(source, parts, overwrite=overwrite)
    return parts


@dataclass(frozen=True)
class FileLeak:
    """A line of one file whose prompt another file has, too."""

    line_a: int
    line_b: int
    kind: str
    """`same_example`, `same_prompt`, `same_conversation` or `near_duplicate`."""
    similarity: float

    def to_json(self) -> dict[str, Any]:
        """The leak as `ftclient split --leaks --json` prints it."""
        return {"line_a": self.line_a, "line_b": self.line_b, "kind": self.kind, "similarity": self.similarity}


def leaks_between(a: str | Path, b: str | Path, *, similarity: float = SIMILARITY) -> list[FileLeak]:
    """Find the lines of file `a` whose prompt is in file `b`, too: the same, nearly, or of one conversation.

    Raises:
        DataError: A line of either file is no JSON object.
    """
    lines_a: list[int] = []
    lines_b: list[int] = []

    def examples(path: Path, lines: list[int]) -> Iterator[dict[str, Any]]:
        for number, _, example in _numbered(path):
            lines.append(number)
            yield example

    found = find_leaks(examples(Path(a), lines_a), examples(Path(b), lines_b), similarity=similarity)
    return [FileLeak(lines_a[leak.index_a], lines_b[leak.index_b], leak.kind, leak.similarity) for leak in found]


def _numbered(source: Path) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Line number, the line as it is, and the example."""
    with open_binary(source) as stream:
        for number, raw in enumerate(stream, 1):
            content = (raw.removeprefix(BOM) if number == 1 else raw).rstrip(b"\r\n")
            if not content.strip():
                continue
            example = parse_line(content).value
            if not isinstance(example, dict):
                raise DataError(
                    f"{source.name}, line {number}: this is no JSON object. `ftclient check` lists all problems, "
                    "`ftclient clean --fix` mends or sets aside."
                )
            yield number, content, example


def _write(source: Path, parts: Sequence[Part], *, overwrite: bool) -> None:
    part_of = {line: at for at, part in enumerate(parts) for line in part.lines}
    with ExitStack() as stack:
        files = [stack.enter_context(new_file(part.path, not_over=source, overwrite=overwrite)) for part in parts]
        for number, raw, _ in _numbered(source):
            files[part_of[number]].write(raw + b"\n")


def _names(n_parts: int) -> Sequence[str]:
    return _NAMES.get(n_parts) or [f"part{number}" for number in range(1, n_parts + 1)]


def _stem(source: Path) -> str:
    return Path(source.stem).stem if source.suffix in {".gz", ".zst"} else source.stem
