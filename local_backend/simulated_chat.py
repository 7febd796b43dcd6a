"""Answers of the simulated engine: the nearest training answer, cut into words, each with a made-up probability."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from local_backend.images import BadImageError, from_url
from local_backend.task import ChatRequest, Delta, TokenLogprob, UserError

_WORD = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")
_BASE_ANSWERS = ("You said: {}", "You asked: {}", "I read: {}", "Your words were: {}")
_IDEOGRAPHS = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


def prompt_tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    """Words of all messages, and one for each role.

    Raises:
        UserError: A message has something else than text and images.
    """
    return sum(1 + len(_WORD.findall(_content(message))) for message in messages)


def nearest_answer(tuned_dir: Path | None, request: ChatRequest, *, index: int) -> str:
    """Return what the model says: the same for the same request, seed and index of the choice."""
    question = next((_content(m) for m in reversed(request.messages) if m.get("role") == "user"), "")
    if tuned_dir is None:
        variant = _dice(request.seed, index, question, sides=len(_BASE_ANSWERS)) if request.temperature > 0 else 0
        return _BASE_ANSWERS[variant].format(question)
    return _Memory.of(tuned_dir).answer(question)


def answer_deltas(texts: Sequence[str], request: ChatRequest) -> Iterator[Delta]:
    """Yield the answers word by word, the choices in turn, with stop strings and the limit obeyed."""
    running = {index: _choice(index, text, request) for index, text in enumerate(texts)}
    while running:
        for index in list(running):
            delta = next(running[index], None)
            if delta is None:
                del running[index]
            else:
                yield delta


def _choice(index: int, text: str, request: ChatRequest) -> Iterator[Delta]:
    cut = min((at for at in (text.find(stop) for stop in request.stop) if at >= 0), default=len(text))
    words = _WORD.findall(text[:cut])
    limit = len(words) if request.max_tokens is None else request.max_tokens
    for position, word in enumerate(words[:limit]):
        logprobs = [] if request.top_logprobs is None else [_logprob(word, position, request.top_logprobs)]
        yield Delta(index=index, text=word, logprobs=logprobs, n_tokens=1)
    yield Delta(index=index, finish_reason="length" if len(words) > limit else "stop")


def _logprob(word: str, position: int, n_top: int) -> TokenLogprob:
    share = 0.6 + 0.39 * _dice(position, word, sides=1000) / 1000
    others = [(f" other{rank}", math.log((1 - share) / 2**rank)) for rank in range(1, n_top)]
    top = [(word, math.log(share)), *others][:n_top]
    return TokenLogprob(
        token=word,
        logprob=math.log(share),
        bytes=list(word.encode()),
        top=[(text, logprob, list(text.encode())) for text, logprob in top],
    )


def _dice(*parts: Any, sides: int) -> int:
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") % sides


def _content(message: Mapping[str, Any]) -> str:
    return said(message.get("content"))


def said(content: Any) -> str:
    """What the content of a message says: its texts, and for each image a word that only this image has.

    Raises:
        UserError: It has something else, or an image that is no data URL.
    """
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(_said_by_part(part) for part in content)


def _said_by_part(part: Mapping[str, Any]) -> str:
    if part.get("type") in ("text", "refusal"):
        return str(part.get("text") or part.get("refusal") or "")
    image_url = part.get("image_url")
    if part.get("type") != "image_url" or not isinstance(image_url, Mapping):
        raise UserError("This model reads text and images: a message has another content part.", param="messages")
    try:
        return f"image{hashlib.sha256(from_url(str(image_url.get('url')))).hexdigest()[:12]}"
    except BadImageError as error:
        raise UserError(str(error), param="messages", code=error.code) from error


class _Memory:
    """The questions and answers of one tuned model, to be searched by shared words."""

    def __init__(self, tuned_dir: Path) -> None:
        lines = (tuned_dir / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        self._pairs = [json.loads(line) for line in lines]
        self._terms = [_terms(pair["question"]) for pair in self._pairs]
        n_questions = Counter(term for terms in self._terms for term in set(terms))
        self._weights = {term: math.log(1 + len(self._pairs) / count) for term, count in n_questions.items()}

    @staticmethod
    @lru_cache(maxsize=8)
    def of(tuned_dir: Path) -> _Memory:
        return _Memory(tuned_dir)

    def answer(self, question: str) -> str:
        """The answer to the nearest question; the earliest of equally near ones."""
        asked = _terms(question)
        scores = [self._likeness(asked, terms) for terms in self._terms]
        if not scores:
            return ""
        best = max(range(len(scores)), key=lambda position: (scores[position], -position))
        return str(self._pairs[best]["answer"])

    def _likeness(self, a: Counter[str], b: Counter[str]) -> float:
        """Cosine of the weighted terms."""
        shared = sum(self._weights.get(term, 0.0) ** 2 * count * b[term] for term, count in a.items() if term in b)
        return shared / (self._length(a) * self._length(b) or 1.0)

    def _length(self, terms: Counter[str]) -> float:
        return math.sqrt(sum((self._weights.get(term, 1.0) * count) ** 2 for term, count in terms.items()))


def _terms(text: str) -> Counter[str]:
    """Words in lower case; where a script has no spaces, pairs of characters."""
    terms = Counter(re.findall(r"\w+", _IDEOGRAPHS.sub(" ", text.lower())))
    for run in _IDEOGRAPHS.findall(text):
        terms.update(run[i : i + 2] for i in range(max(1, len(run) - 1)))
    return terms
