"""How fast a base model and a tuned one answer many requests at once, against transformers' own generation."""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local_backend.engine.generation.serving import Speaker
from local_backend.engine.weights import ensure
from local_backend.settings import Settings
from local_backend.task import ChatRequest, ModelRef
from tests.benchmarks.runner import Options, Result
from tests.training.chatty import write_adapter

MODEL = "smollm2-135m"
N_QUESTIONS = 30
N_TOKENS = 60
QUESTIONS = Path(__file__).parents[2] / "ftclient" / "demo" / "support.en.jsonl"


def run(options: Options) -> Iterator[Result]:
    """Answer the same questions by both; tokens are those that were generated."""
    n_questions = max(2, int(N_QUESTIONS * options.scale))
    prompts = [json.loads(line)["messages"][:-1] for line in QUESTIONS.read_text("utf-8").splitlines()[:n_questions]]
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        base = ensure(MODEL, settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tuned_dir = write_adapter(Path(folder) / "tuned", base.path, seed=0)
        speaker = Speaker(settings)
        refs = [ModelRef(base=MODEL), ModelRef(base=MODEL, tuned_dir=tuned_dir)]
        ours, seconds = together(speaker, refs, prompts)
        speaker.close()
        yield Result(
            name=f"{2 * n_questions} answers at once", value=seconds, unit="s", reach="< 60 s", ok=seconds < 60
        )
        yield Result(name="tokens, base and tuned in one batch", value=ours, unit="tokens/s")
        theirs = one_by_one(base.path, prompts[: max(1, n_questions // 6)])
        yield Result(name="tokens, transformers' generate one by one", value=theirs, unit="tokens/s")
        yield Result(name="ratio", value=ours / theirs, unit="times", reach=">= 3", ok=ours >= 3 * theirs)


def together(speaker: Speaker, refs: list[ModelRef], prompts: list[Any]) -> tuple[float, float]:
    """Send all at once; return tokens/s and seconds."""
    list(speaker.chat(refs[0], ChatRequest(messages=prompts[0], max_tokens=1)).deltas)
    start = time.perf_counter()
    requests = [ChatRequest(messages=messages, temperature=0.0, max_tokens=N_TOKENS) for messages in prompts]
    answers = [speaker.chat(ref, request) for ref in refs for request in requests]
    n_tokens = sum(piece.n_tokens for answer in answers for piece in answer.deltas)
    seconds = time.perf_counter() - start
    return n_tokens / seconds, seconds


def one_by_one(folder: Path, prompts: list[Any]) -> float:
    """Answer with the base model by `generate`; return tokens/s."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    start, n_tokens = time.perf_counter(), 0
    for messages in prompts:
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=False
        )
        done = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=N_TOKENS, do_sample=False)
        n_tokens += done.shape[1] - ids.shape[1]
    return n_tokens / (time.perf_counter() - start)
