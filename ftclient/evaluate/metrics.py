"""Scores of single answers, and the figures that they make together."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ftclient.evaluate.graders.similarity import words
from ftclient.evaluate.questions import Answer, Call, Question

_FINAL_NUMBER = re.compile(r"####\s*(-?\d[\d,]*(?:\.\d+)?)\s*$")
_ANY_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_MOST_DEPTH = 100
"""JSON nested beyond it is taken for none: Python's own stack ends a little later."""
_DRESS = " \"'`“”「」.。"
_WRITTEN_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)

LabelsPair = tuple[tuple[str, ...], tuple[str, ...]]
"""Expected and given labels of a question that may have several; each once."""


def exact_match(answer: str, expected: str) -> bool:
    """Whether the answer is the expected one, character by character, but for white space around it."""
    return answer.strip() == expected.strip()


def is_json(text: str) -> bool:
    """Whether the text is one JSON object or array and nothing else."""
    return isinstance(_json(text), dict | list)


def same_json(answer: str, expected: str) -> bool:
    """Whether two texts hold the same JSON value, however it is written."""
    value = _json(answer)
    return value is not None and _as_text(value) == _as_text(_json(expected))


def fields_right(answer: str, expected: str) -> float:
    """Return the share of the expected JSON's values that the answer has at the same place, of 1."""
    wanted, found = dict(_leaves(_json(expected))), dict(_leaves(_json(answer)))
    hits = sum(path in found and _as_text(found[path]) == _as_text(value) for path, value in wanted.items())
    return hits / len(wanted) if wanted else float(same_json(answer, expected))


def as_label(text: str) -> str:
    """Return a label without what does not make it another one: case, white space, quotes and a full stop."""
    return without_signs(text).casefold()


def without_signs(text: str) -> str:
    """Return a label without quotes and a full stop, and with single spaces, in its own case."""
    return " ".join(text.split()).strip(_DRESS)


def shared_words(answer: str, expected: str) -> float:
    """Return how many words the texts share: the F-measure of precision and recall, of 1.

    Where neither has words but signs alone, it is 1 for the same text and else 0.
    """
    ours, theirs = Counter(words(answer)), Counter(words(expected))
    shared = (ours & theirs).total()
    n = sum(ours.values()) + sum(theirs.values())
    return 2 * shared / n if n else float(exact_match(answer, expected))


def final_number(text: str) -> str | None:
    """Return the number behind `####`, in which the answers of grade-school problems end; None if there is none."""
    found = _FINAL_NUMBER.search(text.strip())
    return found[1].replace(",", "") if found else None


def same_number(answer: str, expected: str) -> bool:
    """Whether the answer's final number is the expected one; without `####` its last number counts."""
    numbers = _ANY_NUMBER.findall(answer)
    found = final_number(answer) or (numbers[-1].replace(",", "") if numbers else None)
    wanted = final_number(expected)
    return found is not None and wanted is not None and math.isclose(float(found), float(wanted))


def calls_in(answer: Answer) -> list[Call]:
    """Return the calls of an answer; small models write them into the text, between <tool_call> tags."""
    if answer.calls:
        return list(answer.calls)
    found = []
    for written in _WRITTEN_CALL.findall(answer.text):
        call = _json(written)
        if isinstance(call, dict) and isinstance(call.get("name"), str):
            arguments = call.get("arguments", {})
            text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
            found.append(Call(name=call["name"], arguments=text))
    return found


def names_right(question: Question, answer: Answer) -> bool:
    """Whether the answer calls the expected tools, in whatever order."""
    called = sorted(call.name for call in calls_in(answer))
    return called == sorted(call.name for call in question.expected_calls)


def calls_right(question: Question, answer: Answer) -> bool:
    """Whether the answer makes the expected calls: the same tools with the same arguments, in whatever order."""
    return _sorted_calls(calls_in(answer)) == _sorted_calls(question.expected_calls)


def arguments_right(question: Question, answer: Answer) -> float:
    """Return the share of expected arguments that were given as expected, of 1."""
    if not question.expected_calls:
        return float(not calls_in(answer))
    left, hits, n = calls_in(answer), 0.0, 0
    for wanted in question.expected_calls:
        same = next((call for call in left if call.name == wanted.name), None)
        n += 1
        if same is not None:
            left.remove(same)
            hits += fields_right(same.arguments, wanted.arguments)
    return hits / max(n, n + len(left))


def macro_f1(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the mean over labels of each one's F-measure, so that rare labels count as much as common ones.

    Args:
        pairs: Expected and given label of each question.
    """
    hits, wanted, given = Counter[str](), Counter[str](), Counter[str]()
    for expected, answer in pairs:
        wanted[expected] += 1
        given[answer] += 1
        hits[expected] += expected == answer
    return _mean_f1(hits, wanted, given)


def macro_f1_of_lists(pairs: Sequence[LabelsPair]) -> float:
    """Return the macro F1 where a question may have several labels, or none; without any at all 1 if none is given.

    Args:
        pairs: Expected and given labels of each question.
    """
    hits, wanted, given = Counter[str](), Counter[str](), Counter[str]()
    for expected, answer in pairs:
        wanted.update(expected)
        given.update(answer)
        hits.update(set(expected) & set(answer))
    return _mean_f1(hits, wanted, given) if wanted else float(not given)


def n_behind_macro_f1(pairs: Sequence[tuple[str, str]]) -> float:
    """Return how many evenly spread questions would say as much of the macro F1: Kish's effective sample size.

    Each label counts the same, so that the few questions of a rare one weigh more; where all labels are as frequent it
    is the number of questions.

    Args:
        pairs: Expected and given label of each question.
    """
    return _kish(Counter(expected for expected, _ in pairs))


def n_behind_macro_f1_of_lists(pairs: Sequence[LabelsPair]) -> float:
    """Return the same where a question may have several labels; never more than there are questions.

    Args:
        pairs: Expected and given labels of each question.
    """
    counts = Counter(label for expected, _ in pairs for label in expected)
    return min(len(pairs), _kish(counts)) if counts else len(pairs)


def perplexity(scored: Sequence[tuple[float, int]]) -> float:
    """Return the perplexity over answers.

    Args:
        scored: Log-probability (natural) and number of tokens of each expected answer.
    """
    n = sum(count for _, count in scored)
    return math.exp(-math.fsum(logprob for logprob, _ in scored) / n) if n else math.nan


def _mean_f1(hits: Mapping[str, int], wanted: Mapping[str, int], given: Mapping[str, int]) -> float:
    """The mean F-measure of the labels that are wanted, by how often each is given rightly, wanted, and given."""
    return sum(2 * hits[label] / (n + given[label]) for label, n in wanted.items()) / len(wanted)


def _kish(counts: Mapping[str, int]) -> float:
    return len(counts) ** 2 / sum(1 / n for n in counts.values())


def _sorted_calls(calls: Sequence[Call]) -> list[tuple[str, str]]:
    return sorted((call.name, _canonical(call.arguments)) for call in calls)


def _canonical(arguments: str) -> str:
    value = _json(arguments)
    return arguments if value is None else _as_text(value)


def _json(text: str) -> Any:
    """The JSON value of a text, in which 1 and 1.0 are alike; None if there is none."""
    try:
        return _numbers_alike(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _numbers_alike(value: Any, depth: int = 0) -> Any:
    if depth > _MOST_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, Mapping):
        return {key: _numbers_alike(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers_alike(each, depth + 1) for each in value]
    return _number(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _number(value: int) -> float:
    """The number as a float, if that is exact."""
    try:
        found = float(value)
    except OverflowError:
        return value
    return found if found == value else value


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [leaf for key, each in value.items() for leaf in _leaves(each, f"{path}/{key}")]
    if isinstance(value, list) and value:
        return [leaf for at, each in enumerate(value) for leaf in _leaves(each, f"{path}/{at}")]
    return [] if value is None and not path else [(path, value)]


def _as_text(value: Any) -> str:
    """Equal for what is equal as JSON: a number is no truth value."""
    return json.dumps(value, sort_keys=True)
