"""One question to one model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from ftclient.data.chat import plain_message
from ftclient.data.halves import without_halves
from ftclient.errors import BackendError
from ftclient.hosts import Host
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletion
    from openai.types.chat.chat_completion import Choice

Prompt = str | Sequence[Mapping[str, Any]]
"""What the user says, or a whole conversation as messages."""


def messages_of(prompt: Prompt, *, system: str | None = None) -> list[dict[str, Any]]:
    """Return a prompt as messages that can be sent, after a system message if one is given.

    Raises:
        DataError: A message holds what cannot be written as JSON.
    """
    said = (
        [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [plain_message(each) for each in prompt]
    )
    messages = [{"role": "system", "content": system}, *said] if system else said
    return [without_halves(message) for message in messages]


def answer(openai: OpenAI, host: Host, model: str, messages: list[dict[str, Any]], options: Mapping[str, Any]) -> str:
    """Return the model's answer as text ("" when it says nothing, as with tool calls).

    Raises:
        BackendError: The host refused or failed.
    """
    with errors_of(host):
        completion = openai.chat.completions.create(model=model, messages=cast("Any", messages), **options)
    return choice_of(completion, host).message.content or ""


def sendable(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages as hosts take them: without `weight`, which is for training, and in texts that are UTF-8."""
    return [
        {name: without_halves(value) for name, value in message.items() if name != "weight"} for message in messages
    ]


def choice_of(completion: ChatCompletion, host: Host) -> Choice:
    """Return the first answer of a completion.

    Raises:
        BackendError: There is none.
    """
    choice = completion.choices[0] if completion.choices else None
    # Neither can be None by the client's types, but some hosts send it in place of an error.
    if choice is None or cast("Any", choice.message) is None:
        raise BackendError(f"{host.title[0].upper()}{host.title[1:]} sent an answer without a message.")
    return choice


def pieces(
    openai: OpenAI, host: Host, model: str, messages: list[dict[str, Any]], options: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the answer as it is written; closing the iterator ends the generation."""
    with errors_of(host):
        wanted: dict[str, Any] = {**options, "messages": messages}
        with openai.chat.completions.create(model=model, stream=True, **wanted) as stream:
            for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content
