"""Which tokens of an example carry loss, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ftclient.data.check_messages import is_zero
from ftclient.data.prompts import message_text, messages_of, role_of
from ftclient.data.vocab import load_encoding


class Token(NamedTuple):
    """One token as text. A letter that takes several tokens stands whole in the last of them."""

    text: str
    weight: float
    """0.0: the model reads it; above: it learns to write it."""
    is_mark: bool = False
    """It stands for the frame of a message and is no token of its own."""


Render = Callable[[Mapping[str, Any]], "list[Token]"]
"""Renders an example as the chosen model sees it. For local models: the server's own renderer, over the wire."""

_MOST_TOKENS = 600


def tiktoken_render(encoding_name: str) -> Render | None:
    """A renderer for OpenAI's models: the texts of messages, with the role before each.

    OpenAI does not publish how it frames messages, so the frame is shown as the role's name only; what is trained is
    documented: the assistant's messages whose weight is not 0.

    Returns:
        None where the vocabulary cannot be had.
    """
    encoding = load_encoding(encoding_name)
    if encoding is None:
        return None

    def render(example: Mapping[str, Any]) -> list[Token]:
        tokens: list[Token] = []
        for message, role in _titled(example):
            weight = 1.0 if role_of(message) == "assistant" and not is_zero(message.get("weight")) else 0.0
            tokens.append(Token(f"\n[{role}] " if tokens else f"[{role}] ", 0.0, is_mark=True))
            ids = encoding.encode_ordinary(message_text(message))
            tokens += [Token(text, weight) for text in _texts([encoding.decode_single_token_bytes(i) for i in ids])]
        return tokens[:_MOST_TOKENS]

    return render


def _titled(example: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The messages with their roles; of a preference pair the answers are told apart."""
    titles = {
        id(message): title
        for key, title in (("preferred_output", "assistant, preferred"), ("non_preferred_output", "assistant, other"))
        for message in (example[key] if isinstance(example.get(key), list) else ())
    }
    for message in messages_of(example):
        yield message, titles.get(id(message), role_of(message))


def tokens_json(tokens: list[Token]) -> list[dict[str, Any]]:
    """Neighbouring tokens as the description's JSON has them."""
    return [{"text": token.text, "weight": token.weight} for token in tokens]


def _texts(pieces: list[bytes]) -> Iterator[str]:
    """The texts of tokens; bytes that are no whole letter wait for the token that completes it."""
    held = b""
    for piece in pieces:
        held += piece
        try:
            text = held.decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data":
                yield ""
                continue
            text = held.decode(errors="replace")
        held = b""
        yield text
    if held:
        yield held.decode(errors="replace")
