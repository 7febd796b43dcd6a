"""Ids, and names of tuned models."""

from __future__ import annotations

import re
import secrets
import string

_ALPHABET = string.ascii_letters + string.digits
_ID_LENGTH = 24
"""Letters and digits after the prefix, as OpenAI's newer ids have."""

ORGANIZATION = "personal"
"""Stands where hosted names have the organisation (hosted accounts without one show the same word)."""


def new_id(prefix: str) -> str:
    """Return a fresh id: `new_id("ftjob-")` -> `ftjob-` and 24 letters and digits."""
    return prefix + random_text(_ID_LENGTH)


def random_text(length: int) -> str:
    """Return that many unpredictable letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def tuned_name(base: str, *, suffix: str | None) -> str:
    """Return a new name for a tuned model: `ft:<base>:personal:<suffix or empty>:<8 alnum>`."""
    return f"ft:{base}:{ORGANIZATION}:{clean_suffix(suffix or '')}:{random_text(8)}"


def checkpoint_name(base: str, *, suffix: str | None, step: int) -> str:
    """Return a new name for a checkpoint; it has an id of its own, as at OpenAI."""
    return f"{tuned_name(base, suffix=suffix)}:ckpt-step-{step}"


def is_tuned(model: str) -> bool:
    """Whether a model's name is that of a tuned model."""
    return model.startswith("ft:")


def is_id(text: str, prefix: str) -> bool:
    """Whether the text looks like an id of this kind; only such texts are looked up or used in paths."""
    return re.fullmatch(re.escape(prefix) + r"[A-Za-z0-9]{1,64}", text) is not None


def clean_suffix(suffix: str) -> str:
    """Return the suffix as it stands in a model's name: lower case, everything but letters and digits a hyphen."""
    return re.sub(r"[^a-z0-9]+", "-", suffix.lower()).strip("-")
