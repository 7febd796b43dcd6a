"""Prices and shutdown dates, read from a dated data file. What is not in it is unknown, never zero."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from typing import Any

from ftclient.hosts import Host


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a host takes for training a model."""

    usd_per_million_tokens: Decimal
    source: str
    as_of: str
    """Day on which the source said so, as YYYY-MM-DD."""

    def cost_usd(self, billed_tokens: int) -> Decimal:
        """Return the exact cost of so many tokens."""
        return self.usd_per_million_tokens * billed_tokens / 1_000_000

    def to_json(self) -> dict[str, str]:
        """The price as a plan prints it."""
        return {
            "usd_per_million_tokens": str(self.usd_per_million_tokens),
            "source": self.source,
            "as_of": self.as_of,
        }


def training_price(host: Host, model: str) -> Price | None:
    """Return the price of training `model` at `host`; None if it is not known, or not by the token."""
    facts, table = _facts(host, model), _tables().get(host.name)
    if not facts or not table or facts["training"] is None:
        return None
    return Price(usd_per_million_tokens=Decimal(facts["training"]), source=table["source"], as_of=table["as_of"])


def chat_price(host: Host, model: str) -> tuple[Decimal, Decimal] | None:
    """Return what a million tokens of prompt and of answer cost with `model`, in dollars; None if not known."""
    facts = _facts(host, model)
    return (Decimal(facts["input"]), Decimal(facts["output"])) if facts else None


def shutdown_of(host: Host, model: str) -> str | None:
    """Return the day on which the host shuts `model` down, as YYYY-MM-DD, where that is known."""
    facts = _facts(host, model)
    return str(facts["shutdown"]) if facts and facts["shutdown"] else None


def last_day_to_start(host: Host) -> str | None:
    """Return the last day on which the host starts jobs, as YYYY-MM-DD, where it has said so."""
    found = _tables().get(host.name, {}).get("last_day_to_start_jobs")
    return found and str(found)


def _facts(host: Host, model: str) -> dict[str, Any] | None:
    name = base_of(model)
    models: dict[str, dict[str, Any]] = _tables().get(host.name, {}).get("models", {})
    if name in models:
        return models[name]
    return next((facts for facts in models.values() if facts["alias"] == name), None)


def base_of(model: str) -> str:
    """Return the base of a tuned model's name: `ft:gpt-4o-mini-2024-07-18:acme::a1b2c3d4` -> the dated name."""
    return model.split(":")[1] if model.startswith("ft:") and model.count(":") else model


@lru_cache(maxsize=1)
def _tables() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((files("ftclient.cost") / "prices.json").read_text("utf-8"))["hosts"]
    return found
