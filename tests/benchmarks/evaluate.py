"""How fast a whole evaluation answers, through client, transport and server, against the engine's own batches."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftclient import Client, Dataset
from local_backend.engine.generation.serving import Speaker
from local_backend.settings import Settings
from local_backend.task import ChatRequest, ModelRef
from tests.benchmarks.runner import Options, Result

MODEL = "smollm2-135m"
N_EXAMPLES = 1_000
N_TOKENS = 24
QUESTIONS = Path(__file__).parents[2] / "ftclient" / "demo" / "support.en.jsonl"


def run(options: Options) -> Iterator[Result]:
    """Answer the same examples by the engine alone (half before, half after) and by `client.evaluate`."""
    examples = generated(max(32, int(N_EXAMPLES * options.scale)))
    half = len(examples) // 2
    with tempfile.TemporaryDirectory() as folder:
        speaker = Speaker(Settings(home=Path(folder) / "engine"))
        by_engine(speaker, examples[:2])
        before = by_engine(speaker, examples[:half])
        through = by_evaluate(Path(folder) / "client", examples)
        after = by_engine(speaker, examples[half:])
        speaker.close()
    alone = rate(before, after)
    yield Result(name=f"engine alone, {len(examples)} examples", value=alone, unit="tokens/s")
    yield Result(name="client.evaluate, the same examples", value=rate(through), unit="tokens/s")
    share = rate(through) / alone
    yield Result(name="share of the engine's own rate", value=share, unit="", reach=">= 0.7", ok=share >= 0.7)


def generated(n: int) -> list[dict[str, Any]]:
    """The demo's questions with made-up order numbers, so that no two are the same."""
    dice = random.Random(5)
    rows = [json.loads(line) for line in QUESTIONS.read_text("utf-8").splitlines()]
    found = []
    for at in range(n):
        *before, question, answer = rows[at % len(rows)]["messages"]
        text = f"{question['content']} My order is number {dice.randrange(10**6)}."
        found.append({"messages": [*before, {**question, "content": text}, answer]})
    return found


def by_engine(speaker: Speaker, examples: list[dict[str, Any]]) -> tuple[int, float]:
    """Hand all questions to the engine at once; return generated tokens and seconds."""
    start = time.perf_counter()
    requests = [
        ChatRequest(messages=example["messages"][:-1], temperature=0.0, max_tokens=N_TOKENS) for example in examples
    ]
    answers = [speaker.chat(ModelRef(base=MODEL), request) for request in requests]
    n_tokens = sum(piece.n_tokens for answer in answers for piece in answer.deltas)
    return n_tokens, time.perf_counter() - start


def by_evaluate(home: Path, examples: list[dict[str, Any]]) -> tuple[int, float]:
    """Evaluate as a user does, in process; the model is loaded before."""
    with Client.local(home=home) as client:
        client.chat(MODEL, "Hello", max_tokens=1)
        start = time.perf_counter()
        comparison = client.evaluate(Dataset(examples), models=[MODEL], max_tokens=N_TOKENS, perplexity=False)
        seconds = time.perf_counter() - start
    n_tokens = comparison.scores[0].answer_tokens
    assert n_tokens is not None
    return n_tokens, seconds


def rate(*parts: tuple[int, float]) -> float:
    """Tokens a second over all parts."""
    return sum(n for n, _ in parts) / sum(seconds for _, seconds in parts)
