"""How likely models find the expected answers, which the local backend can say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from ftclient.errors import BackendError, UnsupportedError
from ftclient.evaluate.compare import Measured
from ftclient.evaluate.questions import Question
from ftclient.evaluate.task import PERPLEXITY, Task
from ftclient.hosts import Host
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from openai import OpenAI

    from ftclient.evaluate.asking import Asker

_AT_ONCE = 16
"""Examples in one request."""


def can_score(asker: Asker, host: Host, models: Sequence[str], task: Task, *, wanted: bool | None) -> bool:
    """Whether perplexities are to be measured: where they are wanted, or the answers are free text or facts.

    Raises:
        UnsupportedError: They are wanted, and the host cannot.
    """
    can = host.is_local and all(asker.engine(model) == "torch" for model in models)
    if wanted and not can:
        raise UnsupportedError(f"{host.title} does not say how likely a model finds an answer.")
    return can and (task.kind in {"facts", "text"} if wanted is None else wanted)


def likelihoods(
    openai: OpenAI, host: Host, models: Sequence[str], questions: Sequence[Question], *, is_wanted: bool
) -> tuple[Measured | None, list[str]]:
    """Return how likely models find the expected answers, and in words which were left out and why.

    Args:
        openai: The official client.
        host: Where the models are.
        models: Whom to measure.
        questions: With the expected answers.
        is_wanted: Somebody asked for it. Else it is no reason to end an evaluation that a model cannot be measured.

    Raises:
        BackendError: The host failed, or refused what is wanted.
    """
    found: dict[str, list[tuple[float, int]]] = {}
    notes = []
    for model in models:
        scores, refusal = _scored_or_refused(openai, host, model, questions)
        if refusal is None:
            found[model] = scores
        elif is_wanted:
            raise refusal
        else:
            notes.append(f"{model}: perplexity is left out: {refusal}")
    return Measured(metric=PERPLEXITY, values=found) if found else None, notes


def _scored_or_refused(
    openai: OpenAI, host: Host, model: str, questions: Sequence[Question]
) -> tuple[list[tuple[float, int]], BackendError | None]:
    try:
        return _scored(openai, host, model, questions), None
    except BackendError as error:
        if error.status_code != HTTPStatus.BAD_REQUEST:
            raise
        return [], error


def _scored(openai: OpenAI, host: Host, model: str, questions: Sequence[Question]) -> list[tuple[float, int]]:
    """Return log-probability (natural) and number of tokens of each expected answer."""
    found: list[tuple[float, int]] = []
    for start in range(0, len(questions), _AT_ONCE):
        examples = [_example(question.item) for question in questions[start : start + _AT_ONCE]]
        body = {"model": model, "examples": examples}
        with errors_of(host):
            said: Any = openai.post("/local/score", cast_to=cast("Any", object), body=body)
        found += [(float(each["logprob"]), int(each["n_tokens"])) for each in said["scores"]]
    return found


def _example(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item[name] for name in ("messages", "tools", "functions") if item.get(name)}
