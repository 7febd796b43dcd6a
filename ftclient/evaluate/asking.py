"""Asking one host many questions: side by side, at its pace, and none that has been answered before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ftclient.errors import BackendError, RateLimitError, UnavailableError
from ftclient.evaluate import reasoning
from ftclient.evaluate.chat import choice_of, sendable
from ftclient.evaluate.pace import Pace, Pause
from ftclient.evaluate.questions import Answer, calls_of
from ftclient.evaluate.store import AnswerStore, key_of
from ftclient.evaluate.threads import Threads
from ftclient.hosts import Host
from ftclient.wire import asked_pause_s, errors_of

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletion
    from openai.types.chat.chat_completion import Choice

LOCAL_WORKERS = 64
"""Questions under way at once at the local backend: as many texts as it computes together."""
HOSTED_WORKERS = 8
_TRIES = 6
"""All is given up after so many answers of 429 or 5xx, or broken connections, to one question or in a row."""
LONGEST_PAUSE_S = 60.0
"""A host that asks to be left alone for longer is not waited for."""
_WORTH_TELLING_S = 1.0
_OWN_FAULTS = frozenset({"context_length_exceeded", "string_above_max_length", "content_filter", "invalid_prompt"})
"""Codes of refusals that are about this question alone: the others go on."""

_NAMING_WEIGHTS = frozenset({"openai", "nebius", "crusoe"})
"""Hosts whose names of models stay what they are."""
_ADAPTED = frozenset({"max_tokens", "temperature"})

Tell = Callable[[str], None]
_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


class Asker:
    """Asks the models of one host.

    Args:
        openai: The official client.
        host: Where it leads.
        store: Where answers are kept and found again.
        workers: Questions under way at once; None suits the host.
        fresh: Ask again what has been answered before.
        tell: Told in words, by any thread, when the host fails and is asked again after a pause.
        longest_pause_s: A host that asks to be left alone for longer is given up.
        is_limited: What it may cost is limited, so that no answer is to be longer than it was counted with.
    """

    def __init__(
        self,
        openai: OpenAI,
        host: Host,
        store: AnswerStore,
        *,
        workers: int | None = None,
        fresh: bool = False,
        tell: Tell | None = None,
        longest_pause_s: float = LONGEST_PAUSE_S,
        is_limited: bool = False,
    ) -> None:
        self._openai = openai.with_options(max_retries=0)  # pauses are for all threads, not for one
        self._host = host
        self._store = store
        self._fresh = fresh
        self._tell = tell
        self._longest_pause_s = longest_pause_s
        self._is_limited = is_limited
        self._weights: dict[str, Any] = {}
        self._unfit: dict[str, frozenset[str]] = {}
        self._guard = threading.Lock()
        self._here: dict[str, Future[Answer]] = {}
        """By key what was asked by this asker, or is being asked."""
        self.workers = workers or (LOCAL_WORKERS if host.is_local else HOSTED_WORKERS)
        self._pace = Pace(self.workers)

    @property
    def has_structured_outputs(self) -> bool:
        """Whether the host is known to take a JSON schema for its answers."""
        return self._host.name in ("openai", "azure")

    def engine(self, model: str) -> str | None:
        """Return what answers for a model at a server of this project; None elsewhere."""
        identity = self._identity(model)
        return str(identity["engine"]) if identity else None

    def is_classifier(self, model: str) -> bool:
        """Whether a server of this project says that the model answers with labels."""
        identity = self._identity(model)
        return bool(identity and identity.get("is_classifier"))

    def is_fixed(self, model: str) -> bool:
        """Whether a name means the same weights at all times, or a key tells those that it means now.

        Deployments at Azure are pointed at other models, and other servers are started with other weights.
        """
        return self._host.name in _NAMING_WEIGHTS or self._identity(model) is not None

    def key(self, model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> str:
        """Return what stands for this question in the store."""
        # Room to reason makes another question of it only for those who are known to.
        left_out = () if reasoning.is_known(model) else (reasoning.ROOM,)
        return key_of(
            {
                "host": str(self._openai.base_url),
                "model": model,
                "weights": self._weights_key(model),
                "messages": list(messages),
                "options": {name: value for name, value in options.items() if name not in left_out},
            }
        )

    def known(self, model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Answer | None:
        """Return the answer if it is at hand, so that nobody need be asked."""
        return None if self._fresh else self._store.get(self.key(model, messages, options))

    def answer(self, model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Answer:
        """Return the answer of a model, from the store if it was asked before; whoever asks the same waits for it.

        Raises:
            BackendError: The host refused or failed, also after pauses.
        """
        key, mine = self.key(model, messages, options), Future[Answer]()
        with self._guard:
            found = self._here.setdefault(key, mine)
        if found is not mine:
            return found.result()
        try:
            answer = self._from_store_or_host(key, model, messages, options)
        except BaseException as error:
            del self._here[key]
            mine.set_exception(error)
            raise
        mine.set_result(answer)
        return answer

    def _from_store_or_host(
        self, key: str, model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> Answer:
        found = self.known(model, messages, options)
        if found is None:
            found = self._asked(model, messages, options)
            self._store.keep(key, found, model=model)
        return found

    def each(
        self,
        work: Callable[[_Given], _Made],
        given: Sequence[_Given],
        *,
        done: Callable[[], None],
        workers: int | None = None,
    ) -> list[_Made]:
        """Do some work for each of `given`, in threads, and return what came of it in their order.

        Args:
            work: What to do; it may ask.
            given: What to do it for.
            done: Called in this thread after each.
            workers: How many are done at once; None is as many as may be asked at once.

        Raises:
            BackendError: The first failure; nobody is asked any more, and answers that were under way are kept.
        """
        threads = Threads(work, given, n=workers or self.workers)
        try:
            threads.start()
            _watch(threads.futures, done)
            return [future.result() for future in threads.futures]
        except BaseException as error:
            self._pace.end()
            threads.end(waits=isinstance(error, Exception))  # who presses Ctrl-C waits for no answer under way
            raise

    def _identity(self, model: str) -> Any:
        """Whose answers these are, where a name may lead to other weights tomorrow: at servers of this project."""
        if not self._host.is_local:
            return None
        if model not in self._weights:
            self._weights[model] = self._weights_of(model)
        return self._weights[model]

    def _weights_key(self, model: str) -> Any:
        """What parts the weights from others; what follows from them is left out, since not all servers tell it."""
        identity = self._identity(model)
        return identity and {name: value for name, value in identity.items() if name != "is_classifier"}

    def _weights_of(self, model: str) -> Any:
        try:
            with errors_of(self._host):
                return self._openai.get(f"/local/models/{model}", cast_to=cast("Any", object))
        except BackendError as error:
            if error.status_code == HTTPStatus.NOT_FOUND and error.code != "model_not_found":
                return None  # a server of somebody else's at an address like ours
            raise

    def _asked(self, model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Answer:
        for attempt in range(1, _TRIES + 1):
            with self._pace.turn() as goes_on:
                if not goes_on:
                    raise BackendError("The evaluation was ended.")
                began = time.monotonic()
                try:
                    return self._once(model, messages, options)
                except BackendError as error:
                    if error.code in _OWN_FAULTS:
                        return Answer(text="", finish_reason="error", error=str(error))
                    if not self._learned(model, error):
                        self._wait_or_raise(error, attempt, began)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Answer:
        started = time.perf_counter()
        wanted: dict[str, Any] = {**self._fitting(model, options), "messages": sendable(messages)}
        with errors_of(self._host):
            completion = self._openai.chat.completions.create(model=model, **wanted)
        self._pace.went_well()
        return _answer_of(completion, choice_of(completion, self._host), time.perf_counter() - started)

    def _fitting(self, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options as this model takes them: reasoning models name the longest answer otherwise, and have no 0.

        That longest answer is with what they think, so they get room for it.
        """
        unfit, fitting = self._unfit.get(model, frozenset()), dict(options)
        room = fitting.pop(reasoning.ROOM, 0)
        is_free_to = reasoning.is_known(model) or not self._is_limited
        if "max_tokens" in unfit and "max_tokens" in fitting:
            fitting["max_completion_tokens"] = fitting.pop("max_tokens") + (room if is_free_to else 0)
        if "temperature" in unfit:
            fitting.pop("temperature", None)
        return fitting

    def _learned(self, model: str, error: BackendError) -> bool:
        """Whether a refusal says of an option that this model does not take it, which is left away from now on."""
        is_unfit = error.code in ("unsupported_parameter", "unsupported_value") and error.param in _ADAPTED
        if is_unfit:
            self._unfit[model] = self._unfit.get(model, frozenset()) | {str(error.param)}
        return is_unfit

    def _wait_or_raise(self, error: BackendError, attempt: int, began: float) -> None:
        """Let everybody pause if it is no use to go on at once."""
        is_passing = isinstance(error, UnavailableError | RateLimitError) and error.code != "insufficient_quota"
        if not is_passing or attempt == _TRIES or self._pace.is_over:
            raise error
        asked_s = asked_pause_s(error)
        if asked_s is not None and asked_s > self._longest_pause_s:
            raise _not_waited_for(error, asked_s, self._longest_pause_s) from error
        pause = self._pace.be_quiet(asked_s, began=began)
        if pause is None:
            return
        if pause.number >= _TRIES:
            raise error
        if self._tell and (pause.number > 1 or pause.seconds >= _WORTH_TELLING_S):
            self._tell(_said_of(error, self._host, pause))


def _not_waited_for(error: BackendError, asked_s: float, longest_s: float) -> BackendError:
    text = (
        f"{error} It asks to be left alone for {asked_s:,.0f} s; more than {longest_s:,.0f} s are not waited for: run "
        "this again after that time."
    )
    return type(error)(text, *error.args[1:])


def _said_of(error: BackendError, host: Host, pause: Pause) -> str:
    """Return what is wrong with a host, and when it is asked again."""
    wrong = "does not answer" if error.status_code is None else f"failed (HTTP {error.status_code})"
    if isinstance(error, RateLimitError):
        wrong = "is limiting requests"
    name = host.title[0].upper() + host.title[1:]
    return f"{name} {wrong}; trying again in {max(1, round(pause.seconds))} s ({pause.number} of {_TRIES - 1})."


def _watch(futures: Sequence[Future[Any]], done: Callable[[], None]) -> None:
    """Call `done` as each future ends; raise the first failure at once."""
    left = set(futures)
    while left:
        ended, left = wait(left, timeout=0.2, return_when=FIRST_COMPLETED)
        for future in ended:
            future.result()
            done()


def _answer_of(completion: ChatCompletion, choice: Choice, seconds: float) -> Answer:
    message, usage = choice.message.to_dict(mode="json"), completion.usage
    return Answer(
        text=choice.message.content or "",
        calls=calls_of(message),
        finish_reason=str(choice.finish_reason),
        prompt_tokens=usage.prompt_tokens if usage else None,
        answer_tokens=usage.completion_tokens if usage else None,
        seconds=round(seconds, 4),
    )
