"""Room for models that reason before they answer: nobody sees what they think, but it counts as part of the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ftclient.evaluate.questions import Answer

ROOM = "reasoning_tokens"
"""Among a question's options: how much longer its answer may be where the model reasons. It is never sent as such."""
TOKENS = 4_096
"""Some times what they take for an answer of a few words; proofs and programs may take more."""
_NAMES = re.compile(r"(?:ft:)?(?:o[1-9](?!\w)|gpt-5(?!(?:\.\d+)?-chat))")


def is_known(model: str) -> bool:
    """Whether the name is one of OpenAI's for a model that reasons. Others show it by refusing `max_tokens`."""
    return _NAMES.match(model) is not None


def most_tokens(model: str, options: Mapping[str, Any]) -> int:
    """Return how many tokens an answer takes at most, as far as the model's name says."""
    room = options.get(ROOM, 0) if is_known(model) else 0
    return int(options.get("max_tokens") or options["max_completion_tokens"]) + int(room)


def complaint(answers: Sequence[Answer]) -> str | None:
    """Return in words how many answers were cut off before anything was written; None if none were."""
    n = sum(is_cut_off(answer) for answer in answers)
    if not n:
        return None
    return (
        f"{n:,} of {len(answers):,} answers were cut off before they began, as where a model reasons for longer than "
        "it may: give it more with max_tokens."
    )


def is_cut_off(answer: Answer) -> bool:
    """Whether an answer came to its longest before anything was written."""
    return answer.finish_reason == "length" and not answer.shown
