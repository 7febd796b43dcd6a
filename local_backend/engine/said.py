"""Whether a chat template writes what a conversation says: what it leaves out, the model would never read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from local_backend.engine.messages import Message
from local_backend.task import UserError

Write = Callable[[list[Message]], str]
"""Makes the text of messages as the chat template has it."""

_OTHER_WORDS = "\u2460"
"""What a message says instead, to see whether that changes anything."""


def check_trained(whole: str, messages: Sequence[Message], turns: Sequence[int], write: Write) -> None:
    """Refuse a template that leaves out what is asked or what is trained: the model would learn something else.

    Of other answers templates may hide some (earlier thinking, say), and white space around a message is theirs. See
    `check_instructed` for system messages and the arguments.
    """
    check_instructed(whole, messages, write)
    for i, message in enumerate(messages):
        if isinstance(message["content"], str) and (message["role"] == "user" or i in turns):
            said = message["content"].rpartition("</think>")[2].strip()
            if said not in whole:
                raise _left_out(i, message)


def check_instructed(text: str, messages: Sequence[Message], write: Write) -> None:
    """Refuse a template that leaves out a system message or a part of one: the model would answer as if not given it.

    Some templates take switches out of it or write it in other words, so a part that is not found is looked for once
    more: it is left out if the text is the same whatever it says.

    Args:
        text: What the template makes of the messages.
        messages: As templates know them.
        write: Made `text`, and makes that of other messages.
    """
    for i, message in enumerate(messages):
        for part, content in _said_otherwise(message["content"]) if message["role"] == "system" else ():
            others = [*messages[:i], {**message, "content": content}, *messages[i + 1 :]]
            if part.strip() not in text and _is_same(text, others, write):
                raise _left_out(i, message)


def _is_same(text: str, messages: list[Message], write: Write) -> bool:
    try:
        return write(messages) == text
    except UserError:  # it reads the message if it refuses what that says now
        return False


def _said_otherwise(content: Any) -> Iterator[tuple[str, Any]]:
    """Each text of a content, with the content as it is when that text says something else."""
    if isinstance(content, str):
        yield content, _OTHER_WORDS
        return
    for k, part in enumerate(content):
        if part["type"] == "text":
            yield part["text"], [*content[:k], {**part, "text": _OTHER_WORDS}, *content[k + 1 :]]


def _left_out(i: int, message: Message) -> UserError:
    return UserError(
        f"The model's chat template leaves out what message {i + 1} ({message['role']}) says. Choose a"
        " model whose template knows such messages, or put the text into another message.",
        param="messages",
        code="template_error",
    )
