"""Conversations that go on: what hosts answered is sent back to them in a form that they take."""

from __future__ import annotations

import pytest
from openai.types.chat import ChatCompletionMessage

from ftclient import DataError

MODEL = "gpt-4.1-nano"
CALL = {"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}
ANSWER = ChatCompletionMessage.model_validate(
    {"role": "assistant", "content": None, "refusal": None, "annotations": [], "tool_calls": [CALL]}
)
ASKED = {"role": "user", "content": "Where is it?"}


@pytest.mark.parametrize("answer", [ANSWER, dict(ANSWER), ANSWER.model_dump()], ids=["object", "fields", "plain"])
def test_answers_are_sent_back_without_keys_that_hold_nothing(hosted, chat_host, answer):
    found = {"role": "tool", "tool_call_id": "c", "content": "5"}
    hosted.chat(MODEL, [ASKED, answer, found])
    assert chat_host.asked[0]["messages"] == [
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        found,
    ]


def test_keys_of_one_host_alone_are_sent(hosted, chat_host):
    messages = [ASKED, {"role": "assistant", "content": "", "reasoning_content": "Hm.", "audio": {"id": "a"}}, ASKED]
    hosted.chat(MODEL, messages)
    assert chat_host.asked[0]["messages"] == messages


def test_halves_of_surrogate_pairs_are_sent_as_what_stands_for_them(hosted, chat_host):
    for prompt in ("half \ud83d", [{"role": "user", "content": "half \ud83d"}]):
        hosted.chat(MODEL, prompt, system="\ud83d\ude00")
        assert [each["content"] for each in chat_host.asked[-1]["messages"]] == ["\N{GRINNING FACE}", "half \ufffd"]


def test_what_is_no_json_is_refused_before_anything_is_sent(hosted, chat_host):
    with pytest.raises(DataError, match="it holds a bytes"):
        hosted.chat(MODEL, [{"role": "user", "content": b"raw"}])
    assert chat_host.asked == []
