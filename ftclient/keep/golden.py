"""Golden answers: what a tuned model says to chosen prompts, recorded while it can still be asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from ftclient.errors import BackendError, FtclientError
from ftclient.evaluate import reasoning
from ftclient.evaluate.questions import Answer, calls_of
from ftclient.keep.agreement import Agreement, agreement, plain_calls, shown
from ftclient.keep.asking import Tell, answer, answer_within, asker
from ftclient.keep.folder import KeepFolder
from ftclient.keep.inventory import silence_of
from ftclient.keep.prompts import MAX_TOKENS, Prompt, answer_options

if TYPE_CHECKING:
    from ftclient.client import Client
    from ftclient.evaluate.asking import Asker

Progress = Callable[[int, int], None]
"""Called with prompts asked and prompts in all."""
_ROOM_TOKENS = 16
"""How much longer than the golden answer another may become before it is cut."""
_CALL_TOKENS = 64
"""What is written around a call, at most."""


def record(
    client: Client,
    folder: KeepFolder,
    model: str,
    prompts: Sequence[Prompt],
    *,
    max_tokens: int = MAX_TOKENS,
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> int:
    """Ask a model all prompts at temperature 0 and return how many answers are recorded now.

    Answers are on disk one by one; a second call asks only what is missing, was refused, or was cut off at fewer
    tokens. Prompts that the host refuses are kept with its reason, and the others go on.

    Args:
        client: Connected to where the model is.
        folder: Where answers are kept, and what is missing is listed.
        model: Whom to ask.
        prompts: What to ask; without any, nothing is, and what is missing stays listed.
        max_tokens: Longest answer.
        progress: Told about every prompt.
        tell: Told in words when the host fails and is asked again after a pause.

    Raises:
        BackendError: The model does not answer. What it has answered is kept.
    """
    if not prompts:
        return sum(1 for _ in folder.golden(model))
    what = problem_of(model)
    try:
        with asker(client, tell=tell) as asking:
            recording = _Recording(folder, asking, model, max_tokens)
            n = recording.run(prompts, progress)
    except FtclientError as error:
        folder.note_problem(what, str(error))
        raise
    refused = list(folder.refused(model))
    if refused:
        why = f"The host refused {len(refused)} of {n + len(refused)} prompts: {refused[0]['error']}"
        folder.note_problem(what, why)
    else:
        folder.drop_problems(what)
    if recording.has_answered:
        folder.drop_problems(silence_of(model))
    return n


def problem_of(model: str) -> str:
    """Return as what the manifest lists answers of a model that are missing."""
    return f"golden answers of {model}"


def n_cut(folder: KeepFolder, model: str) -> int:
    """Return how many recorded answers end where they had become too long."""
    return sum(entry.get("finish_reason") == "length" for entry in folder.golden(model))


class _Recording:
    """One run over the prompts of a model."""

    def __init__(self, folder: KeepFolder, asking: Asker, model: str, max_tokens: int) -> None:
        self._folder, self._asking, self._model, self._max_tokens = folder, asking, model, max_tokens
        self._done = {entry["prompt"]: entry for entry in folder.golden(model)}
        self._refused = {entry["prompt"]: entry for entry in folder.refused(model)}
        self.has_answered = False
        """Whether an answer came in this run: those of earlier ones do not show that the model still answers."""

    def run(self, prompts: Sequence[Prompt], progress: Progress | None) -> int:
        """Ask what is missing and return how many answers are there then."""
        self._folder.cut_torn_golden(self._model)
        try:
            for number, prompt in enumerate(prompts, start=1):
                if self._is_missing(prompt):
                    self._ask(prompt)
                if progress:
                    progress(number, len(prompts))
        finally:
            self._folder.note_golden(self._model, self._refused.values())
        if self._refused and not self._done:
            raise BackendError(next(iter(self._refused.values()))["error"])
        return len(self._done)

    def _is_missing(self, prompt: Prompt) -> bool:
        known = self._done.get(prompt.key)
        return known is None or (
            known.get("finish_reason") == "length" and known.get("max_tokens", self._max_tokens) < self._max_tokens
        )

    def _ask(self, prompt: Prompt) -> None:
        said = answer(self._asking, self._model, prompt, answer_options(self._max_tokens))
        asked = {
            "prompt": prompt.key,
            "model": self._model,
            "messages": list(prompt.messages),
            "options": dict(prompt.options),
        }
        if said.error is not None:
            self._refused[prompt.key] = {**asked, "error": said.error}
            return
        entry = {
            **asked,
            "max_tokens": self._max_tokens,
            "answer": said.text,
            "message": _message(said),
            "finish_reason": said.finish_reason,
        }
        self.has_answered = True
        self._folder.add_golden(self._model, entry)
        self._done[prompt.key] = entry
        self._refused.pop(prompt.key, None)


def compare_with_golden(
    client: Client,
    folder: KeepFolder,
    golden_model: str,
    model: str,
    *,
    n: int | None = None,
    progress: Progress | None = None,
) -> Agreement:
    """Ask `model`, at whatever host, what `golden_model` was asked, and compare the answers.

    A prompt that the host refuses agrees in nothing. Golden answers that were cut off are compared as far as they go;
    those that were cut off before they began are left out.

    Args:
        client: Connected to where `model` is.
        folder: Where the golden answers are.
        golden_model: Whose they are.
        model: Whom to ask.
        n: Compare only so many of them; None compares all.
        progress: Told about every answer.

    Raises:
        BackendError: The model does not answer, the host does not grant answers as long as they were recorded with, or
            nothing was recorded.
    """
    recorded = ((entry, _golden(entry)) for entry in folder.golden(golden_model))
    known = list(islice(((entry, said) for entry, said in recorded if not reasoning.is_cut_off(said)), n))
    if not known:
        raise BackendError(f"No answers of {golden_model} are recorded in {folder.path}.")
    pairs: list[tuple[Answer, Answer]] = []
    with asker(client) as asking:
        for entry, golden in known:
            prompt = Prompt(messages=entry["messages"], options=entry.get("options", {}))
            lengths = _lengths(golden_model, entry, golden)
            pairs.append((answer_within(asking, model, prompt, lengths), golden))
            if progress:
                progress(len(pairs), len(known))
    refusals = [said.error for said, _ in pairs if said.error is not None]
    if len(refusals) == len(pairs):
        raise BackendError(refusals[0])
    return agreement(pairs)


def _lengths(golden_model: str, entry: Mapping[str, Any], golden: Answer) -> Sequence[int]:
    """Return how long another answer may become, in tokens, and then how long it may where a host does not grant that.

    A token has one byte at least. Few models need twice as many tokens as others for the same words; and what was
    granted once may be granted again.
    """
    granted = reasoning.most_tokens(golden_model, answer_options(entry.get("max_tokens", MAX_TOKENS)))
    room = _ROOM_TOKENS + _CALL_TOKENS * len(golden.calls)
    most = len(shown(golden).encode(errors="surrogatepass")) + room
    return [most, *(fewer for fewer in (2 * granted + room, granted) if fewer < most)]


def _message(said: Answer) -> dict[str, Any]:
    """Return an answer as the message that it was, but for the ids of calls, which are random."""
    calls = [
        {"id": f"call_{number}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for number, call in enumerate(plain_calls(said.calls), start=1)
    ]
    message = {"role": "assistant", "content": said.text or (None if calls else "")}
    return {**message, **({"tool_calls": calls} if calls else {})}


def _golden(entry: Mapping[str, Any]) -> Answer:
    return Answer(
        text=str(entry["answer"]),
        calls=calls_of(entry.get("message", {})),
        finish_reason=str(entry.get("finish_reason", "stop")),
    )
