"""Saying where an error happened without its message, which may quote training text."""

from __future__ import annotations


def where(error: BaseException) -> str:
    """The error's type and the lines it came through, innermost first."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        lines.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__} at {' <- '.join(reversed(lines))}"
