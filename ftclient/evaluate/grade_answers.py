"""A grader's rewards for many answers; what it asks models is asked once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ftclient.evaluate.asking import Asker
from ftclient.evaluate.graders import (
    Grader,
    LabelModel,
    Means,
    ModelQuestion,
    ModelReply,
    Multi,
    Sample,
    ScoreModel,
    grade,
)
from ftclient.evaluate.questions import Answer, Question

_MOST_ANSWER_TOKENS = 1_024
"""How long a model that grades may go on, where the grader does not say."""


def graded(
    asker: Asker, grader: Grader, questions: Sequence[Question], answers: Sequence[Answer], *, done: Callable[[], None]
) -> list[float]:
    """Return the reward of each answer.

    Raises:
        BackendError: A model that grades cannot be asked.
    """
    means = Means(ask=lambda question: _ask(asker, question))

    def reward(pair: tuple[Question, Answer]) -> float:
        question, answer = pair
        return grade(grader, sample=sample_of(answer), item=question.item, means=means).reward

    return asker.each(reward, list(zip(questions, answers, strict=True)), done=done)


def sample_of(answer: Answer) -> Sample:
    """Return an answer as graders see it."""
    calls: list[dict[str, Any]] = [
        {"id": f"call_{at}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for at, call in enumerate(answer.calls)
    ]
    return Sample(text=answer.text, tool_calls=calls)


def model_of_grader(grader: Grader) -> list[tuple[str, int, int]]:
    """Return whom a grader asks: model, characters of its own prompt (no fewer than tokens), longest answer."""
    parts = grader.graders.values() if isinstance(grader, Multi) else [grader]
    return [
        (
            part.model,
            sum(len(text.encode()) for text in part.texts()),
            part.sampling_params.max_completions_tokens or _MOST_ANSWER_TOKENS,
        )
        for part in parts
        if isinstance(part, ScoreModel | LabelModel)
    ]


def _ask(asker: Asker, question: ModelQuestion) -> ModelReply:
    options: dict[str, Any] = {"max_completion_tokens": _MOST_ANSWER_TOKENS, **question.options}
    if asker.has_structured_outputs:
        schema = {"name": "grade", "schema": dict(question.schema), "strict": True}
        options["response_format"] = {"type": "json_schema", "json_schema": schema}
    found = asker.answer(question.model, question.messages, options)
    counts = (found.prompt_tokens, found.answer_tokens)
    n_tokens = None if None in counts else sum(count or 0 for count in counts)
    return ModelReply(text=found.text, n_tokens=n_tokens, is_refusal=found.finish_reason == "content_filter")
