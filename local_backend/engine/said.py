"""Whether a chat template writes what a conversation says: what it leaves out, the model would never read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """Refuse a template that leaves out a system message: the model would answer as if it had not been given.

    Some templates take switches out of it or write it in other words, so one that is not found is looked for once
    more: it is left out if the text is the same whatever it says.

    Args:
        text: What the template makes of the messages.
        messages: As templates know them.
        write: Made `text`, and makes that of other messages.
    """
    for i, message in enumerate(messages):
        parts = _texts(message["content"]) if message["role"] == "system" else []
        if not parts or any(part.strip() in text for part in parts):
            continue
        other = {**message, "content": _said_otherwise(message["content"])}
        if _is_same(text, [*messages[:i], other, *messages[i + 1 :]], write):
            raise _left_out(i, message)


def _is_same(text: str, messages: list[Message], write: Write) -> bool:
    try:
        return write(messages) == text
    except UserError:  # it reads the message if it refuses what that says now
        return False


def _texts(content: Any) -> list[str]:
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]


def _said_otherwise(content: Any) -> Any:
    if isinstance(content, str):
        return _OTHER_WORDS
    return [{**part, "text": _OTHER_WORDS} if part["type"] == "text" else part for part in content]


def _left_out(i: int, message: Message) -> UserError:
    return UserError(
        f"The model's chat template leaves out what message {i + 1} ({message['role']}) says. Choose a"
        " model whose template knows such messages, or put the text into another message.",
        param="messages",
        code="template_error",
    )
