"""The torch engine: trains, forecasts, renders and answers. Importing this package alone loads no torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftclient.data.report import Issue
from local_backend.settings import Settings
from local_backend.task import (
    Answer,
    ChatRequest,
    Forecast,
    JobError,
    MeasureProgress,
    MethodType,
    ModelRef,
    Outcome,
    Recorder,
    Scored,
    Task,
    UserError,
)

if TYPE_CHECKING:
    from local_backend.engine.classify.kinds import Kind
    from local_backend.engine.weights import ModelDir

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


NO_LIMIT_TOKENS = 2**20
"""Where a model names no longest sequence."""


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
        from local_backend.engine.loop import train
        from local_backend.engine.training import prepare

        try:
            base, kind = self._kind(task.model, task)
            if kind is None and (start := adapter_dir(task.model)) is not None:
                check_base(start, base)
        except UserError as error:
            raise JobError(error.code or "model_not_available", error.message, error.param or "model") from error
        if kind is not None:
            from local_backend.engine.classify.loop import train as train_classifier

            return train_classifier(task, base=base, kind=kind, recorder=recorder)
        return train(prepare(task, base=base), recorder)

    def context_tokens(self, model: ModelRef) -> int:
        """The longest sequence that the model takes."""
        from local_backend.engine.training import context_tokens

        base, kind = self._kind(model)
        if kind is not None:
            return kind.context_tokens or NO_LIMIT_TOKENS
        return context_tokens(base.path)

    def inspect(self, model: ModelRef, path: Path) -> Iterable[Issue]:
        """Look for labels, or a kind of input, that a classifier can't learn, and a language that it does not know."""
        from local_backend.engine.classify.findings import issues_of
        from local_backend.engine.classify.routing import reader_for

        base, kind = self._kind(model)
        return [] if kind is None else issues_of(path, reader_for(model, base.path, kind))

    def _kind(self, model: ModelRef, task: Task | None = None) -> tuple[ModelDir, Kind | None]:
        """The base model's folder, and the kind of classifier that a model is or becomes; None: it chats."""
        from local_backend.engine.classify.routing import training_kind
        from local_backend.engine.weights import ensure

        base = ensure(model.base, self._settings)
        wanted = (task.local.get("task") if task else None) or "chat"
        method = task.method if task else "supervised"
        return base, training_kind(model, base.path, task=wanted, method=method, local=task.local if task else None)

    def forecast(self, task: Task, progress: MeasureProgress | None = None) -> Forecast:
        """Count tokens by the model's own template and say what time and memory the task would take."""
        base, kind = self._kind(task.model, task)
        if kind is not None:
            from local_backend.engine.classify.forecast import forecast as forecast_classifier

            return forecast_classifier(task, base=base, kind=kind)
        from local_backend.engine.forecast.estimate import forecast
        from local_backend.engine.languages import chat_notes
        from local_backend.engine.template import Template

        found = forecast(task, base=base, folder=self._settings.cache / "calibration", progress=progress)
        notes = chat_notes(task.training_path, Template.of(base.path).tokenizer)
        return replace(found, notes=[*found.notes, *notes])

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

        base, kind = self._kind(model)
        if kind is not None:
            from local_backend.engine.classify.routing import reader_for, render

            return render(reader_for(model, base.path, kind), example)
        template = Template.of(base.path)
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

    def is_classifier(self, model: ModelRef) -> bool:
        """Whether the model answers with labels that it was tuned on."""
        from local_backend.engine.classify.routing import classifier_dir
        from local_backend.engine.weights import ensure

        return classifier_dir(model, ensure(model.base, self._settings).path) is not None

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
