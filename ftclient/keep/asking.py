"""Asking models for answers to keep: as they can be asked, and on past those prompts that a host refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ftclient.errors import BackendError
from ftclient.evaluate.asking import Asker
from ftclient.evaluate.questions import Answer
from ftclient.evaluate.store import AnswerStore
from ftclient.keep.prompts import Prompt, answer_options

if TYPE_CHECKING:
    from ftclient.client import Client

Tell = Callable[[str], None]
_ABOUT_THE_PROMPT = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)
"""Answered so, another prompt may fare better; by other statuses the host says that nothing will."""
_LENGTHS = frozenset({"max_tokens", "max_completion_tokens"})
"""Fields of a request that say how long its answer may become."""


@contextmanager
def asker(client: Client, *, tell: Tell | None = None) -> Iterator[Asker]:
    """Give what asks as evaluations do: with the options that a model takes, and after a pause if the host wants one.

    Args:
        client: Connected to where the models are.
        tell: Told in words when the host fails and is asked again after a pause.
    """
    with AnswerStore(client.home) as store:
        yield Asker(client.openai, client.host, store, fresh=True, tell=tell, is_limited=True)


def answer(asking: Asker, model: str, prompt: Prompt, options: Mapping[str, Any]) -> Answer:
    """Return the answer to a prompt; one that the host refuses has the reason as its `error`.

    Raises:
        BackendError: The model does not answer, whatever it is asked.
    """
    try:
        return asking.answer(model, prompt.messages, {**prompt.options, **options})
    except BackendError as error:
        return _refusal(error)


def answer_within(asking: Asker, model: str, prompt: Prompt, lengths: Sequence[int]) -> Answer:
    """Return the answer to a prompt as `answer` does, asked for at each length in turn until the host grants one.

    Args:
        asking: Asks.
        model: Whom to ask.
        prompt: What to ask.
        lengths: How long the answer may become, in tokens: the longest first.

    Raises:
        BackendError: The model does not answer, whatever it is asked, or the host grants none of the lengths.
    """
    for n_tokens in lengths:
        is_last = n_tokens == lengths[-1]
        try:
            said = asking.answer(model, prompt.messages, {**prompt.options, **answer_options(n_tokens)})
        except BackendError as error:
            if is_last and error.param in _LENGTHS:
                raise
            said = _refusal(error)
        if said.error is None or is_last:
            return said
    raise AssertionError("the last length returns or raises")


def _refusal(error: BackendError) -> Answer:
    if error.status_code not in _ABOUT_THE_PROMPT:
        raise error
    return Answer(text="", finish_reason="error", error=str(error))
