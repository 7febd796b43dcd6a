"""Silence transformers while it loads and saves: its bars and notes would mix with this package's own output."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(*, stderr: bool = False) -> Iterator[None]:
    """Silence transformers' progress bars and notes, and restore them after.

    Args:
        stderr: Also swallow what is written to stderr meanwhile, by this process's other threads too.
    """
    from transformers.utils import logging as hf_logging

    had_bars, level = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()) if stderr else contextlib.nullcontext():
            yield
    finally:
        hf_logging.set_verbosity(level)
        if had_bars:
            hf_logging.enable_progress_bar()
