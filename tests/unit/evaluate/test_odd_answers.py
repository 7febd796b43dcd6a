"""Whatever a model answers is right or wrong: no answer ends the scoring of all others."""

from __future__ import annotations

import json

import pytest

from ftclient import BackendError, Dataset
from ftclient.evaluate import metrics
from ftclient.evaluate.questions import Answer, Call, questions_of

HUGE = "1" + "0" * 400
ASKED, OTHER, GRADES = "gpt-4.1-nano", "gpt-4.1-mini", "gpt-4.1"
HALF = "half a pair \ud83d"


def example(answer, question="q"):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("answer", [f'{{"a": {HUGE}}}', nested(300), nested(600), nested(5_000), '{"a": 1e999}'])
def test_json_of_any_size_and_depth_is_wrong_where_it_differs(answer):
    question = questions_of([{"messages": [example("")["messages"][0], asks("f", '{"a": 1}')]}])[0]
    assert not metrics.same_json(answer, '{"a": 1}')
    assert metrics.fields_right(answer, '{"a": 1}') == 0
    for given in (Answer(text="", calls=[Call(name="f", arguments=answer)]), Answer(text=written(answer))):
        assert not metrics.calls_right(question, given)
        assert metrics.arguments_right(question, given) == 0


def asks(name: str, arguments: str):
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "tool_calls": [call]}


def written(arguments: str) -> str:
    return f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>'


@pytest.mark.parametrize("value", [HUGE, "1234567890123456789"])
def test_large_whole_numbers_are_the_same_where_each_digit_is(value):
    assert metrics.same_json(f"[{value}]", f"[ {value} ]")
    assert not metrics.same_json(f"[{value}]", f"[{value[:-1]}8]")
    assert metrics.same_json("[1152921504606846976]", "[1152921504606846976.0]")


@pytest.mark.parametrize("answer", ["#### -,", "#### ,", "so #### ,,5", "-,"])
def test_signs_without_digits_are_no_number(answer):
    assert not metrics.same_number(answer, "#### 7")


@pytest.mark.parametrize(
    ("answer", "expected", "metric"), [(nested(600), '{"a": 1}', "exact_match"), ("#### -,", "#### 5", "final_number")]
)
def test_an_odd_answer_is_wrong_and_the_evaluation_goes_on(hosted, chat_host, answer, expected, metric):
    chat_host.reply = lambda body: answer if body["messages"][0]["content"] == "q0" else expected
    data = Dataset(example(expected, f"q{number}") for number in range(4))
    assert hosted.evaluate(data, models=[ASKED]).scores[0].figures[metric].value == 0.75


@pytest.mark.parametrize("choices", [[], None, [{"index": 0, "finish_reason": "stop", "message": None}]])
def test_an_answer_without_choices_is_the_hosts_failure(hosted, chat_host, choices):
    chat_host.reply = lambda _: (200, {"id": "x", "object": "chat.completion", "model": ASKED, "choices": choices})
    with pytest.raises(BackendError, match="OpenAI sent an answer without a message"):
        hosted.chat(ASKED, "hello")
    with pytest.raises(BackendError, match=r"OpenAI sent an answer without a message.*0 of 1 are done and kept"):
        hosted.evaluate(Dataset([example("a")]), models=[ASKED])


def test_halves_of_surrogate_pairs_are_asked_and_judged_as_what_stands_for_them(hosted, chat_host):
    said = {ASKED: HALF, OTHER: "whole", GRADES: '{"result": 1} A'}
    chat_host.reply = lambda body: said[body["model"]]
    grader = {"type": "score_model", "name": "g", "model": GRADES}
    grader["input"] = [{"role": "user", "content": "Grade {{ sample.output_text }}"}]
    found = hosted.evaluate(
        Dataset([example("text"), example("text", "other")]), models=[ASKED, OTHER], grader=grader, judge=GRADES
    )
    assert found.answers[ASKED] == [HALF, HALF]
    assert found.main.values[ASKED] == [1.0, 1.0]
    prompts = json.dumps(chat_host.asked, ensure_ascii=False)
    assert "half a pair \ufffd" in prompts
    assert "\ud83d" not in prompts
