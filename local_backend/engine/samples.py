"""Answers of a model in training to a few validation prompts, beside the answers that the file holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from local_backend.engine.dropout import without_dropout
from local_backend.engine.network import Network
from local_backend.engine.quiet import quiet
from local_backend.engine.rows import Row
from local_backend.engine.template import Rendered, Template
from local_backend.engine.tuning import merged_for_now

MAX_TOKENS = 64
SHOWN_CHARACTERS = 300


def sample_answers(
    network: Network, template: Template, rows: Sequence[Row], *, between: Callable[[], None]
) -> list[dict[str, Any]]:
    """Answer greedily, one row after the other.

    Returns:
        For each row {"line", "expected", "answer"}, texts cut at 300 characters.
    """
    samples = []
    with without_dropout(network.model), merged_for_now(network.model):
        for row in rows:
            between()
            prompt, expected = _last_turn(row.parts[0])
            answer = _answer(network, template, prompt, row.parts[0].images)
            texts = [_text(template, ids)[:SHOWN_CHARACTERS] for ids in (expected, answer)]
            samples.append({"line": row.line, "expected": texts[0], "answer": texts[1]})
    return samples


def _last_turn(rendered: Rendered) -> tuple[list[int], list[int]]:
    """The ids before the last trained answer, and that answer's."""
    end = max(i for i, weight in enumerate(rendered.weights) if weight) + 1
    start = end - 1
    while rendered.weights[start - 1]:
        start -= 1
    return rendered.ids[:start], rendered.ids[start:end]


def _answer(network: Network, template: Template, prompt: list[int], images: Sequence[bytes]) -> list[int]:
    ids_1T = torch.tensor([prompt], device=network.machine.device)
    with torch.no_grad(), quiet():
        out_1T = network.model.generate(
            ids_1T,
            attention_mask=torch.ones_like(ids_1T),
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
            eos_token_id=sorted(template.stop_ids),
            pad_token_id=min(template.stop_ids),
            **network.inputs(prompt, images),
        )
    return [int(token) for token in out_1T[0, len(prompt) :]]


def _text(template: Template, ids: list[int]) -> str:
    return str(template.tokenizer.decode(ids, skip_special_tokens=True))
