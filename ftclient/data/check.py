"""Checking whole files: `check_file` for bytes, `check_examples` for objects.

The file is read once, in blocks of whole lines; large files are shared out to worker processes block by block. What
is hashed, checked and counted are the same bytes, so the report speaks of exactly one content.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypedDict

from ftclient.data.check_lines import CountTokens
from ftclient.data.check_processes import Numbered, Rules, check_blocks
from ftclient.data.check_stats import Tally, summarize
from ftclient.data.findings import HINTS, WARNINGS
from ftclient.data.limits import OPENAI_LIMITS, Limits, Method
from ftclient.data.reader import BOM, blocks, decompression_errors, dump_line, is_compressed, open_binary
from ftclient.data.report import Issue, IssueLog, Report, Severity
from ftclient.data.tokens import DEFAULT_ENCODING
from ftclient.data.vocab import ensure_vocabulary

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes done and the bytes in all (None if unknown, as in compressed files)."""

_OWN_TOKENIZER = "Tokens are not counted: this model has its own tokenizer, which its backend can ask."
_NO_VOCABULARY = (
    "Tokens are not counted: the vocabulary {} is not in tiktoken's cache and cannot be downloaded now. "
    "Set TIKTOKEN_CACHE_DIR to a folder that has it, or check again with a network."
)
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_BOM_HOST_MESSAGE = (
    "Expected file to have JSONL format, where every line is a JSON dictionary. "
    "Line 1 is not a dictionary (HINT: line starts with: ...)."
)


@dataclass
class _Source:
    """Reads, hashes and cuts the stream, and takes note of what is wrong with the stream as such."""

    stream: IO[bytes]
    path: Path | None
    progress: Progress | None
    total_bytes: int | None = None
    tokens_note: str = ""
    n_bytes: int = 0
    sha256: Any = field(default_factory=hashlib.sha256)
    problems: list[Issue] = field(default_factory=list)

    def numbered(self) -> Iterator[Numbered]:
        """Blocks of whole lines; a damaged compressed file is noted and ends there."""
        first_line = 1
        try:
            for block in self._without_bom(blocks(self.stream)):
                yield Numbered(block, first_line)
                first_line += block.count(b"\n")
                if self.progress is not None:
                    self.progress(self.n_bytes, self.total_bytes)
        except decompression_errors() as error:
            what = f"The compressed file is damaged after {self.n_bytes:,} bytes of content: {error}."
            self.problems.append(_file_issue("encoding", what, hint="Compress the file again."))

    def _without_bom(self, found: Iterable[bytes]) -> Iterator[bytes]:
        for i, block in enumerate(found):
            self.n_bytes += len(block)
            self.sha256.update(block)
            if i == 0 and block.startswith(_UTF16_MARKS):
                self.problems.append(_file_issue("bom", "The file is UTF-16; it must be UTF-8.", _BOM_HOST_MESSAGE))
                return
            if i == 0 and block.startswith(BOM):
                what = "The file starts with a byte order mark."
                self.problems.append(_file_issue("bom", what, _BOM_HOST_MESSAGE))
                yield block[len(BOM) :]
            else:
                yield block


def check_file(
    source: str | Path | IO[bytes],
    *,
    method: Method = "supervised",
    limits: Limits = OPENAI_LIMITS,
    is_training: bool = True,
    count_tokens: CountTokens | None = None,
    encoding: str | None = DEFAULT_ENCODING,
    progress: Progress | None = None,
    max_workers: int | None = None,
) -> Report:
    """Check a training file. Whatever its bytes are, the answer is a report.

    Args:
        source: Path of a .jsonl, .jsonl.gz or .jsonl.zst file, or a binary stream of JSONL.
        method: What the file is for.
        limits: What the host accepts.
        is_training: False for validation files, which may be short.
        count_tokens: Counts the tokens of a sound example by the model's own tokenizer; replaces `encoding` and keeps
            the work in this process.
        encoding: tiktoken encoding that counts tokens; None does not count.
        progress: Called after each block with the bytes done and the bytes in all.
        max_workers: Number of worker processes; 0 works in this one. By default as many as there are processors, up
            to three, and none for files below 8 MiB.

    Returns:
        All problems of all lines in the order of the file, then those of the file, and numbers about it.

    Raises:
        OSError: The file cannot be read.
        MissingDependencyError: A .zst file, and no zstandard library.
    """
    has_vocabulary = encoding is not None and count_tokens is None and ensure_vocabulary(encoding)
    rules = Rules(method=method, limits=limits, encoding=encoding if has_vocabulary else None)
    how: _How = {"is_training": is_training, "count_tokens": count_tokens, "max_workers": max_workers}
    note = _OWN_TOKENIZER if encoding is None else _NO_VOCABULARY.format(encoding)
    if not isinstance(source, str | Path):
        return _check_stream(_Source(source, None, progress, tokens_note=note), rules, **how)
    path = Path(source)
    total_bytes = None if is_compressed(path) else path.stat().st_size
    with open_binary(path) as stream:
        return _check_stream(_Source(stream, path, progress, total_bytes, note), rules, **how)


class _How(TypedDict):
    is_training: bool
    count_tokens: CountTokens | None
    max_workers: int | None


def _check_stream(
    source: _Source, rules: Rules, *, is_training: bool, count_tokens: CountTokens | None, max_workers: int | None
) -> Report:
    log, tally = IssueLog(), Tally()
    for result in check_blocks(source.numbered(), rules, max_workers=max_workers, count_tokens=count_tokens):
        log.extend(result.issues)
        tally.add(result.tally)
    log.extend(source.problems)
    log.extend(_whole_file(tally, rules.limits, is_training=is_training, has_problems=bool(source.problems)))
    counted_by = rules.encoding if count_tokens is None else "the model's own tokenizer"
    stats = summarize(tally, n_bytes=source.n_bytes, encoding=counted_by)
    stats["sha256"] = source.sha256.hexdigest()
    n_warnings = len(log) - log.n_errors
    if counted_by is None:
        stats["tokens_note"] = source.tokens_note
    return Report(
        n_examples=tally.counts["examples"],
        issues=log,
        stats=stats,
        n_errors=log.n_errors,
        n_warnings=n_warnings,
        source=source.path,
        method=rules.method,
        limits=rules.limits,
    )


def _whole_file(tally: Tally, limits: Limits, *, is_training: bool, has_problems: bool) -> Iterator[Issue]:
    n_examples = tally.counts["examples"]
    if n_examples == 0 and not has_problems:
        yield _file_issue("file_empty", "The file has no examples.")
    elif is_training and 0 < n_examples < limits.min_examples:
        what = f"The file has {n_examples} examples; at least {limits.min_examples} are needed."
        host = f"Training file has {n_examples} example(s), but must have at least {limits.min_examples} examples"
        yield _file_issue("too_few_examples", what, host)
    n_with_images, most = tally.counts["with_images"], limits.max_image_examples
    if most is not None and n_with_images > most:
        what = f"{n_with_images:,} examples have images; the host takes {most:,} of them."
        yield _file_issue("image_examples_too_many", what)
    formats = {name: n for name, n in tally.formats.items() if name != "unknown" and n}
    if len(formats) > 1:
        listed = ", ".join(f"{n} {name}" for name, n in sorted(formats.items()))
        yield _file_issue("mixed_formats", f"The file has examples of several formats: {listed}.")


def _file_issue(code: str, message: str, host_message: str | None = None, *, hint: str | None = None) -> Issue:
    severity: Severity = "warning" if code in WARNINGS else "error"
    return Issue(None, "", code, severity, message, hint or HINTS[code], host_message)


def check_examples(
    examples: Iterable[Mapping[str, Any]],
    *,
    method: Method = "supervised",
    limits: Limits = OPENAI_LIMITS,
    is_training: bool = True,
    count_tokens: CountTokens | None = None,
    encoding: str | None = DEFAULT_ENCODING,
) -> Report:
    """Check examples that are objects already, as if each were a line of a file.

    Raises:
        DataError: An example cannot be written as JSON.
    """
    content = b"".join(dump_line(example, number) for number, example in enumerate(examples, 1))
    return check_file(
        io.BytesIO(content),
        method=method,
        limits=limits,
        is_training=is_training,
        count_tokens=count_tokens,
        encoding=encoding,
        max_workers=0,
    )
