"""What a check found: issues with line, path and remedy, and numbers about the file."""

from __future__ import annotations

import json
import tempfile
import weakref
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, overload

from ftclient.data.counted import counted
from ftclient.data.limits import OPENAI_LIMITS, Limits, Method
from ftclient.errors import DataError

if TYPE_CHECKING:
    from rich.console import Group

    from ftclient.data.clean import CleanedFile

Severity = Literal["error", "warning"]

_KEPT_IN_MEMORY = 20_000
"""Issues beyond this many go to a temporary file, so that a million bad lines do not fill the memory."""


@dataclass(frozen=True)
class Issue:
    """One problem of a file."""

    line: int | None
    """Physical line from 1; None for the file as a whole."""
    path: str
    """RFC 6901 pointer to the offending value, or to where the missing one belongs; "" is the whole line."""
    code: str
    severity: Severity
    message: str
    hint: str | None = None
    """What to do about it."""
    host_message: str | None = None
    """OpenAI's own words for this problem, where they are known."""

    def to_json(self) -> dict[str, Any]:
        """The six public fields."""
        return {
            "line": self.line,
            "path": self.path,
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "hint": self.hint,
        }


class IssueLog(Sequence[Issue]):
    """A list of issues that only grows and whose far end lies on disk."""

    def __init__(self) -> None:
        self._head: list[Issue] = []
        self._offsets = array("Q")
        self._tail: IO[bytes] | None = None
        self.by_code: Counter[str] = Counter()
        self.n_errors = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles hold all issues, in memory and on disk."""
        return _log_of, (list(self),)

    def append(self, issue: Issue) -> None:
        """Add one issue at the end."""
        self.by_code[issue.code] += 1
        self.n_errors += issue.severity == "error"
        if len(self._head) < _KEPT_IN_MEMORY:
            self._head.append(issue)
            return
        if self._tail is None:
            self._tail = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as this log; the system removes it
            weakref.finalize(self, self._tail.close)
        self._offsets.append(self._tail.seek(0, 2))
        self._tail.write(json.dumps(astuple(issue)).encode() + b"\n")

    def extend(self, issues: Iterable[Issue]) -> None:
        """Add issues at the end."""
        for issue in issues:
            self.append(issue)

    def __len__(self) -> int:
        """How many issues there are."""
        return len(self._head) + len(self._offsets)

    @overload
    def __getitem__(self, index: int) -> Issue: ...
    @overload
    def __getitem__(self, index: slice) -> list[Issue]: ...
    def __getitem__(self, index: int | slice) -> Issue | list[Issue]:
        """One issue, or a list of some."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        if position < len(self._head):
            return self._head[position]
        return self._read(self._offsets[position - len(self._head)])

    def __iter__(self) -> Iterator[Issue]:
        """All issues in order."""
        yield from self._head
        for offset in self._offsets:
            yield self._read(offset)

    def _read(self, offset: int) -> Issue:
        assert self._tail is not None  # noqa: S101  offsets exist only once the file does
        self._tail.seek(offset)
        return Issue(*json.loads(self._tail.readline()))


def _log_of(issues: Iterable[Issue]) -> IssueLog:
    log = IssueLog()
    log.extend(issues)
    return log


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome of a check. `ok` is True when there are no errors; warnings do not count."""

    n_examples: int
    issues: Sequence[Issue]
    stats: Mapping[str, Any] = field(default_factory=dict)
    n_errors: int = 0
    n_warnings: int = 0
    source: Path | None = None
    """The file, where there is one."""
    method: Method = "supervised"
    limits: Limits = OPENAI_LIMITS
    """What it was checked by."""

    @property
    def ok(self) -> bool:
        """Whether the file can be trained on."""
        return self.n_errors == 0

    def to_json(self) -> dict[str, Any]:
        """The report as `ftclient check --json` prints it."""
        return {
            "ok": self.ok,
            "n_examples": self.n_examples,
            "n_errors": self.n_errors,
            "n_warnings": self.n_warnings,
            "issues": [issue.to_json() for issue in self.issues],
            "stats": dict(self.stats),
        }

    def fixes(self, to: str | Path | None = None) -> CleanedFile:
        """Mend what can be mended without guessing, into a new file that passes the check; the source stays as it is.

        Args:
            to: The new file; by default `NAME.fixed.jsonl` beside the source.

        Returns:
            What was changed, line by line, and where the lines are that a person has to look at.

        Raises:
            DataError: The report is not about a file, or `to` exists already.
        """
        from ftclient.data.clean import clean_file

        if self.source is None:
            raise DataError("Only files can be fixed: write the dataset with .write(path) and check that.")
        name = self.source.name.partition(".jsonl")[0] + ".fixed.jsonl"
        return clean_file(
            self.source, to=to or self.source.with_name(name), fix=True, method=self.method, limits=self.limits
        )

    def __rich__(self) -> Group:
        """Verdict, numbers and issues by kind, for `rich.print(report)`."""
        from rich.console import Group

        from ftclient.data.report_view import render

        return Group(*render(self))

    def __str__(self) -> str:
        """The counts in one line."""
        numbers = ((self.n_examples, "example"), (self.n_errors, "error"), (self.n_warnings, "warning"))
        return ", ".join(counted(n, noun) for n, noun in numbers)
