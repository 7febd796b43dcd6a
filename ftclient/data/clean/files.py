"""Cleaning a file into a new one, with a list of all changes and the lines that were set aside."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ftclient.data.clean.changes import Change, ChangeLog, shown
from ftclient.data.clean.mend import parse_loosely
from ftclient.data.clean.steps import SAFE_STEPS, STEPS, Cleaned, Cleaner, Cleaning
from ftclient.data.findings import Findings
from ftclient.data.new_file import new_file
from ftclient.data.prompts import exchange_of
from ftclient.data.reader import BOM, Line, blocks, lines, open_binary, parse_line
from ftclient.data.report import Issue
from ftclient.data.split import label_variants, labels_of

if TYPE_CHECKING:
    from rich.table import Table

_WHAT = {
    "bom": "plain UTF-8",
    "blank_line": "no blank lines",
    "rejected": "lines that cannot be mended, in a file of their own",
}
"""What is done to the file itself."""
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass
class CleanedFile:
    """What became of a file."""

    to: Path
    changes_path: Path
    """JSON lines: one change each, with line, path, step, before and after."""
    rejected_path: Path | None = None
    """JSON lines that could not be mended, with their errors; None if there are none."""
    n_read: int = 0
    n_written: int = 0
    n_changed: int = 0
    """Lines that were written and are not as they were."""
    n_dropped: int = 0
    n_rejected: int = 0
    changes_by_step: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """The numbers and paths as `ftclient clean --json` prints them."""
        paths = {"to": str(self.to), "changes_path": str(self.changes_path)}
        rejected = None if self.rejected_path is None else str(self.rejected_path)
        return {**asdict(self), **paths, "rejected_path": rejected, "changes_by_step": dict(self.changes_by_step)}

    def changes(self) -> Iterator[Change]:
        """All changes, read from their file."""
        with self.changes_path.open(encoding="utf-8") as stream:
            for line in stream:
                yield Change(**json.loads(line))

    def __str__(self) -> str:
        """One line for people."""
        aside = f", {self.n_rejected:,} set aside" if self.n_rejected else ""
        return (
            f"{self.n_read:,} examples read, {self.n_written:,} written ({self.n_changed:,} changed), "
            f"{self.n_dropped:,} dropped{aside}"
        )

    def __rich__(self) -> Table:
        """The changes by step."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=str(self), title_justify="left", box=None, pad_edge=False)
        table.add_column("changes", justify="right")
        table.add_column("step")
        table.add_column("what it leaves", style="dim")
        for step, count in self.changes_by_step.most_common():
            table.add_row(f"{count:,}", escape(step), {**STEPS, **_WHAT}.get(step, "mended as `check` proposes"))
        table.caption, table.caption_justify = f"every change: {escape(str(self.changes_path))}", "left"
        return table


def clean_file(
    source: str | Path,
    *,
    to: str | Path,
    steps: Iterable[str] = SAFE_STEPS,
    fix: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> CleanedFile:
    """Clean a file of examples into a new file.

    Beside `to`, a list of changes `<to>.changes.jsonl` is written and, with `fix`, the lines that cannot be mended
    go to `<to>.rejected.jsonl`, each with its errors. A byte order mark and blank lines are always left out.

    Args:
        source: A .jsonl, .jsonl.gz or .jsonl.zst file; it is not changed.
        to: The new file.
        steps: Names of `STEPS`.
        fix: Mend what `check` finds; what is written passes `check`.
        overwrite: Replace `to` if it exists.
        **options: Further fields of `Cleaning`: method, limits, too_long, count_tokens, finder, similarity.

    Raises:
        DataError: `to` is the source, or exists.
        ValueError: There is no such step.
    """
    source, to = Path(source), Path(to)
    steps = tuple(steps)
    if "labels" in steps and "label_names" not in options:
        options["label_names"] = label_names(source)
    cleaner = Cleaner(Cleaning(steps=steps, fix=fix, **options))
    result = CleanedFile(to, to.with_name(f"{to.name}.changes.jsonl"))
    rejected_path = to.with_name(f"{to.name}.rejected.jsonl")
    with ExitStack() as stack:
        target = stack.enter_context(new_file(to, not_over=source, overwrite=overwrite))
        log = ChangeLog(stack.enter_context(new_file(result.changes_path, not_over=source, overwrite=True)))
        aside = stack.enter_context(new_file(rejected_path, not_over=source, overwrite=True, keep_empty=False))
        work = _Work(cleaner, result, log, target, aside)
        for number, raw in _numbered(source, log):
            work.do_line(raw, number)
        result.changes_by_step = log.by_step
    result.rejected_path = rejected_path if result.n_rejected else None
    return result


def label_names(source: str | Path) -> dict[str, str]:
    """The most frequent spelling for each other spelling of a label; empty where answers are no labels."""
    parsed = (parse_line(raw).value for _, raw in _numbered(Path(source), ChangeLog()))
    exchanges = (exchange_of(value) for value in parsed if isinstance(value, dict))
    answers = [exchange.answer_text.strip() if len(exchange.answers) == 1 else None for exchange in exchanges]
    counts = Counter(label for label in labels_of(answers) if label is not None)
    return {other: names[0] for names in label_variants(counts) for other in names[1:]}


@dataclass
class _Work:
    """One pass over a file."""

    cleaner: Cleaner
    result: CleanedFile
    log: ChangeLog
    target: IO[bytes]
    aside: IO[bytes]

    def do_line(self, raw: bytes, number: int) -> None:
        """Clean one line and write it to where it belongs."""
        if not raw.decode(errors="replace").strip():
            self.log.extend([Change(number, "", "blank_line", "", None)])
            return
        self.result.n_read += 1
        line = parse_line(raw)
        if self.cleaner.cleaning.fix:
            line = self._read_again(line, raw, number)
        if not line.is_json:
            self._leave(raw, line, number)
            return
        cleaned = self.cleaner.clean(line.value, line=number)
        content = raw if not cleaned.changes and not _is_broken(line) else _dump(cleaned.example)
        self._write(cleaned, content, raw, number)

    def _write(self, cleaned: Cleaned, content: bytes, raw: bytes, number: int) -> None:
        errors = cleaned.errors
        if self.cleaner.cleaning.fix and not errors and cleaned.example is not None:
            errors = _problems(parse_line(content), number)
        if errors:
            self._set_aside(raw, errors, number)
            return
        self.log.extend(cleaned.changes)
        if cleaned.example is None:
            self.result.n_dropped += 1
            return
        self.result.n_written += 1
        self.result.n_changed += content is not raw
        self.target.write(content + b"\n")

    def _read_again(self, line: Line, raw: bytes, number: int) -> Line:
        """Read what is nearly JSON; take note of bytes that were replaced because they are no UTF-8."""
        if not line.is_json:
            try:
                value = parse_loosely(raw.decode(errors="replace"))
            except ValueError:
                return line
            self.log.extend([Change(number, "", "json_syntax", shown(raw.decode(errors="replace")), shown(value))])
            return Line(value, line.problems, is_json=True)
        encoding = [problem for problem in line.problems if problem.code == "encoding" and not problem.path]
        self.log.extend(Change(number, "", "encoding", problem.message, "replaced by U+FFFD") for problem in encoding)
        return line

    def _leave(self, raw: bytes, line: Line, number: int) -> None:
        """What is no JSON stays as it is, or is set aside when the result must pass the check."""
        if self.cleaner.cleaning.fix:
            self._set_aside(raw, _problems(line, number), number)
        else:
            self.result.n_written += 1
            self.target.write(raw + b"\n")

    def _set_aside(self, raw: bytes, errors: list[Issue], number: int) -> None:
        self.result.n_rejected += 1
        codes = ", ".join(dict.fromkeys(error.code for error in errors))
        self.log.extend([Change(number, "", "rejected", codes, None)])
        entry = {
            "line": number,
            "errors": [error.to_json() for error in errors],
            "text": raw.decode(errors="replace"),
        }
        self.aside.write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


def _numbered(source: Path, log: ChangeLog) -> Iterator[tuple[int, bytes]]:
    """The lines with their numbers, in UTF-8 and without a byte order mark."""
    with open_binary(source) as stream:
        is_utf16 = stream.read(2) in _UTF16_MARKS
    with open_binary(source) as stream:
        if is_utf16:
            log.extend([Change(None, "", "bom", "UTF-16", "UTF-8")])
        found = _from_utf16(stream) if is_utf16 else (line for block in blocks(stream) for line in lines(block))
        for number, raw in enumerate(found, 1):
            if number == 1 and raw.startswith(BOM):
                log.extend([Change(1, "", "bom", "byte order mark", None)])
            yield number, raw.removeprefix(BOM) if number == 1 else raw


def _from_utf16(stream: IO[bytes]) -> Iterator[bytes]:
    text = io.TextIOWrapper(stream, encoding="utf-16", errors="replace", newline="\n")
    try:
        for line in text:
            yield line.rstrip("\n").encode()
    finally:
        text.detach()  # the stream is closed by whoever opened it


def _is_broken(line: Line) -> bool:
    return any(problem.code != "duplicate_key" for problem in line.problems)


def _dump(example: Any) -> bytes:
    return json.dumps(example, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _problems(line: Line, number: int) -> list[Issue]:
    found = Findings(number)
    for problem in line.problems:
        found.add(problem.code, problem.path, problem.message)
    return [issue for issue in found.issues if issue.severity == "error"]
