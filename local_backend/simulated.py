"""An engine without torch, weights or network: the same job life, deterministic numbers, instant answers.

It is for test suites. Losses fall along a fixed curve; a tuned model answers with the training answer whose prompt
is nearest to the question; a base model repeats the question. `local.simulate` sets its speed and its faults.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ftclient.data.report import Issue
from local_backend.models import resolve
from local_backend.settings import Settings
from local_backend.simulated_chat import answer_deltas, nearest_answer, prompt_tokens, said
from local_backend.store.blobs import sync_folder, write_whole
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
    Signal,
    StepReport,
    Task,
    UserError,
)

CONTEXT_TOKENS = 8192
_KEPT_EPOCHS = 3
"""The recorder keeps the checkpoints of so many epochs at least."""
_POLL_S = 0.005
_RESUME_EVERY_S = 0.3
_FIRST_LOSS, _LAST_LOSS = 2.5, 0.15
_CHOSEN = {
    "device": "none",
    "precision": "none",
    "precision_reason": "the simulated engine computes nothing",
}
_MAX_ANSWERS = 20_000
"""Examples that a simulated model remembers."""


@dataclass(frozen=True)
class _Data:
    """What is needed to know of a task's files."""

    n_examples: int
    tokens_per_epoch: int
    loss_tokens_per_epoch: int
    longest_example_tokens: int


class SimulatedEngine:
    """Trains nothing, and reports as if it had."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def check_model(self, model: ModelRef) -> None:
        """Raise UserError for names that no catalogue, alias or hub id explains."""
        if model.tuned_dir is None:
            resolve(model.base, settings=self._settings)

    def train(self, task: Task, recorder: Recorder) -> Outcome:
        """Run the task from its last resume point; each step is on disk before the next begins."""
        data = _measure(task)
        steps_per_epoch = math.ceil(data.n_examples / task.hyperparameters.batch_size)
        total_steps = steps_per_epoch * task.hyperparameters.n_epochs
        first = _resume_step(task)
        points = _ResumePoints(task)
        recorder.started(_facts(data))
        for step in range(first + 1, total_steps + 1):
            signal = _wait(task, recorder, step)
            if signal is Signal.GO_ON:
                signal = recorder.step(_report(task, step, total_steps, steps_per_epoch, data))
                if step % steps_per_epoch == 0:
                    _write_checkpoint(task, recorder, step, total_steps)
                points.reached(step, now=step % steps_per_epoch == 0)
                done = step
            else:
                done = step - 1
            if signal is not Signal.GO_ON and done < total_steps:
                points.reached(done, now=True)
                return _stopped(task, signal, done, data, steps_per_epoch)
        tokens = data.tokens_per_epoch * task.hyperparameters.n_epochs
        final = task.model_dir(_final_step(task, total_steps, steps_per_epoch))
        return Outcome(kind="succeeded", trained_tokens=tokens, model_dir=final)

    def forecast(self, task: Task, progress: MeasureProgress | None = None) -> Forecast:
        """Count words as tokens and say how long the chosen speed takes."""
        del progress  # there is nothing to measure
        data = _measure(task)
        steps = math.ceil(data.n_examples / task.hyperparameters.batch_size) * task.hyperparameters.n_epochs
        simulate = _simulate(task)
        seconds = simulate["seconds_per_step"] * steps if simulate["speed"] == "timed" else 0.0
        return Forecast(
            n_examples=data.n_examples,
            tokens_per_epoch=data.tokens_per_epoch,
            loss_tokens_per_epoch=data.loss_tokens_per_epoch,
            longest_example_tokens=data.longest_example_tokens,
            context_tokens=CONTEXT_TOKENS,
            time_s=seconds,
            memory_bytes=0,
            notes=["The simulated engine trains nothing; tokens are words."],
            choices=_CHOSEN,
        )

    def context_tokens(self, model: ModelRef) -> int:
        """The longest sequence that any model takes here."""
        del model
        return CONTEXT_TOKENS

    def inspect(self, model: ModelRef, path: Path) -> list[Issue]:
        """Nothing that it could not learn."""
        del model, path
        return []

    def chat(self, model: ModelRef, request: ChatRequest) -> Answer:
        """Answer from the training data (tuned) or repeat the question (base)."""
        n_prompt_tokens = prompt_tokens(request.messages)
        if n_prompt_tokens >= CONTEXT_TOKENS:
            text = f"The prompt has {n_prompt_tokens} tokens; this model takes {CONTEXT_TOKENS}. Shorten the messages."
            raise UserError(text, param="messages", code="context_length_exceeded")
        texts = [nearest_answer(model.tuned_dir, request, index=index) for index in range(request.n)]
        limit = CONTEXT_TOKENS - n_prompt_tokens
        bounded = replace(request, max_tokens=min(limit, request.max_tokens or limit))
        return Answer(n_prompt_tokens=n_prompt_tokens, deltas=answer_deltas(texts, bounded))

    def render(self, model: ModelRef, example: Mapping[str, Any], method: MethodType) -> list[dict[str, Any]]:
        """Cut the messages into words; the assistant's are trained on."""
        del model
        return [{"id": _token_id(text), "text": text, "weight": weight} for text, weight in _tokens(example, method)]

    def score(self, model: ModelRef, examples: Sequence[Mapping[str, Any]]) -> Sequence[Scored]:
        """Refuse: there are no probabilities here."""
        del model, examples
        raise UserError("The simulated engine computes no probabilities.", "model", "scoring_not_supported")

    def is_classifier(self, model: ModelRef) -> bool:
        """Nothing here is one."""
        del model
        return False

    def base_sha256(self, model: ModelRef) -> None:
        """There are no weights."""
        del model


def allow_steps(work_dir: Path, n_steps: int) -> int:
    """Let a job of speed `step` do so many more steps; return how many it may do in all.

    The size of a file is their number: appending is atomic.
    """
    work_dir.mkdir(mode=0o700, exist_ok=True)
    with (work_dir / "allowed_steps").open("ab") as file:
        file.write(b"." * n_steps)
        return file.tell()


def _simulate(task: Task) -> dict[str, Any]:
    defaults = {
        "speed": "immediate",
        "seconds_per_step": 0.05,
        "fail_at_step": None,
        "fail_code": "server_error",
        "hang_at_step": None,
    }
    return {**defaults, **(task.local.get("simulate") or {})}


def _wait(task: Task, recorder: Recorder, step: int) -> Signal:
    """Take as long as a step takes, and fail or hang where that is wanted."""
    simulate = _simulate(task)
    if step == simulate["fail_at_step"]:
        raise JobError(simulate["fail_code"], f"The job failed on purpose at step {step}.")
    if step == simulate["hang_at_step"]:
        return _wait_until(lambda: False, recorder)
    if simulate["speed"] == "timed":
        end = time.monotonic() + simulate["seconds_per_step"]
        return _wait_until(lambda: time.monotonic() >= end, recorder)
    if simulate["speed"] == "step":
        return _wait_until(lambda: _allowed_steps(task) >= step, recorder)
    return Signal.GO_ON


def _wait_until(is_over: Any, recorder: Recorder) -> Signal:
    asked_at = time.monotonic()
    while not is_over():
        time.sleep(_POLL_S)
        if time.monotonic() - asked_at > 10 * _POLL_S:
            asked_at = time.monotonic()
            signal = recorder.signal()
            if signal is not Signal.GO_ON:
                return signal
    return Signal.GO_ON


def _allowed_steps(task: Task) -> int:
    path = task.work_dir / "allowed_steps"
    return path.stat().st_size if path.exists() else 0


def _noise(*parts: Any) -> float:
    """A number from -1 to 1 that depends on nothing but the parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**31 - 1.0


def _loss(task: Task, step: int, total_steps: int, kind: str) -> float:
    falling = math.exp(-4.0 * step / total_steps)
    noise = 1.0 + 0.08 * _noise(task.seed, step, kind)
    return (_LAST_LOSS + (_FIRST_LOSS - _LAST_LOSS) * falling) * noise * (1.0 if kind == "train" else 1.05)


def _report(task: Task, step: int, total_steps: int, steps_per_epoch: int, data: _Data) -> StepReport:
    every = (task.local.get("evaluation") or {}).get("every_steps") or max(1, total_steps // 10)
    has_valid = task.validation_path is not None and step % every == 0
    has_full = task.validation_path is not None and step % steps_per_epoch == 0
    train, valid, full = (_loss(task, step, total_steps, kind) for kind in ("train", "valid", "full"))
    tokens = data.tokens_per_epoch / steps_per_epoch
    return StepReport(
        step=step,
        total_steps=total_steps,
        train_loss=train,
        train_mean_token_accuracy=math.exp(-train),
        valid_loss=valid if has_valid else None,
        valid_mean_token_accuracy=math.exp(-valid) if has_valid else None,
        full_valid_loss=full if has_full else None,
        full_valid_mean_token_accuracy=math.exp(-full) if has_full else None,
        extra={"tokens": tokens, **(_dpo_numbers(train) if task.method == "dpo" else {})},
    )


def _dpo_numbers(loss: float) -> dict[str, float]:
    margin = math.log(1.0 / math.expm1(loss)) if loss > 0 else 0.0
    return {"rewards_chosen": margin / 2, "rewards_rejected": -margin / 2, "rewards_margin": margin}


def _resume_step(task: Task) -> int:
    points = (task.work_dir / "resume").glob("step-*")
    return max((int(point.name.partition("-")[2]) for point in points), default=0)


class _ResumePoints:
    """Writes down now and then how far the job is; steps since the last time are done again after a crash."""

    def __init__(self, task: Task) -> None:
        self._folder = task.work_dir / "resume"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._written_at = time.monotonic()

    def reached(self, step: int, *, now: bool) -> None:
        """Note a finished step, at once or when it is time."""
        if now or time.monotonic() - self._written_at > _RESUME_EVERY_S:
            target = self._folder / f"step-{step:08d}"
            write_whole(target, json.dumps({"step": step}).encode())
            for old in self._folder.glob("step-*"):
                if old != target:
                    old.unlink()
            self._written_at = time.monotonic()


def _write_model(task: Task, step: int) -> Path:
    """Write a model's folder whole: what it remembers is the training file itself."""
    folder = task.model_dir(step)
    if folder.is_dir():
        return folder
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700, parents=True)
    _link(_answers(task), temporary / "answers.jsonl")
    write_whole(temporary / "model.json", json.dumps({"step": step, "engine": "simulated"}).encode())
    temporary.replace(folder)
    sync_folder(folder.parent)
    return folder


def _answers(task: Task) -> Path:
    """Write, once a job, what its models remember."""
    path = task.work_dir / "answers.jsonl"
    if not path.exists():
        pairs = (
            _pair(example, task.method)
            for _, example in zip(range(_MAX_ANSWERS), _examples(task.training_path), strict=False)
        )
        lines = [json.dumps(pair, ensure_ascii=False) for pair in pairs]
        write_whole(path, "\n".join(lines).encode())
    return path


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _write_checkpoint(task: Task, recorder: Recorder, step: int, total_steps: int) -> None:
    folder = _write_model(task, step)
    train = _loss(task, step, total_steps, "train")
    metrics = {"train_loss": train, "train_mean_token_accuracy": math.exp(-train)}
    if task.validation_path is not None:
        full = _loss(task, step, total_steps, "full")
        metrics |= {"full_valid_loss": full, "full_valid_mean_token_accuracy": math.exp(-full)}
    recorder.checkpoint(step=step, model_dir=folder, metrics=metrics)


def _final_step(task: Task, total_steps: int, steps_per_epoch: int) -> int:
    """The last step; where the best epoch is to be kept, the last step of that, if it is still on disk."""
    if task.validation_path is None or not (task.local.get("evaluation") or {}).get("keep_best"):
        return total_steps
    ends = range(steps_per_epoch, total_steps + 1, steps_per_epoch)[-_KEPT_EPOCHS:]
    return min(ends, key=lambda step: _loss(task, step, total_steps, "full"))


def _stopped(task: Task, signal: Signal, step: int, data: _Data, steps_per_epoch: int) -> Outcome:
    tokens = data.tokens_per_epoch * step // steps_per_epoch
    if signal is Signal.CANCEL:
        return Outcome(kind="cancelled", trained_tokens=tokens)
    return Outcome(kind="paused", trained_tokens=tokens, model_dir=_write_model(task, step) if step else None)


def _facts(data: _Data) -> dict[str, Any]:
    return {
        "engine": "simulated",
        **_CHOSEN,
        "trained_tokens_per_epoch": data.tokens_per_epoch,
    }


def _measure(task: Task) -> _Data:
    sizes = []
    n_loss = 0
    for example in _examples(task.training_path):
        tokens = list(_tokens(example, task.method))
        sizes.append(len(tokens))
        n_loss += sum(weight > 0 for _, weight in tokens)
    return _Data(len(sizes), sum(sizes), n_loss, max(sizes, default=0))


def _examples(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def _tokens(example: Mapping[str, Any], method: MethodType) -> Iterator[tuple[str, float]]:
    messages = example["input"]["messages"] if method == "dpo" else example["messages"]
    for message in messages:
        trained = message["role"] == "assistant" and method != "dpo"
        for word in _words(message):
            yield word, float(message.get("weight", 1.0)) if trained else 0.0
    if method == "dpo":
        for output in (*example["preferred_output"], *example["non_preferred_output"]):
            for word in _words(output):
                yield word, 1.0


def _words(message: Mapping[str, Any]) -> Sequence[str]:
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    calls = json.dumps(message["tool_calls"], ensure_ascii=False) if message.get("tool_calls") else ""
    return [message["role"], *re.findall(r"\w+|[^\w\s]", f"{text}{calls}")]


def _token_id(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:2], "big")


def _pair(example: Mapping[str, Any], method: MethodType) -> dict[str, str]:
    """The question and the answer of an example."""
    messages = example["input"]["messages"] if method == "dpo" else example["messages"]
    answers = example["preferred_output"] if method == "dpo" else [m for m in messages if m["role"] == "assistant"]
    asked = [m.get("content") for m in messages if m["role"] == "user"]
    answer = answers[-1].get("content") if answers else ""
    question = asked[-1] if asked else ""
    return {"question": said(question), "answer": said(answer)}
