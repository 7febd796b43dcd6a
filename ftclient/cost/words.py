"""Figures in words for terminals: time spans, sizes, and amounts."""

from __future__ import annotations

from decimal import Decimal


def duration(seconds: float) -> str:
    """Return a time span in words that fit its length: `42 s`, `3 min 10 s`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    if whole < 3600:  # noqa: PLR2004
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(n_bytes: float) -> str:
    """Return a number of bytes in the largest unit that leaves at least one of it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:  # noqa: PLR2004
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def dollars(amount: Decimal | None) -> str:
    """Return an amount with as many digits as say something: `$1,224.00`, `$0.0021`, `?` where it is not known."""
    if amount is None:
        return "?"
    if amount == 0:
        return "$0"
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.4f}"
