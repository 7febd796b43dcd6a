"""What kind of answers a dataset expects, and by which figures models that give them are compared."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ftclient.evaluate import facts, labels, metrics
from ftclient.evaluate.graders import Grader, LabelModel, ScoreModel
from ftclient.evaluate.graders.kinds import StringCheck
from ftclient.evaluate.graders.similarity import words
from ftclient.evaluate.questions import Answer, Question

TaskKind = Literal["calls", "json", "labels", "numbers", "facts", "text"]

_MOST_LABEL_WORDS = 6
_MOST_LABEL_CHARS = 60
_EXAMPLES_A_LABEL = 2
"""Labels come again: with fewer examples each they may as well be short texts."""
_SHOWN_SLIPS = 3

_SHORT_SHARE = 0.9
"""Among short facts a few longer answers are no matter."""
_FACT_SHARE = 0.5


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure: what each answer gives to it, and what they make together."""

    name: str
    title: str
    total: Callable[[Sequence[Any]], float] = mean
    is_binary: bool = False
    """Each answer gives 1 or 0."""
    is_share: bool = True
    """Printed as a percentage."""
    lower_is_better: bool = False
    bounds: tuple[float, float] | None = (0.0, 1.0)
    """Between which values the figure lies; None where it has no bounds."""
    n_behind: Callable[[Sequence[Any]], float] = len
    """How many questions the figure rests on, given what each of them gave."""
    right_from: float | None = 1.0
    """From where on an answer counts as right; None: this figure says nothing of single answers."""

    def is_right(self, value: Any) -> bool | None:
        """Whether an answer of this value is right; None where this figure does not say."""
        return None if self.right_from is None else bool(value >= self.right_from)


Measure = Callable[[Question, Answer], Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the expected answers look like, and what follows from it."""

    kind: TaskKind
    reason: str
    """In words: why these metrics."""
    measures: Sequence[tuple[Metric, Measure]]
    """The first metric is the one that models are compared by."""


EXACT = Metric(name="exact_match", title="exact match", is_binary=True)
VALID_JSON = Metric(name="valid_json", title="valid JSON", is_binary=True)
FIELDS = Metric(name="field_accuracy", title="fields right")
ACCURACY = Metric(name="accuracy", title="accuracy", is_binary=True)
MACRO_F1 = Metric(
    name="macro_f1", title="macro F1", total=metrics.macro_f1, n_behind=metrics.n_behind_macro_f1, right_from=None
)
MACRO_F1_OF_LISTS = replace(MACRO_F1, total=metrics.macro_f1_of_lists, n_behind=metrics.n_behind_macro_f1_of_lists)
CALLS = Metric(name="call_match", title="calls right", is_binary=True)
CALL_NAMES = Metric(name="call_names", title="tools right", is_binary=True)
CALL_ARGUMENTS = Metric(name="call_arguments", title="arguments right")
NUMBER = Metric(name="final_number", title="number right", is_binary=True)
CONTAINS = Metric(name="contains_answer", title="contains the answer", is_binary=True)
WORDS = Metric(name="shared_words", title="shared words", right_from=0.5)
PERPLEXITY = Metric(
    name="perplexity",
    title="perplexity",
    total=metrics.perplexity,
    is_share=False,
    lower_is_better=True,
    bounds=None,
    right_from=None,
)


def task_of(questions: Sequence[Question], *, are_labels: bool = False, because: str = "a classifier is asked") -> Task:
    """Return the task that the expected answers of these questions make up.

    Args:
        questions: With the expected answers.
        are_labels: These are known to be labels, or lists of them.
        because: Why that is known, in words.
    """
    n, n_calls = len(questions), sum(bool(question.expected_calls) for question in questions)
    if 2 * n_calls >= n:
        return Task(kind="calls", reason=f"{n_calls} of {n} expected answers call tools", measures=_CALLS)
    expected = [question.expected for question in questions]
    if are_labels or _look_like_labels(expected):
        lists = labels.lists_of(expected, with_numbers=are_labels)
        known = because if are_labels else None
        return _labels_task(expected, because=known) if lists is None else _lists_task(lists, because=known)
    if all(map(metrics.is_json, expected)):
        return _json_task(n, is_ordered=_are_ordered(expected))
    if all(metrics.final_number(text) for text in expected):
        return Task(kind="numbers", reason=f"all {n} expected answers end in a number behind ####", measures=_NUMBERS)
    return _texts_task(expected)


def task_like(questions: Sequence[Question], examples: Sequence[Question]) -> Task:
    """Return the task of questions, few of which may not show that they are about labels, where training data do.

    Args:
        questions: With the expected answers.
        examples: The training data.
    """
    task, together = task_of(questions), [each.expected for each in (*examples, *questions)]
    if task.kind == "labels" and _are_ordered(together):
        return _json_task(len(questions), is_ordered=True)
    if task.kind in {"labels", "calls"} or not _look_like_labels(together):
        return task
    return task_of(questions, are_labels=True, because="the training data have labels")


def metric_of(grader: Grader) -> Metric:
    """Return the metric of a grader's rewards."""
    is_binary = isinstance(grader, StringCheck | LabelModel)
    # Rewards of code and formulas may be any number; as a rule they are from 0 to 1, and intervals look whether.
    low, high = grader.range if isinstance(grader, ScoreModel) else (0.0, 1.0)
    line = grader.pass_threshold
    return Metric(
        name=grader.name,
        title=grader.name,
        is_binary=is_binary,
        is_share=is_binary,
        bounds=(low, high),
        right_from=line if line is not None else 1.0 if is_binary else (low + high) / 2,
    )


def _json_task(n: int, *, is_ordered: bool) -> Task:
    ordered = ", lists whose order counts: some have the same in another one" if is_ordered else ""
    return Task(kind="json", reason=f"all {n} expected answers are JSON{ordered}", measures=_JSON)


def _lists_task(lists: Sequence[Sequence[str]], *, because: str | None) -> Task:
    read = labels.Reader(_joined(lists))
    way = labels.LabelLists(read)
    what = f"the {len(lists)} expected answers are lists of {read.n} labels"
    measures = ((EXACT, way.is_right), (VALID_JSON, _valid_json), (MACRO_F1_OF_LISTS, way.pair))
    return Task(kind="labels", reason=_reason(what, read, because=because), measures=measures)


def _labels_task(expected: Sequence[str], *, because: str | None) -> Task:
    read = labels.Reader(expected)
    way = labels.OneLabel(read)
    what = f"the {len(expected)} expected answers are {read.n} {'labels' if because else 'short labels'}"
    measures = ((ACCURACY, way.is_right), (MACRO_F1, way.pair))
    return Task(kind="labels", reason=_reason(what, read, because=because), measures=measures)


def _reason(what: str, read: labels.Reader, *, because: str | None) -> str:
    known = f"{because}: " if because else ""
    alike = f", of which {read.n_alike} are alike but for case or signs" if read.n_alike else ""
    shown = ", ".join(map(repr, read.slips[:_SHOWN_SLIPS])) + (", ..." if len(read.slips) > _SHOWN_SLIPS else "")
    slips = f"; rare spellings of them ({shown}) count as the common ones" if read.slips else ""
    return f"{known}{what}{alike}{slips}"


def _texts_task(expected: Sequence[str]) -> Task:
    """The task of answers that are short facts, or texts."""
    length = statistics.median(len(words(text)) for text in expected)
    if _are_facts(expected):
        reason = (
            f"expected answers are short facts of some {length:.0f} words: right is what contains them and does not "
            "list others"
        )
        measures = ((CONTAINS, facts.ContainsAnswer(expected)), *_TEXT)
        return Task(kind="facts", reason=reason, measures=measures)
    return Task(kind="text", reason=f"expected answers are free text of some {length:.0f} words", measures=_TEXT)


def _look_like_labels(expected: Sequence[str]) -> bool:
    """Whether these look like labels, or like lists of them, and not like JSON or numbers."""
    lists = labels.lists_of(expected, with_numbers=False)
    if lists is not None:
        return _are_label_lists(lists)
    is_other = all(map(metrics.is_json, expected)) or all(metrics.final_number(text) for text in expected)
    return not is_other and _are_labels(expected)


def _are_labels(texts: Sequence[str]) -> bool:
    """Whether these look like labels: short, and each comes again."""
    return all(map(_is_short, texts)) and 1 < labels.Reader(texts).n <= len(texts) / _EXAMPLES_A_LABEL


def _are_label_lists(lists: Sequence[Sequence[str]]) -> bool:
    """Whether these look like lists of labels, in no order, none of which is in a list twice."""
    are_sets = all(len(set(each)) == len(each) for each in lists) and not labels.are_ordered(lists)
    return are_sets and _are_labels(_joined(lists))


def _are_ordered(expected: Sequence[str]) -> bool:
    """Whether these are lists of texts in JSON whose order says something."""
    lists = labels.lists_of(expected, with_numbers=False)
    return lists is not None and labels.are_ordered(lists)


def _joined(lists: Sequence[Sequence[str]]) -> list[str]:
    return [label for each in lists for label in each]


def _are_facts(expected: Sequence[str]) -> bool:
    """Whether these are short facts, each to its own question: answers that come again are labels or phrases."""
    cores, n = [facts.core(text) for text in expected], len(expected)
    if not all(cores) or not all(map(_is_line, expected)) or 2 * len(set(cores)) <= n:
        return False
    n_short = sum(facts.n_core_words(text) <= facts.MOST_WORDS for text in expected)
    return n_short >= _SHORT_SHARE * n and sum(map(facts.is_fact, expected)) >= _FACT_SHARE * n


def _is_line(text: str) -> bool:
    return "\n" not in text.strip() and len(text) <= _MOST_LABEL_CHARS


def _is_short(text: str) -> bool:
    return _is_line(text) and bool(text.strip()) and len(text.split()) <= _MOST_LABEL_WORDS


def _exact(question: Question, answer: Answer) -> float:
    return float(metrics.exact_match(answer.text, question.expected))


def _exact_json(question: Question, answer: Answer) -> float:
    return float(_exact(question, answer) or metrics.same_json(answer.text, question.expected))


def _valid_json(_question: Question, answer: Answer) -> float:
    return float(metrics.is_json(answer.text))


def _fields(question: Question, answer: Answer) -> float:
    return metrics.fields_right(answer.text, question.expected)


def _number(question: Question, answer: Answer) -> float:
    return float(metrics.same_number(answer.text, question.expected))


def _words(question: Question, answer: Answer) -> float:
    return metrics.shared_words(answer.text, question.expected)


def _calls(question: Question, answer: Answer) -> float:
    return float(metrics.calls_right(question, answer))


def _call_names(question: Question, answer: Answer) -> float:
    return float(metrics.names_right(question, answer))


_CALLS = ((CALLS, _calls), (CALL_NAMES, _call_names), (CALL_ARGUMENTS, metrics.arguments_right))
_JSON = ((EXACT, _exact_json), (VALID_JSON, _valid_json), (FIELDS, _fields))
_NUMBERS = ((NUMBER, _number), (WORDS, _words))
_TEXT = ((WORDS, _words), (EXACT, _exact))
