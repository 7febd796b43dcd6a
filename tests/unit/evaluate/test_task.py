"""Metrics are chosen by what the expected answers look like, and say what they should of each answer."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from ftclient import Dataset
from ftclient.evaluate import metrics
from ftclient.evaluate.graders import parse_grader
from ftclient.evaluate.questions import Answer, Call, questions_of
from ftclient.evaluate.task import metric_of, task_of

EXAMPLES = Path(__file__).parents[3] / "examples" / "data"


def example(answer, *, question="q", tools=None):
    last = {"role": "assistant", **({"content": answer} if isinstance(answer, str) else {"tool_calls": answer})}
    found = {"messages": [{"role": "user", "content": question}, last]}
    return {**found, "tools": tools} if tools else found


def call(name, **arguments):
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


@pytest.mark.parametrize(
    ("answers", "kind", "reason", "first"),
    [
        (['{"a": 1}', "[1]"], "json", "all 2 expected answers are JSON", "exact_match"),
        (["card_arrival", "card_lost", "card_lost", "card_arrival"], "labels", "are 2 short labels", "accuracy"),
        (["カード", "届かない", "カード", "届かない"], "labels", "2 short labels", "accuracy"),
        (["So it is 3.\n#### 3", "#### 1,200"], "numbers", "end in a number", "final_number"),
        (["At 21:15.", "640 yen.", "In Niigata, on the blue form.", "Yes"], "facts", "short facts", "contains_answer"),
        (["21時15分です。", "640円", "新潟", "青い用紙"], "facts", "short facts of some 3 words", "contains_answer"),
        (["It's 640 yen."], "facts", "contains them and does not list others", "contains_answer"),
        (["Your parcel is in hall 2, behind the gate.", "We are sorry.", "x"], "text", "free text", "shared_words"),
        (["Fix login bug", "Mend two tests", "Sort the names", "Say it again"], "text", "free text", "shared_words"),
        (["お問い合わせの荷物は第2倉庫にあります。", "申し訳ございません。"], "text", "free text", "shared_words"),
        (["640 yen.", "Line one.\nLine two."], "text", "free text", "shared_words"),
        (["640 yen.", "..."], "text", "free text", "shared_words"),
        (["yes", "yes", "yes"], "text", "free text", "shared_words"),
        ([[call("f", a=1)], "No tool is needed."], "calls", "1 of 2 expected answers call tools", "call_match"),
    ],
)
def test_the_task_follows_from_the_expected_answers(answers, kind, reason, first):
    found = task_of(questions_of([example(answer) for answer in answers]))
    assert found.kind == kind
    assert reason in found.reason
    assert found.measures[0][0].name == first


def values(answers, given):
    questions = questions_of([example(answer) for answer in answers])
    found = task_of(questions)
    return {
        metric.name: [measure(question, each) for question, each in zip(questions, given, strict=True)]
        for metric, measure in found.measures
    }


def test_json_is_compared_by_value_and_field_by_field():
    expected = '{"queue": "TIP", "list": [1, 2], "deep": {"x": null}}'
    given = [
        expected,
        '{"list": [1.0, 2], "queue": "TIP", "deep": {"x": null}}',
        '{"queue": "TIP", "list": [1, 3], "deep": {}, "more": 1}',
        "TIP",
        '{"queue": true}',
    ]
    found = values([expected] * 5, [Answer(text=text) for text in given])
    assert found["exact_match"] == [1, 1, 0, 0, 0]
    assert found["valid_json"] == [1, 1, 1, 0, 1]
    assert found["field_accuracy"] == [1, 1, 0.5, 0, 0]


def test_a_number_is_not_a_truth_value():
    assert not metrics.same_json("[1]", "[true]")
    assert not metrics.same_json("null", "[]")
    assert metrics.fields_right("[]", "[]") == 1


def test_macro_f1_counts_rare_labels_as_much_as_common_ones():
    expected = ["a"] * 8 + ["b"] * 2
    given = ["a"] * 7 + ["b", "b", "a"]
    # 0.875 for a and 0.5 for b; scikit-learn's f1_score(average="macro") says the same.
    assert metrics.macro_f1(list(zip(expected, given, strict=True))) == pytest.approx(0.6875)
    assert metrics.macro_f1([("a", "a"), ("b", "something else")]) == 0.5


def test_calls_are_compared_by_name_and_argument():
    right = Answer(text="", calls=[Call(name="book", arguments='{"day": 3.0, "who": "Ada"}')])
    half = Answer(text="", calls=[Call(name="book", arguments='{"day": 3, "who": "Bob"}')])
    other = Answer(text="", calls=[Call(name="cancel", arguments='{"day": 3, "who": "Ada"}')])
    twice = Answer(text="", calls=[*right.calls, *right.calls])
    written = Answer(text='<tool_call>\n{"name": "book", "arguments": {"who": "Ada", "day": 3}}\n</tool_call>')
    broken = Answer(text="", calls=[Call(name="book", arguments='{"day": 3,')])
    given = [right, half, other, twice, written, broken]
    found = values([[call("book", day=3, who="Ada")]] * 6, given)
    assert found["call_match"] == [1, 0, 0, 0, 1, 0]
    assert found["call_names"] == [1, 1, 0, 0, 1, 1]
    assert found["call_arguments"] == [1, 0.5, 0, 0.5, 1, 0]


def test_where_no_call_is_expected_none_is_right():
    found = values([[call("f")], "Hello"], [Answer(text="", calls=[Call(name="f", arguments="{}")]), Answer(text="Hi")])
    assert found["call_match"] == [1, 1]
    found = values([[call("f")], "Hello"], [Answer(text="no"), Answer(text="", calls=[Call(name="f", arguments="{}")])])
    assert found["call_match"] == [0, 0]


@pytest.mark.parametrize(
    ("answer", "expected", "same"),
    [
        ("... #### 1,200", "#### 1200", True),
        ("The answer is 18.", "#### 18", True),
        ("18 apples and 3 pears", "#### 18", False),
        ("#### -2.50", "#### -2.5", True),
        ("none", "#### 1", False),
    ],
)
def test_the_final_number_counts(answer, expected, same):
    assert metrics.same_number(answer, expected) is same


def test_shared_words_are_the_f_measure():
    assert metrics.shared_words("the cat sat", "the cat ran off") == pytest.approx(4 / 7)
    assert metrics.shared_words("犬が走る", "犬が歩く") == 0.5
    assert metrics.shared_words("", "") == 1.0


@pytest.mark.parametrize(
    ("name", "kind", "first"),
    [
        ("handbook_train", "facts", "contains_answer"),
        ("handbook_test", "facts", "contains_answer"),
        ("feelings_test", "labels", "accuracy"),
        ("support", "json", "exact_match"),
    ],
)
def test_the_examples_get_the_metrics_that_their_data_call_for(name, kind, first):
    found = task_of(questions_of(Dataset.read(EXAMPLES / f"{name}.jsonl")))
    assert (found.kind, found.measures[0][0].name) == (kind, first)
    if kind == "facts":
        assert [metric.name for metric, _ in found.measures] == ["contains_answer", "shared_words", "exact_match"]


@pytest.mark.parametrize(
    ("more", "right_from"),
    [({}, 0.5), ({"range": [1, 10]}, 5.5), ({"range": [-1, 1]}, 0.0), ({"range": [1, 10], "pass_threshold": 7}, 7)],
)
def test_an_answer_is_right_from_the_middle_of_a_graders_range(more, right_from):
    grader = {"type": "score_model", "model": "m", "input": [{"role": "user", "content": "?"}], **more}
    metric = metric_of(parse_grader(grader))
    low, high = grader.get("range", [0, 1])
    assert metric.right_from == right_from
    assert (metric.is_right(low), metric.is_right(high)) == (False, True)


def test_perplexity_weighs_tokens_not_answers():
    assert metrics.perplexity([(math.log(0.5) * 3, 3), (math.log(0.25), 1)]) == pytest.approx(32 ** (1 / 4))
