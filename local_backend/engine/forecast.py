"""What a task would take, before it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from local_backend.engine.device import choose_machine
from local_backend.engine.matmul import times_transposed
from local_backend.engine.packing import fitting_micro_batch_tokens, micro_batches, pack
from local_backend.engine.rows import Row, read_rows, step_indices
from local_backend.engine.template import Template
from local_backend.engine.training import context_tokens, sequences
from local_backend.engine.weights import ModelDir
from local_backend.task import Forecast, JobError, Task, UserError

SHARE_OF_MATMUL_RATE = 0.5
"""What part of the machine's rate for large products a step reaches (tests/benchmarks measures it)."""
START_S = 4.0
"""Loading weights and rendering, before the first step."""
PACK_S = 0.1
"""What a pack takes however small it is: some thousand operations are started."""
PROCESS_BYTES = 500 << 20
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
    rows = _rows(task, base, limit)
    machine = choose_machine(task.local.get("runtime") or {})
    load = _load(task, rows)
    size = Size(config, task.local.get("tune") or {})
    flops = size.once_flops(load) + task.hyperparameters.n_epochs * size.epoch_flops(load)
    seconds = flops / (SHARE_OF_MATMUL_RATE * matmul_rate(machine.threads))
    n_tokens = sum(row.n_tokens for row in rows)
    return Forecast(
        n_examples=len(rows),
        tokens_per_epoch=n_tokens,
        loss_tokens_per_epoch=load.trained,
        longest_example_tokens=max((len(part.ids) for row in rows for part in row.parts), default=0),
        context_tokens=limit,
        time_s=START_S + seconds + PACK_S * load.packs * task.hyperparameters.n_epochs,
        memory_bytes=PROCESS_BYTES + size.memory_bytes(load.largest_pack),
        notes=_notes(load, n_tokens, size),
    )


def _rows(task: Task, base: ModelDir, limit: int) -> list[Row]:
    template = Template.of(base.path)
    try:
        return read_rows(
            task.training_path, template=template, context_tokens=limit, method=task.method, param="training_file"
        )
    except JobError as error:
        raise UserError(error.message, param=error.param, code=error.code) from error


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


@dataclass(frozen=True)
class Load:
    """What an epoch computes."""

    computed: int
    """Tokens, shared prefixes once a pack."""
    trained: int
    """Tokens that the output layer is asked about."""
    packs: int
    largest_pack: int


class Size:
    """A model's weights, by its configuration and the way of tuning; what a token costs in time and memory."""

    def __init__(self, config: Any, tune: Mapping[str, Any]) -> None:
        text = config.get_text_config()
        width: int = text.hidden_size
        self.layers: int = text.num_hidden_layers
        head_dim = getattr(text, "head_dim", None) or width // text.num_attention_heads
        groups = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        attention: int = width * head_dim * (2 * text.num_attention_heads + 2 * groups)
        self.block: int = attention + 3 * width * text.intermediate_size
        self.head: int = width * text.vocab_size
        self.tables = 1 if getattr(text, "tie_word_embeddings", config.tie_word_embeddings) else 2
        self.kind = tune.get("type", "lora")
        n_trained = {"head": 0, "last_layers": int(tune.get("n", 2))}.get(self.kind, self.layers)
        self.trained_layers = min(self.layers, n_trained)
        kept = 2 * width + 2 * head_dim * (text.num_attention_heads + groups) + 2 * text.intermediate_size
        self.kept_bytes_per_token: int = 4 * self.trained_layers * kept

    def once_flops(self, load: Load) -> float:
        """What frozen blocks cost, whose output is kept."""
        return float(2 * (self.layers - self.trained_layers) * self.block * load.computed)

    def epoch_flops(self, load: Load) -> float:
        """Forward and backward: whole weights also need their own gradient, a head alone needs no other."""
        per_weight = 4 if self.kind == "lora" else 6
        head = {"full": 6, "head": 4}.get(self.kind, 4)
        return float(per_weight * self.trained_layers * self.block * load.computed + head * self.head * load.trained)

    def memory_bytes(self, pack_tokens: int) -> int:
        """Weights, what the backward pass keeps, and gradient and two moments of what trains as a whole."""
        whole = {"full": self.layers * self.block + self.head, "head": self.head}
        trained = whole.get(self.kind, 0 if self.kind == "lora" else self.trained_layers * self.block)
        weights = self.layers * self.block + self.tables * self.head
        return 4 * weights + 12 * trained + self.kept_bytes_per_token * pack_tokens


def _load(task: Task, rows: list[Row]) -> Load:
    """Measured on a few steps, and scaled to the epoch."""
    size = task.hyperparameters.batch_size
    n_steps = -(-len(rows) // size)
    limit = (task.local.get("runtime") or {}).get("micro_batch_tokens")
    seen, packs = 0, []
    for step in range(min(n_steps, _SAMPLED_STEPS)):
        visited = [rows[i] for i in step_indices(len(rows), batch_size=size, seed=task.seed, step=step)]
        parts = sequences(visited)
        limit = limit or fitting_micro_batch_tokens(parts)
        batches = micro_batches([[part] for part in parts], max_tokens=limit)
        packs += [pack([parts[i] for i in batch]) for batch in batches]
        seen += sum(row.n_tokens for row in visited)
    share = sum(row.n_tokens for row in rows) / max(1, seen)
    return Load(
        computed=round(share * sum(one.n_tokens for one in packs)),
        trained=sum(w != 0 for row in rows for part in row.parts for w in part.weights),
        packs=round(share * len(packs)),
        largest_pack=max((one.n_tokens for one in packs), default=0),
    )


def _notes(load: Load, tokens: int, size: Size) -> list[str]:
    notes = []
    if tokens and load.computed < 0.9 * tokens:
        saved = 1 - load.computed / tokens
        notes.append(f"Prefixes that examples share are computed once, which saves {saved:.0%} of the tokens.")
    if size.trained_layers < size.layers:
        n_frozen = size.layers - size.trained_layers
        notes.append(
            f"The first {n_frozen} blocks don't train: they are computed once for all epochs and kept on disk."
        )
    return notes
