"""Chat with base and tuned models: loads them on first use, batches concurrent requests, lets idle ones go."""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from local_backend.engine.adapters import adapter_dir, check_base
from local_backend.engine.generation.batch import Run
from local_backend.engine.generation.load import Loaded, load
from local_backend.engine.generation.lora import Adapter, adapter_key
from local_backend.engine.generation.sampling import Sampling, numbers_for
from local_backend.engine.generation.score import score
from local_backend.engine.generation.stamp import Stamp, stamp
from local_backend.engine.generation.text import TextStream, Vocabulary
from local_backend.engine.template import Rendered
from local_backend.engine.weights import ensure
from local_backend.settings import Settings
from local_backend.task import Answer, ChatRequest, Delta, ModelRef, Scored, UserError

_IDLE_S = 300.0
_MOST_ADAPTERS = 16
_JOIN_S = 10.0


class Speaker:
    """Answers chat requests. Thread-safe; every base model in memory has one thread that computes."""

    def __init__(self, settings: Settings, *, idle_s: float = _IDLE_S) -> None:
        self._settings = settings
        self._idle_s = idle_s
        self._voices: dict[tuple[Path, Stamp], _Voice] = {}
        self._voices_change = threading.Lock()
        self._loading = threading.Lock()
        """Held while a model is read, so that each is read once; whoever lets one go must not wait for that."""
        # A daemon thread that is cut off inside torch would abort the whole process.
        atexit.register(_close_at_exit, weakref.ref(self))

    def chat(self, model: ModelRef, request: ChatRequest) -> Answer:
        """Start answering.

        Raises:
            UserError: The model can't be had, or the prompt can't work.
        """
        while True:
            voice = self._voice(model)
            answer = voice.speak(request, adapter_dir=_adapter_dir(model))
            if answer is not None:
                return answer
            # It was let go between being found and being asked; load it again.

    def score(self, model: ModelRef, examples: Sequence[Mapping[str, Any]]) -> list[Scored]:
        """Say how likely the model finds the last answer of each example, between the answers that it is writing.

        Raises:
            UserError: The model can't be had, or an example can't work.
        """
        return [self._score_one(model, example) for example in examples]

    def _score_one(self, model: ModelRef, example: Mapping[str, Any]) -> Scored:
        while True:
            future = self._voice(model).score(example, adapter_dir=_adapter_dir(model))
            if future is not None:
                return future.result()
            # It was let go between being found and being asked; load it again.

    def loaded(self) -> list[str]:
        """Return the folders of the models in memory."""
        alive = (folder for (folder, _), voice in list(self._voices.items()) if voice.is_alive())
        return [str(folder) for folder in dict.fromkeys(alive)]

    def close(self) -> None:
        """End running answers, let all models go, and wait for that."""
        voices = list(self._voices.values())
        for voice in voices:
            voice.end()
        for voice in voices:
            voice.join(_JOIN_S)

    def _voice(self, model: ModelRef) -> _Voice:
        base_dir = ensure(model.base, self._settings)
        base, adapter = base_dir.path, _adapter_dir(model)
        if adapter is not None:
            check_base(adapter, base_dir)
        folder = base if model.tuned_dir is None or adapter else model.tuned_dir
        tokenizer_dir = folder if (folder / "tokenizer_config.json").is_file() else base
        key = (folder, stamp(folder, tokenizer_dir))
        voice = self._voices.get(key)
        if voice is not None and voice.is_alive():
            return voice
        with self._loading:
            voice = self._voices.get(key)
            if voice is None or not voice.is_alive():
                self._retire(folder)
                loaded = load(folder, tokenizer_dir=tokenizer_dir)
                voice = _Voice(loaded, idle_s=self._idle_s, on_end=self._forget)
                with self._voices_change:
                    self._voices[key] = voice
                voice.start()
            return voice

    def _retire(self, folder: Path) -> None:
        """Let what was read from a folder before its files were written anew end its answers and go."""
        for (path, _), voice in list(self._voices.items()):
            if path == folder:
                voice.retire()

    def _forget(self, voice: _Voice) -> None:
        with self._voices_change:
            for key, one in list(self._voices.items()):
                if one is voice:
                    del self._voices[key]


def _close_at_exit(speaker: weakref.ref[Speaker]) -> None:
    alive = speaker()
    if alive is not None:
        alive.close()


class _Errand:
    """An example to be scored, and where its score goes."""

    def __init__(self, example: Mapping[str, Any], adapter: Adapter | None) -> None:
        self.example = example
        self.adapter = adapter
        self.scored: Future[Scored] = Future()


class _Voice(threading.Thread):
    """One base model in memory and the thread that runs it."""

    def __init__(self, loaded: Loaded, *, idle_s: float, on_end: Callable[[_Voice], None]) -> None:
        super().__init__(name="ftclient-voice", daemon=True)
        self._loaded = loaded
        self._vocabulary = Vocabulary(loaded.template.tokenizer)
        self._batch = loaded.batch(self._vocabulary)
        self._idle_s = idle_s
        self._on_end = on_end
        self._adapters: OrderedDict[str, Adapter] = OrderedDict()
        self._adapters_lock = threading.Lock()
        self._news = threading.Condition()
        self._arrived: list[Run] = []
        self._errands: deque[_Errand] = deque()
        self._has_ended = False

    def speak(self, request: ChatRequest, *, adapter_dir: Path | None) -> Answer | None:
        """Queue a request; None if this voice has just been let go."""
        prompt = self._loaded.template.asked(request.messages, request.tools)
        most_tokens = self._most_tokens(len(prompt.ids), request)
        adapter = self._adapter(adapter_dir) if adapter_dir else None
        deltas = Deltas(n_choices=request.n)
        runs = [self._run(request, index, prompt, most_tokens, adapter, deltas) for index in range(request.n)]
        with self._news:
            if self._has_ended:
                return None
            self._arrived += runs
            self._news.notify()
        return Answer(n_prompt_tokens=len(prompt.ids), deltas=deltas)

    def score(self, example: Mapping[str, Any], *, adapter_dir: Path | None) -> Future[Scored] | None:
        """Queue an example to be scored; None if this voice has just been let go."""
        adapter = self._adapter(adapter_dir) if adapter_dir else None
        errand = _Errand(example, adapter)
        with self._news:
            if self._has_ended:
                return None
            self._errands.append(errand)
            self._news.notify()
        return errand.scored

    def retire(self) -> None:
        """Stop as soon as there is nothing left to answer."""
        with self._news:
            self._idle_s = 0.0
            self._news.notify()

    def end(self) -> None:
        """Stop after the current turn; running answers get an error."""
        with self._news:
            self._has_ended = True
            self._news.notify()

    def run(self) -> None:
        """Work until idle for long enough."""
        import torch

        with torch.inference_mode():
            while self._take_in():
                self._run_errand()
                self._turn()
            self._batch.fail(RuntimeError("The model was unloaded while it answered."))
        for errand in self._errands:
            errand.scored.set_exception(RuntimeError("The model was unloaded while it scored."))
        self._on_end(self)

    def _run_errand(self) -> None:
        """Score one example; the next has its turn after the answers had theirs."""
        with self._news:
            errand = self._errands.popleft() if self._errands else None
        if errand is None:
            return
        try:
            (found,) = score(self._loaded, errand.adapter, [errand.example])
        except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
            errand.scored.set_exception(error)
        else:
            errand.scored.set_result(found)

    def _turn(self) -> None:
        try:
            self._batch.turn()
        except Exception as error:  # noqa: BLE001 - each waiting caller gets it; the next request starts afresh
            self._batch.fail(error)

    def _take_in(self) -> bool:
        """Let new runs join, waiting for some if there is nothing to do; False to end."""
        with self._news:
            if self._batch.is_idle and not self._has_news() and not self._has_ended:
                self._news.wait(self._idle_s)
                self._has_ended = self._has_ended or not self._has_news()
            for run in self._arrived:
                self._batch.add(run)
            self._arrived.clear()
            return not self._has_ended

    def _has_news(self) -> bool:
        return bool(self._arrived or self._errands)

    def _adapter(self, folder: Path) -> Adapter:
        with self._adapters_lock:
            adapter = self._adapters.get(adapter_key(folder)) or self._loaded.adapter(folder)
            self._adapters[adapter.key] = adapter
            self._adapters.move_to_end(adapter.key)
            while len(self._adapters) > _MOST_ADAPTERS:
                self._adapters.popitem(last=False)
            return adapter

    def _most_tokens(self, n_prompt: int, request: ChatRequest) -> int:
        room = self._loaded.context_tokens - n_prompt
        if room < 1:
            raise UserError(
                f"The prompt has {n_prompt} tokens, but the model reads at most {self._loaded.context_tokens} together"
                " with its answer. Shorten the messages.",
                param="messages",
                code="context_length_exceeded",
            )
        return room if request.max_tokens is None else min(room, request.max_tokens)

    def _run(
        self,
        request: ChatRequest,
        index: int,
        prompt: Rendered,
        most_tokens: int,
        adapter: Adapter | None,
        deltas: Deltas,
    ) -> Run:
        return Run(
            index=index,
            ids=list(prompt.ids),
            images=prompt.images,
            most_tokens=most_tokens,
            stop_ids=self._loaded.template.stop_ids,
            sampling=Sampling(
                temperature=request.temperature,
                top_p=request.top_p,
                top_logprobs=request.top_logprobs,
                numbers=numbers_for(request.seed, index),
            ),
            stream=TextStream(self._vocabulary, request.stop),
            adapter=adapter,
            send=deltas.put,
            is_cancelled=deltas.is_closed,
        )


class Deltas(Iterator[Delta]):
    """The pieces of an answer as they come. Closing, or dropping, it ends the generation."""

    def __init__(self, *, n_choices: int) -> None:
        self._pieces: queue.SimpleQueue[Delta | Exception | None] = queue.SimpleQueue()
        self._n_open = n_choices
        self._closed = threading.Event()

    def __next__(self) -> Delta:
        """Wait for the next piece."""
        if self._n_open == 0 or self._closed.is_set():
            raise StopIteration
        piece = self._pieces.get()
        if piece is None:
            raise StopIteration
        if isinstance(piece, Exception):
            self.close()
            raise piece
        if piece.finish_reason is not None:
            self._n_open -= 1
        return piece

    def put(self, piece: Delta | Exception) -> None:
        """Add a piece (the computing thread's side)."""
        self._pieces.put(piece)

    def is_closed(self) -> bool:
        """Tell whether nobody reads any more."""
        return self._closed.is_set()

    def close(self) -> None:
        """End the generation at once; whoever waits for a piece in another thread is told that none comes."""
        self._closed.set()
        self._pieces.put(None)

    def __del__(self) -> None:
        """A forgotten answer is not computed to its end."""
        self._closed.set()


def _adapter_dir(model: ModelRef) -> Path | None:
    if model.tuned_dir is None:
        return None
    if not model.tuned_dir.is_dir():
        text = "The weights of this model are no longer there; choose another checkpoint or train again."
        raise UserError(text, param="model", code="model_not_found")
    return adapter_dir(model)
