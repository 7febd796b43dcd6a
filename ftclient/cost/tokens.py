"""How many tokens of a training file a host reads and bills: those of longer examples only up to its context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftclient.data import Dataset, Report
from ftclient.data.tokens import encoding_for
from ftclient.hosts import Host, MethodType


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of one pass over the training file."""

    per_epoch: int
    """All that are read, and billed."""
    loss_per_epoch: int
    """Those that are learned from; the others are only read."""
    n_cut: int = 0
    """Examples that are longer than the host reads, and end where it stops."""
    n_lost: int = 0
    """Tokens of those examples that are neither read nor billed."""
    is_estimate: bool = False
    system_per_epoch: int = 0
    """Tokens of system prompts, as far as they are known."""


def has_own_encoding(model: str) -> bool:
    """Whether the model's own encoding is at hand, as those of OpenAI's models are; others are counted by o200k."""
    return encoding_for(model) is not None


def check_and_count(
    data: Dataset, host: Host, *, model: str, method: MethodType = "supervised", is_training: bool = True
) -> Report:
    """Return the check of a file by a host's limits for a model, with its tokens as `count_tokens` reads them."""
    return data.check(
        model=model if has_own_encoding(model) else None,
        method=method,
        limits=host.limits.for_model(model),
        is_training=is_training,
    )


def count_tokens(report: Report, *, is_own_encoding: bool = True) -> Tokens | None:
    """Return the tokens of a checked file as the host counts them; None where the vocabulary cannot be had.

    Args:
        report: The check of the file by the host's limits for the model.
        is_own_encoding: Whether the check counted in the model's own encoding; else the count is an estimate.
    """
    counted = report.stats.get("tokens")
    if not counted:
        return None
    beyond: dict[str, int] = counted["beyond_context"]
    return Tokens(
        per_epoch=int(counted["total"]) - beyond["total"],
        loss_per_epoch=int(counted["trained"]) - beyond["trained"],
        n_cut=beyond["n_examples"],
        n_lost=beyond["total"],
        is_estimate=bool(counted["is_estimate"]) or not is_own_encoding,
        system_per_epoch=_of_roles(counted["by_role"], "system", "developer"),
    )


def use_tokens(data: Dataset, host: Host, *, model: str) -> Tokens | None:
    """Return the tokens of preferences as the model will be used: each prompt, and of its answers the preferred one."""
    return count_tokens(
        check_and_count(as_chats(data), host, model=model, is_training=False),
        is_own_encoding=has_own_encoding(model),
    )


def as_chats(data: Dataset) -> Dataset:
    """Return preferences as chats that end in the preferred answer, which alone is learned from."""
    return Dataset(_chat(each) for each in data)


def _chat(example: dict[str, Any]) -> dict[str, Any]:
    """Return one of them; answers within the prompt are read and not learned from."""
    prompt = example["input"]
    asked = [{**each, "weight": 0} if each["role"] == "assistant" else each for each in prompt["messages"]]
    return {**prompt, "messages": [*asked, *example["preferred_output"]]}


def _of_roles(by_role: dict[str, Any], *roles: str) -> int:
    return sum(int(by_role.get(role, 0)) for role in roles)
