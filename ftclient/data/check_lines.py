"""Checking blocks of lines, with a short way for the plain chats that most lines are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pydantic_core import from_json

from ftclient.data.chat import ROLES
from ftclient.data.check_methods import check_example
from ftclient.data.check_stats import Tally
from ftclient.data.findings import Findings, type_name
from ftclient.data.limits import Limits, Method
from ftclient.data.reader import Line, clean_text, has_spaced_keys, lines, parse_line
from ftclient.data.report import Issue
from ftclient.data.text_counter import TextCounter
from ftclient.data.tokens import DEFAULT_ENCODING, TokenCount, parts_of

CountTokens = Callable[[Mapping[str, Any]], TokenCount]
"""Counts the tokens of one example, where the model's own tokenizer is at hand."""

Labels = tuple[str, ...]
"""What each text of an example is: a role, `tools`, or untrained assistant text."""

_FIXED_TOKENS, _TOKENS_PER_MESSAGE = 3, 4
"""What a plain chat adds to its texts: see `ftclient.data.tokens`."""

_MAX_SHAPE = 64
"""Longer conversations are counted without their exact sequence of roles, so that memory stays bounded."""


@dataclass
class _Alike:
    """Examples whose texts have the same labels."""

    line_numbers: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """The texts of all of them, one example after the other."""


@dataclass
class BlockResult:
    """What one block of lines gave; the examples wait here until their tokens are counted together."""

    tally: Tally = field(default_factory=Tally)
    issues: list[Issue] = field(default_factory=list)
    waiting: dict[tuple[Labels, int], _Alike] = field(default_factory=dict)
    """By the labels of an example's texts and its tokens beside them."""

    def add(self, line_number: int, labels: Labels, texts: Sequence[str], fixed_tokens: int) -> None:
        """Add an example to be counted; `labels` say what each of its texts is."""
        alike = self.waiting.get((labels, fixed_tokens))
        if alike is None:
            alike = self.waiting[labels, fixed_tokens] = _Alike()
        alike.line_numbers.append(line_number)
        alike.texts += texts


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
        plain_chats: Counter[Labels] = Counter()
        has_short_way = self._method == "supervised" and self._count_tokens is None and not has_spaced_keys(block)
        found = lines(block)
        for number, raw in enumerate(found, first_line):
            plain = self._plain_chat(raw) if has_short_way else None
            if plain is None:
                self._check_line(result, parse_line(raw), raw, number)
            else:
                roles = tuple(plain[0])
                plain_chats[roles] += 1
                result.add(number, roles, plain[1], _FIXED_TOKENS + _TOKENS_PER_MESSAGE * len(roles))
        result.tally.counts["lines"] = len(found)
        result.tally.counts["examples"] += plain_chats.total()
        result.tally.formats["chat"] += plain_chats.total()
        result.tally.shapes.update(plain_chats)
        self._count(result)
        result.issues.sort(key=lambda issue: issue.line or 0)
        return result

    def _plain_chat(self, raw: bytes) -> tuple[list[str], list[str]] | None:
        """Roles and texts of a line that has nothing but valid messages of plain text; None for all other lines."""
        try:
            value = from_json(raw, allow_inf_nan=False, cache_strings="keys")
        except ValueError:
            return None
        plain = _plain_messages(value)
        if plain is None or raw.count(b'":') != 1 + 2 * len(plain[0]):
            return None
        if self._other_tokens and any(token in text for text in plain[1] for token in self._other_tokens):
            return None
        return plain

    def _count(self, result: BlockResult) -> None:
        """Count the tokens of all examples that wait, one kind after the other."""
        if self._counter is None:
            return
        counts = iter(self._counter.count([text for alike in result.waiting.values() for text in alike.texts]))
        for (labels, fixed_tokens), alike in result.waiting.items():
            found = list(islice(counts, len(alike.texts)))
            columns = [found[i :: len(labels)] for i in range(len(labels))]
            for label, column in zip(labels, columns, strict=True):
                result.tally.label_tokens[label] += sum(column)
            totals = [fixed_tokens + sum(row) for row in zip(*columns, strict=True)]
            totals = totals or [fixed_tokens] * len(alike.line_numbers)
            self._take_counts(result, alike.line_numbers, totals)
            trained = [column for label, column in zip(labels, columns, strict=True) if label == "assistant"]
            self._take_cuts(result, totals, [sum(row) for row in zip(*trained, strict=True)])

    def _take_cuts(self, result: BlockResult, totals: Sequence[int], trained: Sequence[int]) -> None:
        """Count what is beyond the context: exactly for all tokens, in proportion for those that are trained."""
        limit = self._limits.context_tokens
        if limit is None or max(totals) <= limit:
            return
        for total, n_trained in zip(totals, trained or [0] * len(totals), strict=True):
            if total > limit:
                counts = result.tally.counts
                counts["cut_examples"] += 1
                counts["cut_tokens"] += total - limit
                counts["cut_trained_tokens"] += n_trained - n_trained * limit // total

    def _take_counts(self, result: BlockResult, numbers: Sequence[int], totals: Sequence[int]) -> None:
        result.tally.example_tokens.update(totals)
        limit = self._limits.context_tokens
        if limit is None or max(totals) <= limit:
            return
        end = " Its end is cut off." if self._limits.too_long == "warning" else ""
        for number, n_tokens in zip(numbers, totals, strict=True):
            if n_tokens > limit:
                found = Findings(number, too_long=self._limits.too_long)
                what = f"The example has {n_tokens:,} tokens; the model is trained on {limit:,} at most.{end}"
                found.add("too_long", "", what)
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
            start = clean_text(str(value)[:4])
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
                count = self._count_tokens(example)
                tally.counts["trained_tokens"] += count.trained
                self._take_counts(result, [number], [count.total])
            return
        tally.counts["estimated"] += parts.is_estimate
        labels = tuple(label if label in _LABELS else "unknown" for label in parts.labels)
        result.add(number, labels, parts.texts, parts.fixed_tokens)


_LABELS = ROLES | {"tools", "assistant:0"}


def _plain_messages(value: Any) -> tuple[list[str], list[str]] | None:
    """Roles and texts of an example whose messages have nothing but role and text; None for all others."""
    roles: list[str] = []
    texts: list[str] = []
    try:
        for message in value["messages"]:
            role, text = message["role"], message["content"]
            if role not in _PLAIN_ROLES or len(message) != 2 or not text or text.isspace() or "<|" in text:  # noqa: PLR2004
                return None
            roles.append(role)
            texts.append(text)
    except (TypeError, KeyError, AttributeError):
        return None  # something is not of the type it should be, or missing
    is_plain = len(value) == 1 and 0 < len(roles) <= _MAX_SHAPE and roles[-1] == "assistant"
    return (roles, texts) if is_plain else None


_PLAIN_ROLES = ROLES - {"tool", "function"}


def _report_problems(found: Findings, line: Line) -> None:
    for problem in line.problems:
        host = None
        if problem.host_detail is not None:
            words = f" cannot be parsed. Error: line contains invalid json: {problem.host_detail} (line {found.line})"
            host = found.in_example(words)
        found.add(problem.code, problem.path, problem.message, host=host)
