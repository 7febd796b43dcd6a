"""Checking blocks of lines, with a short way for the plain chats that most lines are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from ftclient.data.chat import ROLES
from ftclient.data.check_methods import check_example
from ftclient.data.check_stats import Tally
from ftclient.data.findings import Findings, quoted, type_name
from ftclient.data.limits import Limits, Method
from ftclient.data.reader import Line, lines, may_repeat_keys, parse_line
from ftclient.data.report import Issue
from ftclient.data.text_counter import TextCounter
from ftclient.data.tokens import DEFAULT_ENCODING, parts_of

CountTokens = Callable[[Mapping[str, Any]], int]
"""Counts the tokens of one example, where the model's own tokenizer is at hand."""

_FIXED_TOKENS, _TOKENS_PER_MESSAGE = 3, 4
"""What a plain chat adds to its texts: see `ftclient.data.tokens`."""

_MAX_SHAPE = 64
"""Longer conversations are counted without their exact sequence of roles, so that memory stays bounded."""


@dataclass
class BlockResult:
    """What one block of lines gave; the examples wait here until their tokens are counted together."""

    tally: Tally = field(default_factory=Tally)
    issues: list[Issue] = field(default_factory=list)
    line_numbers: list[int] = field(default_factory=list)
    labels: list[Sequence[str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    fixed_tokens: list[int] = field(default_factory=list)

    def add(self, line_number: int, labels: Sequence[str], texts: Sequence[str], fixed_tokens: int) -> None:
        """Add an example to be counted; `labels` say what each of its texts is."""
        self.line_numbers.append(line_number)
        self.labels.append(labels)
        self.texts += texts
        self.fixed_tokens.append(fixed_tokens)


class BlockChecker:
    """Checks blocks of lines by the rules of one method and host."""

    def __init__(
        self,
        *,
        method: Method,
        limits: Limits,
        counter: TextCounter | None = None,
        encoding_name: str | None = None,
        count_tokens: CountTokens | None = None,
    ) -> None:
        self._method = method
        self._limits = limits
        self._counter = counter
        self._encoding_name = encoding_name or DEFAULT_ENCODING
        self._count_tokens = count_tokens
        self._other_tokens = tuple(token for token in limits.special_tokens if not token.startswith("<|"))

    def check(self, block: bytes, first_line: int) -> BlockResult:
        """Check a block of whole lines, the first of which has the number `first_line`."""
        result = BlockResult()
        has_short_way = self._method == "supervised" and self._count_tokens is None
        found = lines(block)
        for number, raw in enumerate(found, first_line):
            plain = self._plain_chat(raw) if has_short_way else None
            if plain is None:
                self._check_line(result, parse_line(raw), raw, number)
            else:
                roles, texts = plain
                result.tally.shapes[tuple(roles)] += 1
                result.add(number, roles, texts, _FIXED_TOKENS + _TOKENS_PER_MESSAGE * len(roles))
        self._finish(result, len(found))
        return result

    def _plain_chat(self, raw: bytes) -> tuple[list[str], list[str]] | None:
        """Roles and texts of a line that has nothing but valid messages of plain text; None for all other lines."""
        try:
            value = from_json(raw, allow_inf_nan=False, cache_strings="keys")
        except ValueError:
            return None
        plain = _plain_messages(value)
        if plain is None or may_repeat_keys(raw, 1 + 2 * len(plain[0])):
            return None
        if self._other_tokens and any(token in text for text in plain[1] for token in self._other_tokens):
            return None
        return plain

    def _finish(self, result: BlockResult, n_lines: int) -> None:
        tally = result.tally
        n_plain = len(result.line_numbers) - tally.counts["taken_apart"]
        del tally.counts["taken_apart"]
        tally.counts["lines"] = n_lines
        tally.counts["examples"] += n_plain
        tally.formats["chat"] += n_plain
        if self._counter is not None:
            self._count(result, self._counter)
        result.issues.sort(key=lambda issue: issue.line or 0)

    def _count(self, result: BlockResult, counter: TextCounter) -> None:
        counts = counter.count(result.texts)
        tally = result.tally
        at = 0
        for number, labels, fixed in zip(result.line_numbers, result.labels, result.fixed_tokens, strict=True):
            total = fixed
            for label in labels:
                total += counts[at]
                tally.label_tokens[label] += counts[at]
                at += 1
            self._take_count(result, number, total)

    def _take_count(self, result: BlockResult, number: int, n_tokens: int) -> None:
        result.tally.example_tokens[n_tokens] += 1
        limit = self._limits.context_tokens
        if limit is not None and n_tokens > limit:
            found = Findings(number, too_long=self._limits.too_long)
            what = f"The example has {n_tokens:,} tokens; the model is trained on {limit:,} at most."
            end = " Its end is cut off." if self._limits.too_long == "warning" else ""
            found.add("too_long", "", what + end)
            result.issues += found.issues

    def _check_line(self, result: BlockResult, line: Line, raw: bytes, number: int) -> None:
        found = Findings(number, too_long=self._limits.too_long)
        tally = result.tally
        if not line.is_json and not raw.decode(errors="replace").strip():
            found.add("blank_line", "", "The line is blank.")
            tally.counts["blank_lines"] += 1
            result.issues += found.issues
            return
        tally.counts["examples"] += 1
        _report_problems(found, line)
        if line.is_json:
            try:
                self._check_value(found, result, line.value, number)
            except RecursionError:
                found.add("json_syntax", "", "The JSON is nested too deeply to be read.")
        result.issues += found.issues

    def _check_value(self, found: Findings, result: BlockResult, value: Any, number: int) -> None:
        if not isinstance(value, dict):
            what = f"The line is {type_name(value)}, not an object."
            start = quoted(value, limit=4)[1:-1]
            host = (
                "Expected file to have JSONL format, where every line is a JSON dictionary. "
                f'Line {number} is not a dictionary (HINT: line starts with: "{start}...").'
            )
            found.add("not_an_object", "", what, host=host)
            return
        result.tally.formats[check_example(found, value, method=self._method, limits=self._limits)] += 1
        self._take_apart(result, value, number, is_sound=not found.has_errors)

    def _take_apart(self, result: BlockResult, example: Mapping[str, Any], number: int, *, is_sound: bool) -> None:
        """Count what an example consists of; its texts wait for `_count`."""
        parts = parts_of(example, method=self._method, encoding_name=self._encoding_name)
        tally = result.tally
        tally.shapes[tuple(role if role in ROLES else "unknown" for role in parts.roles[:_MAX_SHAPE])] += 1
        tally.counts["images"] += parts.n_images
        tally.counts["with_images"] += parts.n_images > 0
        tally.counts["with_tools"] += parts.n_tools > 0
        if self._count_tokens is not None:
            if is_sound:
                self._take_count(result, number, self._count_tokens(example))
            return
        tally.counts["estimated"] += parts.is_estimate
        tally.counts["taken_apart"] += 1
        labels = [label if label in _LABELS else "unknown" for label in parts.labels]
        result.add(number, labels, parts.texts, parts.fixed_tokens)


_LABELS = ROLES | {"tools", "assistant:0"}


def _plain_messages(value: Any) -> tuple[list[str], list[str]] | None:
    if type(value) is not dict or len(value) != 1:
        return None
    messages = value.get("messages")
    if type(messages) is not list or not messages:
        return None
    roles: list[str] = []
    texts: list[str] = []
    for message in messages:
        if type(message) is not dict or len(message) != 2:  # noqa: PLR2004  role and content
            return None
        role, text = message.get("role"), message.get("content")
        if type(role) is not str or role not in _PLAIN_ROLES or type(text) is not str:
            return None
        if not text or text.isspace() or "<|" in text:
            return None
        roles.append(role)
        texts.append(text)
    return (roles, texts) if roles[-1] == "assistant" and len(roles) <= _MAX_SHAPE else None


_PLAIN_ROLES = ROLES - {"tool", "function"}


def _report_problems(found: Findings, line: Line) -> None:
    for problem in line.problems:
        host = None
        if problem.host_detail is not None:
            words = f" cannot be parsed. Error: line contains invalid json: {problem.host_detail} (line {found.line})"
            host = found.in_example(words)
        found.add(problem.code, problem.path, problem.message, host=host)
