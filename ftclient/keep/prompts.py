"""What tuned models are asked while they still answer: the prompts of examples, with the tools that belong to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import Any

from ftclient.cost.prices import chat_price
from ftclient.data import Dataset
from ftclient.evaluate import reasoning
from ftclient.evaluate.questions import tools_of
from ftclient.evaluate.spending import prompt_tokens
from ftclient.hosts import Host

MOST_PROMPTS = 100
MAX_TOKENS = 512
_ABOUT_TOOLS = ("tool_choice", "parallel_tool_calls")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One question, as a model was trained to get it."""

    messages: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request: tools, and how they may be called."""

    @property
    def key(self) -> str:
        """What stands for the prompt: the sha256 of all that is asked."""
        asked: Any = {"messages": list(self.messages), **self.options} if self.options else list(self.messages)
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def prompts_of(data: Dataset, *, n: int = MOST_PROMPTS) -> list[Prompt]:
    """Return the first `n` different prompts of examples, each cut before its last answer."""
    found: dict[str, Prompt] = {}
    for example in data:
        given = example if example.get("messages") else example.get("input") or {}
        messages = list(given.get("messages") or ())
        while messages and messages[-1].get("role") == "assistant":
            messages.pop()
        if messages:
            prompt = Prompt(messages=messages, options=_options_of(given))
            found.setdefault(prompt.key, prompt)
    return list(islice(found.values(), n))


def answer_options(max_tokens: int) -> dict[str, Any]:
    """Return how models are to answer: most probably, at that length, with room to think for those that reason."""
    return {"temperature": 0, "max_tokens": max_tokens, reasoning.ROOM: reasoning.TOKENS}


def cost_usd(host: Host, model: str, prompts: Sequence[Prompt], *, max_tokens: int = MAX_TOKENS) -> Decimal | None:
    """Return the most that recording would cost; None where the host's prices are not known."""
    price = chat_price(host, model)
    if price is None:
        return None
    n_prompt = sum(prompt_tokens(model, each.messages, each.options.get("tools", ())) for each in prompts)
    n_answer = reasoning.most_tokens(model, answer_options(max_tokens)) * len(prompts)
    return (price[0] * n_prompt + price[1] * n_answer) / 1_000_000


def _options_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tools of an example as chats take them; what is said about tools means nothing without them."""
    tools = tools_of(given)
    if not tools:
        return {}
    return {"tools": tools, **{name: given[name] for name in _ABOUT_TOOLS if given.get(name) is not None}}
