"""The torch engine: trains, forecasts, renders and answers. Importing this package alone loads no torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from local_backend.settings import Settings
from local_backend.task import (
    Answer,
    ChatRequest,
    Forecast,
    JobError,
    MethodType,
    ModelRef,
    Outcome,
    Recorder,
    Scored,
    Task,
    UserError,
)

# Read when torch loads OpenMP. By default its threads spin while they wait for each other; on a machine with other
# work that starves the thread they wait for (a step was seen to take thirty times longer). Waiting threads spin for
# some microseconds and then sleep instead.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# oneDNN compiles a kernel for every size of a product, and by default keeps the last thousand (twice: torch's wrapper
# has a cache of its own). Packs seldom have the same size, so that only filled memory: 20 MiB a pack, up to half a GiB.
# A pack itself needs some fifty kernels, which its layers share.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
os.environ.setdefault("LRU_CACHE_CAPACITY", "64")


class TorchEngine:
    """`local_backend.task.Engine` on PyTorch and transformers. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._speaker: Any = None
        self._classifiers: Any = None

    def check_model(self, model: ModelRef) -> None:
        """Raise UserError for a base model that no catalogue, alias or hub id explains; downloads nothing."""
        from local_backend.models import resolve

        resolve(model.base, settings=self._settings)

    def train(self, task: Task, recorder: Recorder) -> Outcome:
        """Run the task from its last resume point (or the start) to its end, a pause or a cancel."""
        from local_backend.engine.adapters import adapter_dir, check_base
        from local_backend.engine.classify.routing import training_kind
        from local_backend.engine.loop import train
        from local_backend.engine.training import prepare
        from local_backend.engine.weights import ensure

        try:
            base = ensure(task.model.base, self._settings)
            kind = training_kind(task.model, base.path, task=task.local.get("task") or "chat", method=task.method)
            if kind is None and (start := adapter_dir(task.model)) is not None:
                check_base(start, base)
        except UserError as error:
            raise JobError(error.code or "model_not_available", error.message, "model") from error
        if kind is not None:
            from local_backend.engine.classify.loop import train as train_classifier

            return train_classifier(task, base=base, kind=kind, recorder=recorder)
        return train(prepare(task, base=base), recorder)

    def context_tokens(self, model: ModelRef) -> int:
        """The longest sequence that the model takes."""
        from local_backend.engine.training import context_tokens
        from local_backend.engine.weights import ensure

        return context_tokens(ensure(model.base, self._settings).path)

    def forecast(self, task: Task) -> Forecast:
        """Count tokens by the model's own template and say what time and memory the task would take."""
        from local_backend.engine.forecast.estimate import forecast
        from local_backend.engine.weights import ensure

        folder = self._settings.cache / "calibration"
        return forecast(task, base=ensure(task.model.base, self._settings), folder=folder)

    def chat(self, model: ModelRef, request: ChatRequest) -> Answer:
        """Start answering."""
        from local_backend.engine.classify.routing import classifier_dir, refuse_untuned
        from local_backend.engine.weights import ensure

        base = ensure(model.base, self._settings).path
        folder = classifier_dir(model, base)
        if folder is None:
            refuse_untuned(base)
        answer: Answer = (
            self._speaking().chat(model, request) if folder is None else self._classifying().chat(folder, request)
        )
        return answer

    def _classifying(self) -> Any:
        with self._lock:
            if self._classifiers is None:
                from local_backend.engine.classify.serving import Classifiers

                self._classifiers = Classifiers()
            return self._classifiers

    def _speaking(self) -> Any:
        with self._lock:
            if self._speaker is None:
                from local_backend.engine.generation.serving import Speaker

                self._speaker = Speaker(self._settings)
            return self._speaker

    def render(self, model: ModelRef, example: Mapping[str, Any], method: MethodType) -> list[dict[str, Any]]:
        """Show an example as the trainer sees it: one {"id", "text", "weight"} a token."""
        from local_backend.engine.template import Template, show
        from local_backend.engine.weights import ensure

        template = Template.of(ensure(model.base, self._settings).path)
        parts = template.render_pair(example) if method == "dpo" else template.render(example)
        return [token for part in parts for token in show(part, template.tokenizer)]

    def score(self, model: ModelRef, examples: Sequence[Mapping[str, Any]]) -> Sequence[Scored]:
        """Say how likely the model finds the last answer of each example."""
        from local_backend.engine.classify.routing import classifier_dir, refuse_untuned
        from local_backend.engine.weights import ensure

        base = ensure(model.base, self._settings).path
        if classifier_dir(model, base) is not None:
            raise UserError("A classifier gives labels and no texts.", "model", "scoring_not_supported")
        refuse_untuned(base)
        scores: Sequence[Scored] = self._speaking().score(model, examples)
        return scores

    def base_sha256(self, model: ModelRef) -> str | None:
        """Return the sum of the base model's weights."""
        from local_backend.engine.weights import ensure

        return ensure(model.base, self._settings).sha256

    def describe(self) -> dict[str, Any]:
        """What the engine computes with: device, precision and why, threads, torch's version."""
        import torch

        from local_backend.engine.device import choose_machine

        machine = choose_machine({})
        return {
            "device": str(machine.device),
            "precision": machine.precision,
            "precision_reason": machine.precision_reason,
            "torch": torch.__version__,
            "threads": machine.threads,
        }


__all__ = ["TorchEngine"]
