"""What a task would take, before it runs."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import torch

from local_backend.engine.device import choose_machine
from local_backend.engine.matmul import times_transposed
from local_backend.engine.network import MICRO_BATCH_TOKENS
from local_backend.engine.packing import micro_batches, pack
from local_backend.engine.rows import Row, read_rows, step_indices
from local_backend.engine.template import Template
from local_backend.engine.training import context_tokens, sequences
from local_backend.engine.weights import ModelDir
from local_backend.task import Forecast, JobError, Task, UserError

SHARE_OF_MATMUL_RATE = 0.55
"""What part of the machine's rate for large products a step reaches (tests/benchmarks measures it)."""
START_S = 4.0
"""Loading weights and rendering, before the first step."""
PROCESS_BYTES = 600 << 20
"""What Python, torch and transformers take before any weights."""
_SAMPLED_STEPS = 8


def forecast(task: Task, *, base: ModelDir) -> Forecast:
    """Render the training file and estimate time and memory.

    Raises:
        UserError: The file or the model can't be used; the text names line and remedy.
    """
    import transformers

    config = transformers.AutoConfig.from_pretrained(base.path, local_files_only=True)
    limit = context_tokens(base.path)
    try:
        rows = read_rows(
            task.training_path,
            template=Template.of(base.path),
            context_tokens=limit,
            method=task.method,
            param="training_file",
        )
    except JobError as error:
        raise UserError(error.message, param=error.param, code=error.code) from error
    computed = _computed_tokens(task, rows)
    n_loss = sum(w != 0 for row in rows for part in row.parts for w in part.weights)
    size = _Size(config)
    epochs = task.hyperparameters.n_epochs
    flops = epochs * (4 * size.block_weights * computed + 6 * size.head_weights * n_loss)
    machine = choose_machine(task.local.get("runtime") or {})
    return Forecast(
        n_examples=len(rows),
        tokens_per_epoch=sum(row.n_tokens for row in rows),
        loss_tokens_per_epoch=n_loss,
        longest_example_tokens=max((len(part.ids) for row in rows for part in row.parts), default=0),
        context_tokens=limit,
        time_s=START_S + flops / (SHARE_OF_MATMUL_RATE * matmul_rate(machine.threads)),
        memory_bytes=PROCESS_BYTES + size.weight_bytes + size.activation_bytes_per_token * MICRO_BATCH_TOKENS,
        notes=_notes(computed, sum(row.n_tokens for row in rows)),
    )


@lru_cache(maxsize=4)
def matmul_rate(threads: int) -> float:
    """Operations a second of a large fp32 product on this machine, measured once (some 50 ms)."""
    torch.set_num_threads(threads)
    x = torch.randn(1024, 1024)
    best_s = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        times_transposed(x, x)
        best_s = min(best_s, time.perf_counter() - started)
    return float(2 * 1024**3 / best_s)


class _Size:
    """A model's weights and activations, from its configuration."""

    def __init__(self, config: Any) -> None:
        text = config.get_text_config()
        width, layers = text.hidden_size, text.num_hidden_layers
        head_dim = getattr(text, "head_dim", None) or width // text.num_attention_heads
        groups = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        inner = text.intermediate_size
        attention = width * head_dim * (2 * text.num_attention_heads + 2 * groups)
        self.block_weights = layers * (attention + 3 * width * inner)
        self.head_weights = width * text.vocab_size
        n_tables = 1 if text.tie_word_embeddings else 2
        self.weight_bytes = 4 * (self.block_weights + n_tables * self.head_weights)
        kept = 4 * width + 2 * head_dim * (text.num_attention_heads + groups) + 3 * inner
        self.activation_bytes_per_token = 4 * layers * kept


def _computed_tokens(task: Task, rows: list[Row]) -> int:
    """Tokens computed an epoch, shared prefixes once a pack; measured on a few steps."""
    size = task.hyperparameters.batch_size
    n_steps = -(-len(rows) // size)
    seen = computed = 0
    for step in range(min(n_steps, _SAMPLED_STEPS)):
        visited = [rows[i] for i in step_indices(len(rows), batch_size=size, seed=task.seed, step=step)]
        parts = sequences(visited)
        groups = micro_batches([[part] for part in parts], max_tokens=MICRO_BATCH_TOKENS)
        computed += sum(pack([parts[i] for i in group]).n_tokens for group in groups)
        seen += sum(row.n_tokens for row in visited)
    return round(computed / max(1, seen) * sum(row.n_tokens for row in rows))


def _notes(computed: int, tokens: int) -> list[str]:
    if not tokens or computed > 0.9 * tokens:
        return []
    return [f"Prefixes that examples share are computed once, which saves {1 - computed / tokens:.0%} of the tokens."]
