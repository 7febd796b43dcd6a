"""Answers about images, one text at a time."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from local_backend.engine.device import Machine
from local_backend.engine.generation.batch import Run
from local_backend.engine.generation.lora import Routing
from local_backend.engine.generation.plain import PlainBatch
from local_backend.engine.generation.text import Vocabulary
from local_backend.engine.vision.network import Seen


class VisionBatch(PlainBatch):
    """Takes turns between runs, a token each; a prompt's images are read with its first one."""

    def __init__(self, model: Any, *, routing: Routing, vocabulary: Vocabulary, machine: Machine, seen: Seen) -> None:
        super().__init__(model, routing=routing, vocabulary=vocabulary, device=machine.device)
        self._machine = machine
        self._seen = seen
        # Qwen's models remember how far the images of the last prompt moved its positions. Runs take turns, so each
        # run keeps its own.
        self._keeper = model.base_model if hasattr(model.base_model, "rope_deltas") else None

    def _forward(self, run: Run, state: Any) -> tuple[Tensor, Any]:
        cache, moved = state or (None, None)
        if self._keeper is not None:
            self._keeper.rope_deltas = moved
        logits_1V, cache = super()._forward(run, cache)
        return logits_1V, (cache, None if self._keeper is None else self._keeper.rope_deltas)

    def _beside(self, run: Run) -> dict[str, Tensor]:
        return self._seen.inputs(run.ids, run.images, machine=self._machine)
