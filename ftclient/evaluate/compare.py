"""Several models on the same held-out questions, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from rich.jupyter import JupyterMixin

from ftclient.errors import DataError
from ftclient.evaluate.metrics import exact_match, is_json
from ftclient.hosts import Host
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from openai import OpenAI
    from rich.console import RenderableType

Message = Mapping[str, Any]
Progress = Callable[[int, int], None]
"""Called with answers received and answers in all."""

WORKERS = 8
"""Questions under way at once; the local backend computes them together."""
_SPARE_TOKENS = 16


@dataclass(frozen=True, kw_only=True)
class Question:
    """A held-out example, cut before its last answer."""

    messages: Sequence[Message]
    expected: str

    @property
    def text(self) -> str:
        """The last thing the user said."""
        said = [str(each.get("content") or "") for each in self.messages if each.get("role") == "user"]
        return said[-1] if said else ""


@dataclass(frozen=True, kw_only=True)
class Score:
    """How one model did. Shares are of 1."""

    model: str
    n: int
    exact_match: float
    valid_json: float | None
    """None where the expected answers are not JSON."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(JupyterMixin):
    """What models answered to the same questions. Prints itself with rich."""

    questions: Sequence[Question]
    answers: Mapping[str, Sequence[str]]
    """Per model, in the order of the questions."""

    @property
    def scores(self) -> list[Score]:
        """One score a model, in the order in which they were named."""
        return [_score(model, self.questions, given) for model, given in self.answers.items()]

    def to_json(self) -> dict[str, Any]:
        """Scores and all answers."""
        return {
            "n_examples": len(self.questions),
            "models": [
                {"model": score.model, "exact_match": score.exact_match, "valid_json": score.valid_json}
                for score in self.scores
            ],
            "answers": [
                {
                    "prompt": question.text,
                    "expected": question.expected,
                    "answers": {model: given[i] for model, given in self.answers.items()},
                }
                for i, question in enumerate(self.questions)
            ],
        }

    def __repr__(self) -> str:
        """The scores, without any text of the data."""
        shares = ", ".join(f"{score.model} {score.exact_match:.0%}" for score in self.scores)
        return f"<Comparison on {len(self.questions)} questions: {shares}>"

    def __rich__(self) -> RenderableType:
        """Scores and three questions with their answers, for `rich.print(comparison)`."""
        from ftclient.evaluate.compare_view import render

        return render(self)


def questions_of(examples: Iterable[Mapping[str, Any]]) -> list[Question]:
    """Return the examples as questions with the answer that is expected.

    Raises:
        DataError: An example does not end with an answer in text.
    """
    found = []
    for number, example in enumerate(examples, start=1):
        messages = example.get("messages") or []
        last = messages[-1] if messages else {}
        if last.get("role") != "assistant" or not isinstance(last.get("content"), str):
            raise DataError(f"Example {number} does not end with an assistant's answer in text: nothing to compare to.")
        found.append(Question(messages=messages[:-1], expected=last["content"]))
    if not found:
        raise DataError("There are no examples to evaluate on.")
    return found


def compare(
    openai: OpenAI,
    host: Host,
    questions: Sequence[Question],
    *,
    models: Sequence[str],
    max_tokens: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Ask every model every question at temperature 0.

    Args:
        openai: The official client.
        host: Where the models are.
        questions: What to ask.
        models: Whom to ask.
        max_tokens: Longest answer; None is just long enough for the longest expected one (a token is a byte at least).
        progress: Told after each answer.

    Raises:
        BackendError: The host refused or failed.
    """
    limit = max_tokens or max(len(each.expected.encode()) for each in questions) + _SPARE_TOKENS
    total, done = len(questions) * len(models), 0

    def ask(task: tuple[str, Question]) -> str:
        model, question = task
        with errors_of(host):
            completion = openai.chat.completions.create(
                model=model,
                messages=cast("Any", list(question.messages)),
                max_tokens=limit,
                temperature=0,
            )
        return completion.choices[0].message.content or ""

    answers: dict[str, list[str]] = {}
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="evaluate") as pool:
        for model in models:  # one after the other, so that a machine need not hold two models at work
            answers[model] = []
            for answer in pool.map(ask, [(model, question) for question in questions]):
                answers[model].append(answer)
                done += 1
                if progress:
                    progress(done, total)
    return Comparison(questions=questions, answers=answers)


def _score(model: str, questions: Sequence[Question], answers: Sequence[str]) -> Score:
    n = len(questions)
    hits = sum(exact_match(answer, question.expected) for answer, question in zip(answers, questions, strict=True))
    wants_json = all(is_json(question.expected) for question in questions)
    return Score(
        model=model,
        n=n,
        exact_match=hits / n,
        valid_json=sum(map(is_json, answers)) / n if wants_json else None,
    )
