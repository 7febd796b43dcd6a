"""Mending what `check` finds: one defect at a time, at its place, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ftclient.data import LOCAL_LIMITS
from ftclient.data.clean import mend
from ftclient.data.clean.mend import parse_loosely

USER = {"role": "user", "content": "Where is it?"}
ANSWER = {"role": "assistant", "content": "On its way."}
GOOD = {"messages": [USER, ANSWER]}
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"a": 1}'}}
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}


def with_call(**function) -> dict:
    call = {**CALL, "function": {**CALL["function"], **function}}
    return {"messages": [USER, {"role": "assistant", "tool_calls": [call]}], "tools": [TOOL]}


@pytest.mark.parametrize(
    ("broken", "mended", "code", "path"),
    [
        ({"message": GOOD["messages"]}, GOOD, "unknown_key", "/message"),
        ({"Messages": GOOD["messages"]}, GOOD, "unknown_key", "/Messages"),
        ({**GOOD, "id": 7}, GOOD, "unknown_key", "/id"),
        ({**GOOD, "weight": 1}, GOOD, "unknown_key", "/weight"),
        ({"messages": [{**USER, "role": "human"}, ANSWER]}, GOOD, "role_unknown", "/messages/0/role"),
        ({"messages": [{**USER, "role": "User "}, ANSWER]}, GOOD, "role_unknown", "/messages/0/role"),
        ({"messages": [USER, {**ANSWER, "role": "asistant"}]}, GOOD, "role_unknown", "/messages/1/role"),
        ({"messages": [USER, {"role": "assistant", "contents": "On its way."}]}, GOOD, "unknown_key",
         "/messages/1/contents"),
        ({"messages": [{**USER, "weight": 0}, ANSWER]}, GOOD, "weight_misplaced", "/messages/0/weight"),
        ({"messages": [{**USER, "timestamp": 1}, ANSWER]}, GOOD, "unknown_key", "/messages/0/timestamp"),
        ({"messages": json.dumps(GOOD["messages"])}, GOOD, "wrong_type", "/messages"),
        ([USER, ANSWER], GOOD, "not_an_object", ""),
        ({"messages": [*GOOD["messages"], USER]}, GOOD, "last_not_assistant", "/messages/2"),
        ({"messages": [{"role": "system", "content": ""}, *GOOD["messages"]]}, GOOD, "content_missing", "/messages/0"),
        ({"prompt": "Where is it? ->", "completion": " On its way. END"},
         {"messages": [{"role": "user", "content": "Where is it?"}, ANSWER]}, "legacy_format", ""),
        ({"messages": [{**USER, "content": "Where is it?<|endoftext|>"}, ANSWER]}, GOOD, "special_token",
         "/messages/0/content"),
        (with_call(arguments={"a": 1}), with_call(), "wrong_type", "/messages/1/tool_calls/0/function/arguments"),
        (with_call(arguments="{'a': 1,}"), with_call(), "tool_arguments_not_json",
         "/messages/1/tool_calls/0/function/arguments"),
        ({**with_call(), "tools": [TOOL["function"]]}, with_call(), "tools_invalid", "/tools/0/type"),
    ],
)  # fmt: skip
def test_a_defect_is_mended(broken, mended, code, path):
    found, changes, errors = mend(broken, line=9)
    assert found == mended
    assert errors == []
    assert [(change.line, change.step, change.path) for change in changes] == [(9, code, path)]


@pytest.mark.parametrize("text", ["Where <|im_<|im_end|>start|>is it?", "Where <|endoftext|><|endoftext|>is it?"])
def test_no_control_token_is_left_when_one_is_taken_out_of_another(text):
    found, _, errors = mend({"messages": [{**USER, "content": text}, ANSWER]})
    assert (found, errors) == (GOOD, [])


def test_control_tokens_of_other_models_are_taken_out_where_their_limits_name_them():
    limits = replace(LOCAL_LIMITS, special_tokens=frozenset({"<|eot_id|>"}))
    broken = {"messages": [{**USER, "content": "Where is it?<|eot_id|>"}, ANSWER]}
    assert mend(broken, limits=limits)[0] == GOOD


@pytest.mark.parametrize("weight", [True, "1", 1.0, "true"])
def test_weights_that_mean_one_become_one(weight):
    found, _, errors = mend({"messages": [USER, {**ANSWER, "weight": weight}]})
    assert errors == []
    assert found["messages"][1]["weight"] == 1
    assert type(found["messages"][1]["weight"]) is int


def test_a_weight_that_means_something_else_is_left_to_its_author():
    _, changes, errors = mend({"messages": [USER, {**ANSWER, "weight": 0.5}]})
    assert changes == []
    assert [error.code for error in errors] == ["weight_invalid"]
    assert mend({"messages": [USER, {**ANSWER, "weight": 0.5}]}, limits=LOCAL_LIMITS)[2] == []


def test_an_answer_of_a_pair_that_is_not_to_count_is_left_to_its_author():
    pair = {
        "input": {"messages": [USER]},
        "preferred_output": [{**ANSWER, "weight": 0}],
        "non_preferred_output": [{**ANSWER, "content": "No."}],
    }
    found, changes, errors = mend(pair, method="dpo")
    assert (found, changes) == (pair, [])
    assert [(error.code, error.path) for error in errors] == [("weight_invalid", "/preferred_output/0/weight")]


def test_sharegpt_like_lines_are_mended_through_several_rounds():
    line = {
        "conversations": [{"from": "human", "value": "Where is it?"}, {"from": "gpt", "value": "On its way."}],
        "id": 3,
    }
    found, changes, errors = mend(line)
    assert found == GOOD
    assert errors == []
    assert {change.step for change in changes} == {"unknown_key", "missing_key", "role_unknown"}


def test_paths_are_right_after_a_message_was_taken_away():
    empty = {"role": "system", "content": ""}
    line = {"messages": [empty, {**USER, "role": "human"}, {**ANSWER, "role": "gpt"}, USER]}
    found, changes, errors = mend(line)
    assert (found, errors) == (GOOD, [])
    assert [(change.path, change.before, change.after) for change in changes] == [
        ("/messages/0", '{"role": "system", "content": ""}', None),
        ("/messages/0/role", "human", "user"),
        ("/messages/1/role", "gpt", "assistant"),
        ("/messages/2", '{"role": "user", "content": "Where is it?"}', None),
    ]


def test_everything_before_a_prompt_for_reinforcement_is_kept():
    found, _, errors = mend({**GOOD, "reference": 4}, method="reinforcement")
    assert found == {"messages": [USER], "reference": 4}
    assert errors == []


@pytest.mark.parametrize(
    ("example", "code"),
    [
        ({"messages": [USER]}, "assistant_missing"),
        ({"messages": []}, "empty_messages"),
        ({"messages": [USER, {**ANSWER, "weight": 0}]}, "nothing_trained"),
        ({"messages": [{"role": "user", "content": ""}, ANSWER]}, "content_missing"),
        ({"messages": [{"role": "wizard", "content": "x"}, ANSWER]}, "role_unknown"),
        (with_call(name="other"), "tool_undefined"),
        ("text", "not_an_object"),
    ],
)
def test_what_only_the_author_knows_is_an_error_that_is_left(example, code):
    _, _, errors = mend(example)
    assert code in {error.code for error in errors}


def test_only_the_codes_that_are_asked_for_are_mended():
    found, changes, errors = mend(
        {**GOOD, "id": 1, "messages": [USER, {**ANSWER, "role": "bot"}]}, codes={"role_unknown"}
    )
    assert found == {**GOOD, "id": 1}
    assert [change.step for change in changes] == ["role_unknown"]
    assert [error.code for error in errors] == ["unknown_key"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("{'a': None, 'b': [True]}", {"a": None, "b": [True]}), ('{"a": 1},', {"a": 1}), ("[1, 2,]", [1, 2])],
)  # fmt: skip
def test_lines_that_are_nearly_json_are_read(text, value):
    assert parse_loosely(text) == value


@pytest.mark.parametrize("text", ["", "nothing", '{"a": NaN}', "__import__('os').getcwd()", "(" * 200, "[" * 100_000])
def test_what_is_not_nearly_json_is_refused(text):
    with pytest.raises(ValueError, match=r"neither|too long"):
        parse_loosely(text)
