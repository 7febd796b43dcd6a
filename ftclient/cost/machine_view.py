"""How what a job takes on one's own machine looks in a terminal: each figure with the terms that it is the sum of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ftclient.cost.words import duration, size

if TYPE_CHECKING:
    from ftclient.cost.plan import Machine

_SHOWN = frozenset(
    {"tune", "device", "precision", "precision_reason", "threads", "checkpointing", "memory", "time"}
    | {"micro_batch_tokens", "micro_batch_reason", "largest_micro_batch_tokens", "available_memory_bytes"}
)
"""What the local backend is known to say, which has rows of its own."""


def rows(machine: Machine) -> Iterator[tuple[str, str]]:
    """Yield names and values; what the backend says under names that are not known comes last."""
    more = machine.more
    yield "Time", f"about {duration(machine.time_s)}{_terms(more.get('time'), duration, least=0.5)}"
    of = f" of {size(more['available_memory_bytes'])} that are free" if "available_memory_bytes" in more else ""
    yield "Memory", f"{size(machine.memory_bytes)}{of}{_terms(more.get('memory'), size, least=1)}"
    if machine.energy_kwh is not None:
        usd = machine.energy_usd
        price = "" if usd is None else f" = ${usd:.4f} at ${machine.usd_per_kwh} a kWh"
        yield "Energy", f"{machine.energy_kwh:.4f} kWh{price}"
    yield "Trained", _tune(more.get("tune"))
    yield "Computed", _how(more)
    yield "At once", _at_once(more)
    for name, value in more.items():
        if name not in _SHOWN:
            yield name.replace("_", " ").capitalize(), _plain(value)


def _terms(found: Any, show: Callable[[float], str], *, least: float) -> str:
    """Return the terms of a sum in brackets, those that are too small to see left out."""
    if not isinstance(found, Mapping):
        return ""
    parts = [f"{name.replace('_', ' ')} {show(value)}" for name, value in found.items() if value >= least]
    return f" ({', '.join(parts)})" if parts else ""


def _tune(found: Any) -> str:
    if not isinstance(found, Mapping):
        return ""
    more = ", ".join(f"{name} {value}" for name, value in found.items() if name != "type" and value)
    return ", ".join(part for part in (str(found.get("type", "")).replace("_", " "), more) if part)


def _how(more: Mapping[str, Any]) -> str:
    precision, reason = more.get("precision"), more.get("precision_reason")
    why = f" ({reason})" if reason else ""
    threads = f"{more['threads']} threads" if more.get("threads") else ""
    return ", ".join(part for part in (str(more.get("device") or ""), f"{precision or ''}{why}", threads) if part)


def _at_once(more: Mapping[str, Any]) -> str:
    tokens, reason = more.get("micro_batch_tokens"), more.get("micro_batch_reason")
    if not tokens:
        return ""
    return f"{tokens:,} tokens{f' ({reason})' if reason else ''}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {found}" for name, found in value.items())
    return "" if value is None else f"{value:,}" if type(value) in (int, float) else str(value)
