"""Test questions that the training data have, too: a model that has learnt them by heart is not measured by them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ftclient.evaluate.questions import Question


def count_seen(examples: Sequence[Question], questions: Sequence[Question]) -> int:
    """Return how many of the test questions are among the examples, word for word and with all that was said before."""
    seen = {_key(example) for example in examples}
    return sum(_key(question) in seen for question in questions)


def warning(n_seen: int, n_questions: int) -> str | None:
    """Return in words how many of the test questions are in the training data; None if none is."""
    if not n_seen:
        return None
    return (
        f"{n_seen} of the {n_questions} test questions are in the training data, too: learnt by heart, they say "
        "nothing of new ones. `ftclient split` keeps questions apart."
    )


def _key(question: Question) -> str:
    return json.dumps(question.messages, sort_keys=True, default=list)
