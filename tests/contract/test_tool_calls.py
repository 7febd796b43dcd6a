"""Answers that are calls of tools, in the forms in which open models write them."""

from __future__ import annotations

import json

import pytest

from local_backend.api.tool_calls import CallReader
from tests.contract.answers import check_chunk
from tests.contract.conftest import jsonl

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("find_order", "find_shop")
]
ORDER = {"name": "find_order", "arguments": {"id": "7", "city": "大阪"}}
SHOP = {"name": "find_shop", "arguments": {}}
TAGGED = "<tool_call>\n{}\n</tool_call>"


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (TAGGED.format(json.dumps(ORDER)), [ORDER]),
        (f"{TAGGED.format(json.dumps(ORDER))}\n{TAGGED.format(json.dumps(SHOP))}\n", [ORDER, SHOP]),
        (f"<tool_call>{json.dumps(SHOP)}", [SHOP]),  # the end was a token of its own
        (json.dumps(ORDER), [ORDER]),
        (json.dumps({"name": "find_shop", "parameters": {"x": 1}}), [{"name": "find_shop", "arguments": {"x": 1}}]),
        (json.dumps([ORDER, SHOP]), [ORDER, SHOP]),
        (json.dumps({"type": "function", "function": ORDER}), [ORDER]),
        (json.dumps({"name": "unheard_of", "arguments": {}}), None),
        (f"{TAGGED.format(json.dumps(ORDER))} Shall I?", None),
        (TAGGED.format("{broken"), None),
        ('{"name": "find_order", "argu', None),
        ("[1, 2]", None),
        ("[]", None),
        ("a < b, and <tool> is none", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_calls_are_read_from_text_that_comes_in_pieces(text: str, calls: list[dict] | None, step: int) -> None:
    reader = CallReader(TOOLS)
    said = "".join(reader.feed(text[i : i + step]) for i in range(0, len(text), step))
    rest, found = reader.end()
    read = [
        {"name": each["function"]["name"], "arguments": json.loads(each["function"]["arguments"])} for each in found
    ]
    assert read == (calls or [])
    assert said + rest == ("" if calls else text)
    assert len({each["id"] for each in found}) == len(found)


def test_text_before_a_call_is_not_kept_waiting() -> None:
    reader = CallReader(TOOLS)
    assert reader.feed("Let me look. <tool") == "Let me look. "
    assert reader.feed("_call>" + json.dumps(SHOP)) == ""
    rest, calls = reader.end()
    assert (rest, len(calls)) == ("", 1)
    plain = CallReader([])
    assert plain.feed(json.dumps(SHOP)) == json.dumps(SHOP)
    assert plain.end() == ("", [])


@pytest.fixture
def tuned_to_say(train, upload):
    """Tune a model that answers all questions alike."""

    def tune(answer: str) -> str:
        messages = [{"role": "user", "content": "Where is order seven?"}, {"role": "assistant", "content": answer}]
        return str(train(training_file=upload(jsonl([{"messages": messages}] * 10))).fine_tuned_model)

    return tune


@pytest.fixture
def caller(tuned_to_say) -> str:
    """A model that was tuned to call."""
    return tuned_to_say(TAGGED.format(json.dumps(ORDER)))


def test_an_answer_that_is_a_call_comes_as_one(api, caller) -> None:
    asked = {"model": caller, "messages": [{"role": "user", "content": "Where is order seven?"}], "temperature": 0}
    (choice,) = api.chat.completions.create(**asked, tools=TOOLS).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name) == ("function", "find_order")
    assert json.loads(call.function.arguments) == ORDER["arguments"]
    chunks = list(api.chat.completions.create(**asked, tools=TOOLS, stream=True))
    for chunk in chunks:
        check_chunk(chunk)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    (streamed,) = [call for delta in deltas for call in delta.tool_calls or ()]
    assert (streamed.index, streamed.function.name) == (0, "find_order")
    assert not any(delta.content for delta in deltas)
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    for as_text in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        (choice,) = api.chat.completions.create(**asked, **as_text).choices
        assert choice.finish_reason == "stop"
        assert choice.message.content.startswith("<tool_call>")


@pytest.mark.parametrize(
    "both", ["\n".join(TAGGED.format(json.dumps(call)) for call in (ORDER, SHOP)), json.dumps([ORDER, SHOP])]
)
def test_a_request_for_one_call_gets_the_first(api, tuned_to_say, both) -> None:
    asked = {"model": tuned_to_say(both), "messages": [{"role": "user", "content": "Where is order seven?"}]}
    asked |= {"temperature": 0, "tools": TOOLS}
    for many, names in ((True, ["find_order", "find_shop"]), (False, ["find_order"])):
        (choice,) = api.chat.completions.create(**asked, parallel_tool_calls=many).choices
        assert [call.function.name for call in choice.message.tool_calls] == names
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        chunks = list(api.chat.completions.create(**asked, parallel_tool_calls=many, stream=True))
        streamed = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        assert [(call.index, call.function.name) for call in streamed] == list(enumerate(names))
