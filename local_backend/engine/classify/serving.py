"""Chat with classifiers: the label is the answer, the labels' probabilities are its logprobs."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch

from ftclient.data.decoding import BadImageError
from local_backend.engine.classify import saving
from local_backend.engine.classify.classifier import Classifier
from local_backend.engine.classify.examples import query_of
from local_backend.engine.classify.readers import TooLongError
from local_backend.engine.device import choose_machine
from local_backend.engine.generation.stamp import Stamp, stamp
from local_backend.task import Answer, ChatRequest, Delta, JobError, TokenLogprob, UserError

MOST_LOADED = 4
"""Classifiers in memory; the one that has rested longest goes first."""


class Classifiers:
    """Answers with tuned classifiers, each loaded on first use. Thread-safe; what waits is computed at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._desks: OrderedDict[tuple[Path, Stamp], _Desk] = OrderedDict()

    def chat(self, folder: Path, request: ChatRequest) -> Answer:
        """Classify what the messages ask.

        Raises:
            UserError: There is nothing that this classifier reads, or the model can't be loaded.
        """
        if request.tools:
            raise UserError("This model is a classifier: it calls no tools. Leave 'tools' out.", param="tools")
        desk = self._desk(folder)
        found = desk.read(request)
        logprobs_L = desk.answer(found)
        return Answer(
            n_prompt_tokens=desk.classifier.body.reader.size(found),
            deltas=_deltas(desk.classifier, logprobs_L, request),
        )

    def _desk(self, folder: Path) -> _Desk:
        with self._lock:
            key = (folder, stamp(folder))
            if key not in self._desks:
                desk = _Desk(saving.load(folder, machine=choose_machine({"precision": "fp32"})))
                self._drop(folder)
                self._desks[key] = desk
                while len(self._desks) > MOST_LOADED:
                    self._desks.popitem(last=False)
            self._desks.move_to_end(key)
            return self._desks[key]

    def _drop(self, folder: Path) -> None:
        """Let what was read from a folder before its files were written anew go."""
        for key in [key for key in self._desks if key[0] == folder]:
            del self._desks[key]


class _Desk:
    """One classifier and the requests that wait for it."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._guard = threading.Lock()
        self._computing = threading.Lock()
        self._waiting: list[tuple[Any, Future[torch.Tensor]]] = []

    def read(self, request: ChatRequest) -> Any:
        """What the body takes of a request's messages."""
        try:
            query = query_of(request.messages)
            return self.classifier.body.reader.read(query.text, query.images, line=0, param="messages")
        except BadImageError as error:
            raise UserError(str(error), param="messages", code=error.code) from error
        except JobError as error:
            text = error.message.partition("Line 0: ")[2] or error.message
            code = "context_length_exceeded" if isinstance(error, TooLongError) else "invalid_value"
            raise UserError(text, param="messages", code=code) from error
        except (KeyError, TypeError) as error:
            text = f"A part of a message lacks {error!s:.40}, or has it in another form."
            raise UserError(text, param="messages", code="invalid_value") from error

    def answer(self, found: Any) -> torch.Tensor:
        """Log-probabilities of the labels (L). Whoever computes, computes for all who wait."""
        mine: Future[torch.Tensor] = Future()
        with self._guard:
            self._waiting.append((found, mine))
        with self._computing:
            with self._guard:
                waiting, self._waiting = self._waiting, []
            if waiting:
                self._compute(waiting)
        return mine.result()

    def _compute(self, waiting: Sequence[tuple[Any, Future[torch.Tensor]]]) -> None:
        try:
            logprobs_BL = self.classifier.predict([found for found, _ in waiting])
        except Exception as error:  # noqa: BLE001 - each waiting caller gets it; the next request starts afresh
            for _, future in waiting:
                future.set_exception(error)
            return
        for (_, future), logprobs_L in zip(waiting, logprobs_BL, strict=True):
            future.set_result(logprobs_L)


def _deltas(classifier: Classifier, logprobs_L: torch.Tensor, request: ChatRequest) -> Iterator[Delta]:
    names = classifier.labels.names
    order = [int(i) for i in logprobs_L.argsort(descending=True, stable=True)]
    text, logprob = names[order[0]], float(logprobs_L[order[0]])
    if classifier.labels.is_multi:
        given = [i for i in order if float(logprobs_L[i].exp()) > 0.5]  # noqa: PLR2004 - more likely than not
        text = json.dumps([names[i] for i in given], ensure_ascii=False)
        others_L = torch.log1p(-logprobs_L.double().exp().clamp(max=1 - 1e-9))
        logprob = float(sum(logprobs_L[i] if i in given else others_L[i] for i in order))
    shown = (
        [] if request.top_logprobs is None else [_token(text, logprob, names, order, logprobs_L, request.top_logprobs)]
    )
    for index in range(request.n):
        yield Delta(index=index, text=text, logprobs=shown, n_tokens=1)
        yield Delta(index=index, finish_reason="stop")


def _token(
    text: str, logprob: float, names: Sequence[str], order: Sequence[int], logprobs_L: torch.Tensor, n_top: int
) -> TokenLogprob:
    """The answer as one token; its alternatives are labels."""
    top = [(names[i], float(logprobs_L[i]), list(names[i].encode())) for i in order[:n_top]]
    return TokenLogprob(token=text, logprob=logprob, bytes=list(text.encode()), top=top)
