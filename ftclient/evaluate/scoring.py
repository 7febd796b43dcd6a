"""How likely models find the expected answers, which the local backend can say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from ftclient.errors import UnsupportedError
from ftclient.evaluate.questions import Question
from ftclient.hosts import Host
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from openai import OpenAI

    from ftclient.evaluate.asking import Asker
    from ftclient.evaluate.task import Task

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


def scored(openai: OpenAI, host: Host, model: str, questions: Sequence[Question]) -> list[tuple[float, int]]:
    """Return log-probability (natural) and number of tokens of each expected answer.

    Raises:
        BackendError: The host refused or failed.
    """
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
