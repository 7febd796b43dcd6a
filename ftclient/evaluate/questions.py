"""Held-out examples as questions, and what models answer to them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftclient.errors import DataError

Message = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a tool."""

    name: str
    arguments: str
    """As the model wrote them: JSON, if all went well."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A held-out example, cut before its last answer."""

    messages: Sequence[Message]
    expected: str
    """The answer that the example has, "" where it only calls tools."""
    expected_calls: Sequence[Call] = ()
    tools: Sequence[Mapping[str, Any]] = ()
    item: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The whole example, for graders; `reference_answer` is there too."""

    @property
    def text(self) -> str:
        """The last thing the user said."""
        said = [text_of(each.get("content")) for each in self.messages if each.get("role") == "user"]
        return said[-1] if said else ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model answered to one question."""

    text: str
    calls: Sequence[Call] = ()
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    """As the host counted them; None where it did not."""
    answer_tokens: int | None = None
    seconds: float | None = None
    """From question to answer, with others under way."""
    is_stored: bool = field(default=False, compare=False)
    """Whether it was asked for in an earlier call."""
    asked_at: float | None = field(default=None, compare=False)
    """When that was, in seconds since 1970; None if it was asked for in this call."""
    error: str | None = None
    """Why there is no answer: the question was refused, because of its length, say."""

    @property
    def shown(self) -> str:
        """The answer as text, with its calls."""
        calls = "\n".join(f"{call.name}({call.arguments})" for call in self.calls)
        return "\n".join(part for part in (self.text, calls) if part)


def text_of(content: Any) -> str:
    """Return the text of a message's content."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return str(content or "")


def calls_of(message: Mapping[str, Any]) -> list[Call]:
    """Return the calls of tools in a message, in OpenAI's old or new shape."""
    found = [call.get("function") for call in message.get("tool_calls") or () if isinstance(call, Mapping)]
    found.append(message.get("function_call"))
    return [
        Call(name=str(call.get("name") or ""), arguments=str(call.get("arguments") or ""))
        for call in found
        if isinstance(call, Mapping)
    ]


def questions_of(examples: Iterable[Mapping[str, Any]]) -> list[Question]:
    """Return the examples as questions with the answer that is expected.

    Raises:
        DataError: An example does not end with an answer.
    """
    found = []
    for number, example in enumerate(examples, start=1):
        messages = example.get("messages") or []
        last = messages[-1] if messages else {}
        calls, content = calls_of(last), last.get("content")
        if last.get("role") != "assistant" or not (calls or isinstance(content, str | list)):
            raise DataError(f"Example {number} does not end with an assistant's answer: nothing to compare to.")
        found.append(
            Question(
                messages=messages[:-1],
                expected=text_of(content),
                expected_calls=calls,
                tools=tools_of(example),
                item={"reference_answer": text_of(content), **example},
            )
        )
    if not found:
        raise DataError("There are no examples to evaluate on.")
    return found


def tools_of(example: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the tools of an example, in the shape of today; `functions` is the old one."""
    functions = [{"type": "function", "function": function} for function in example.get("functions") or ()]
    return [*(example.get("tools") or ()), *functions]


def first_places(questions: Sequence[Question]) -> list[int]:
    """Return the places of the questions that have not come before, in their order: only those need be asked."""
    places: dict[str, int] = {}
    for at, question in enumerate(questions):
        places.setdefault(json.dumps([list(question.messages), list(question.tools)], default=str), at)
    return list(places.values())
