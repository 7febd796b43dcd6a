"""Answers of architectures whose attention is not known here: by transformers' own cache, one text at a time.

Slower than `generate`, but right for whatever transformers can run, recurrent layers included.
"""

from __future__ import annotations

import inspect
from collections import deque
from typing import Any

import torch
from torch import Tensor

from local_backend.engine.generation.batch import Run
from local_backend.engine.generation.lora import Routing
from local_backend.engine.generation.sampling import choose
from local_backend.engine.generation.text import Vocabulary


class PlainBatch:
    """Takes turns between runs, a token each. Not thread-safe: one thread owns it."""

    def __init__(self, model: Any, *, routing: Routing, vocabulary: Vocabulary, device: torch.device) -> None:
        self._model = model
        self._routing = routing
        self._vocabulary = vocabulary
        self._device = device
        self._runs: deque[tuple[Run, Any]] = deque()
        # Renamed in transformers 5.23; both names are in use.
        parameters = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"

    def add(self, run: Run) -> None:
        """Let a run join."""
        self._runs.append((run, None))

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._runs

    def turn(self) -> None:
        """Let cancelled runs go and compute one token of every other."""
        for _ in range(len(self._runs)):
            run, state = self._runs.popleft()
            if run.is_cancelled():
                continue
            # Back in the queue while it is computed, so that an error reaches its reader.
            self._runs.append((run, state))
            logits_1V, state = self._forward(run, state)
            self._runs.pop()
            if not run.accept(choose(logits_1V, [run.sampling])[0], self._vocabulary):
                self._runs.append((run, state))

    def fail(self, error: Exception) -> None:
        """End all runs with an error."""
        for run, _ in self._runs:
            run.send(error)
        self._runs.clear()

    def _forward(self, run: Run, state: Any) -> tuple[Tensor, Any]:
        self._routing.set([run.adapter], self._device)
        ids = run.ids if state is None else run.ids[-1:]
        known = self._beside(run) if state is None else {self._cache_name: state}
        output = self._model(input_ids=torch.tensor([ids], device=self._device), use_cache=True, **known)
        return output.logits[:, -1], output[self._cache_name]

    def _beside(self, run: Run) -> dict[str, Any]:  # noqa: ARG002 - models of text read nothing beside it
        """What the model reads with the prompt's ids."""
        return {}
