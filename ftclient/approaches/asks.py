"""Who is asked what: one ask an approach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftclient.approaches.library import Library
from ftclient.approaches.prompts import Messages, choose_shots, with_shots
from ftclient.approaches.wishes import ApproachName, Wishes
from ftclient.evaluate import evaluation
from ftclient.evaluate.questions import Question

_CITATION_TOKENS = 8


@dataclass(frozen=True, kw_only=True)
class Ask:
    """How an approach asks."""

    model: str
    messages: Callable[[Question], Messages]


def asks_of(
    *,
    model: str,
    examples: Sequence[Question],
    library: Library | None,
    trained: Mapping[ApproachName, str],
    wishes: Wishes,
) -> dict[ApproachName, Ask]:
    """Return what is asked, by approach, in order of effort.

    Args:
        model: The base model.
        examples: The training data.
        library: The documents, if there are any.
        trained: The tuned models.
        wishes: How many examples and passages go into a prompt.
    """
    shots = choose_shots(examples, wishes.n_shots)
    found: dict[ApproachName, Ask] = {"base": Ask(model=model, messages=lambda question: question.messages)}
    if shots:
        found["examples"] = Ask(model=model, messages=lambda question: with_shots(question, shots))
    if library is not None:
        found["rag"] = Ask(model=model, messages=lambda question: with_shots(question, shots, shown=library.find))
    for name, tuned in trained.items():
        found[name] = Ask(model=tuned, messages=lambda question: question.messages)
    return found


def options_of(question: Question, questions: Sequence[Question], wishes: Wishes) -> dict[str, Any]:
    """Return the options of a question, as an `Asker` takes them; all approaches have room for equally long answers."""
    options = evaluation.Wishes(max_tokens=wishes.max_tokens).options(questions)
    if wishes.docs is not None and wishes.max_tokens is None:
        options["max_tokens"] += _CITATION_TOKENS
    return {**options, **({"tools": list(question.tools)} if question.tools else {})}
