"""Golden answers: what a tuned model says to chosen prompts, recorded while it can still be asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import SequenceMatcher
from itertools import islice
from typing import TYPE_CHECKING, Any

from ftclient.cost.prices import chat_price
from ftclient.data import Dataset
from ftclient.data.tokens import count_example, encoding_for
from ftclient.errors import BackendError
from ftclient.evaluate.metrics import exact_match
from ftclient.hosts import Host
from ftclient.keep.folder import KeepFolder

if TYPE_CHECKING:
    from ftclient.client import Client

Progress = Callable[[int, int], None]
"""Called with answers recorded and answers in all."""
Messages = Sequence[Mapping[str, Any]]
MOST_PROMPTS = 100
MAX_TOKENS = 512
_ROOM_TOKENS = 16
"""How much longer than the golden answer another may become before it is cut."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How near a model's answers are to recorded ones. Shares are of 1."""

    n: int
    exact: float
    similarity: float
    """Mean share of characters in common, in order."""


def prompts_of(data: Dataset, *, n: int = MOST_PROMPTS) -> list[Messages]:
    """Return the first `n` different prompts of examples, each cut before its last answer."""
    found: dict[str, Messages] = {}
    for example in data:
        messages = list(example.get("messages") or (example.get("input") or {}).get("messages") or ())
        while messages and messages[-1].get("role") == "assistant":
            messages.pop()
        if messages:
            found.setdefault(_key(messages), messages)
    return list(islice(found.values(), n))


def cost_usd(host: Host, model: str, prompts: Sequence[Messages], *, max_tokens: int = MAX_TOKENS) -> Decimal | None:
    """Return the most that recording would cost; None where the host's prices are not known."""
    price = chat_price(host, model)
    if price is None:
        return None
    encoding = encoding_for(model) or "o200k_base"
    n_prompt = sum(count_example({"messages": list(messages)}, encoding).total for messages in prompts)
    per_prompt, per_answer = price
    return (per_prompt * n_prompt + per_answer * max_tokens * len(prompts)) / 1_000_000


def record(
    client: Client,
    folder: KeepFolder,
    model: str,
    prompts: Sequence[Messages],
    *,
    max_tokens: int = MAX_TOKENS,
    progress: Progress | None = None,
) -> int:
    """Ask a model all prompts at temperature 0 and return how many answers are recorded now.

    Answers are on disk one by one; a second call asks only what is missing.

    Raises:
        BackendError: The model does not answer. What it has answered is kept.
    """
    path = folder.golden_path(model)
    done = {entry["prompt"] for entry in folder.golden(model)}
    _cut_torn_line(folder, model)
    with path.open("ab") as file:
        for number, messages in enumerate(prompts, start=1):
            key = _key(messages)
            if key not in done:
                answer = client.chat(model, messages, temperature=0, max_tokens=max_tokens)
                entry = {"prompt": key, "model": model, "messages": list(messages), "answer": answer}
                file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
                file.flush()
                done.add(key)
            if progress:
                progress(number, len(prompts))
    folder.note(f"golden/{path.name}")
    return len(done)


def compare_with_golden(
    client: Client,
    folder: KeepFolder,
    golden_model: str,
    model: str,
    *,
    n: int | None = None,
    progress: Progress | None = None,
) -> Agreement:
    """Ask `model`, at whatever host, what `golden_model` was asked, and compare the answers.

    Args:
        client: Connected to where `model` is.
        folder: Where the golden answers are.
        golden_model: Whose they are.
        model: Whom to ask.
        n: Compare only so many of them; None compares all.
        progress: Told about every answer.

    Raises:
        BackendError: The model does not answer, or nothing was recorded.
    """
    entries = list(islice(folder.golden(golden_model), n))
    if not entries:
        raise BackendError(f"No answers of {golden_model} are recorded in {folder.path}.")
    pairs = []
    for entry in entries:
        golden = str(entry["answer"])
        most = min(MAX_TOKENS, len(golden.encode()) + _ROOM_TOKENS)  # a token has one byte at least
        pairs.append((client.chat(model, entry["messages"], temperature=0, max_tokens=most), golden))
        if progress:
            progress(len(pairs), len(entries))
    return agreement(pairs)


def agreement(pairs: Iterable[tuple[str, str]]) -> Agreement:
    """Compare answers with golden ones."""
    both = list(pairs)
    n = len(both)
    return Agreement(
        n=n,
        exact=sum(exact_match(answer, golden) for answer, golden in both) / n,
        similarity=sum(SequenceMatcher(None, answer, golden, autojunk=False).ratio() for answer, golden in both) / n,
    )


def _cut_torn_line(folder: KeepFolder, model: str) -> None:
    """Take off what a crash left of a last line, so that the next one begins on its own."""
    path = folder.golden_path(model)
    if path.is_file():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            path.write_bytes(whole)


def _key(messages: Messages) -> str:
    return hashlib.sha256(json.dumps(list(messages), sort_keys=True).encode()).hexdigest()
