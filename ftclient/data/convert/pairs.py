"""Prompt/completion pairs and their marks, as chats and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SEPARATORS = ("\n\n###\n\n", "\n\n---\n\n", " ->", "\n\n===\n\n")
"""Ends of prompts that the guide to the legacy format proposed."""
_STOPS = (" END", "\n\nEND", "###", "<|endoftext|>", "\n")
"""Ends of completions that it proposed."""


def chat(prompt: str, answer: str, *, system: str | None = None) -> dict[str, Any]:
    """A chat example of one exchange, with instructions where there are any."""
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def completion_to_chat(pair: Mapping[str, Any], *, system: str | None = None) -> dict[str, Any]:
    """A prompt/completion pair as a chat, without the separators that only the legacy format needed."""
    prompt, completion = str(pair.get("prompt") or ""), str(pair.get("completion") or "")
    prompt = next((prompt.removesuffix(mark) for mark in _SEPARATORS if prompt.endswith(mark)), prompt)
    stop = next((mark for mark in _STOPS if completion.endswith(mark)), "")
    completion = completion.removesuffix(stop).removeprefix(" ")
    return chat(prompt, completion, system=system)
