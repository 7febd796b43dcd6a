"""What the runner hands to an engine and what an engine reports back: the seam between jobs and training.

Two engines stand behind it: `local_backend.engine` (torch) and `local_backend.simulated`. An engine knows nothing
of the store or of HTTP. The runner knows nothing of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Protocol

from ftclient.data.report import Issue

MethodType = Literal["supervised", "dpo"]


class JobError(Exception):
    """Ends a job as `failed` with OpenAI's error triple; the text says what the user can do."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(code, message, param)
        self.code = code
        self.message = message
        self.param = param

    def __str__(self) -> str:
        """Return the text alone."""
        return self.message


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Numbers only: every `auto` has been resolved."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    beta: float | None = None


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A model to start from or to talk to: a base model, and an adapter or full weights tuned on it."""

    base: str
    """Catalogue name, hub id with optional @revision, or an allowed local path; never an alias."""
    tuned_dir: Path | None = None
    """Folder of a tuned model (PEFT adapter, or whole safetensors); None is the base model itself."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training run, completely described: the same task gives the same run."""

    job_id: str
    model: ModelRef
    method: MethodType
    training_path: Path
    validation_path: Path | None
    hyperparameters: Hyperparameters
    seed: int
    local: Mapping[str, Any]
    """The create body's `local` object as validated by `api.jobs` (LocalOptions on the client's side)."""
    work_dir: Path
    """The job's own folder; the engine keeps its resume point and writes its checkpoints below it."""

    def model_dir(self, step: int) -> Path:
        """Where the model of a step is kept."""
        return self.work_dir / "checkpoints" / f"step-{step}"


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One finished optimizer step. Losses are in nats per weighted token, accuracies shares of 1."""

    step: int
    """From 1 to `total_steps`."""
    total_steps: int
    train_loss: float
    train_mean_token_accuracy: float
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None
    extra: Mapping[str, float] = field(default_factory=dict)
    """More numbers for the event's `data`: learning_rate, grad_norm, tokens, seconds, DPO rewards and margins."""


class Signal(Enum):
    """What the recorder wants after a step."""

    GO_ON = "go_on"
    PAUSE = "pause"
    CANCEL = "cancel"


class Recorder(Protocol):
    """Where an engine reports to. Each call is durable when it returns."""

    def started(self, facts: Mapping[str, Any]) -> None:
        """Record that weights are loaded and data rendered; called again after a resume.

        `facts` (device, precision and why, sha256 of the weights, trained_tokens an epoch, threads, ...) go to the
        job's details.
        """

    def step(self, report: StepReport) -> Signal:
        """Record one step and learn whether to go on. Steps already recorded (replayed after a crash) are dropped."""

    def checkpoint(
        self, *, step: int, model_dir: Path, metrics: Mapping[str, float], best_step: int | None = None
    ) -> None:
        """Record a usable model, written completely and fsynced to `model_dir`, as it stood after `step`.

        Repeats of a known step are dropped. The recorder removes old ones: all but the last few, that of `best_step`
        (the best epoch so far), and those that the user has been told of.
        """

    def signal(self) -> Signal:
        """Ask between steps (for long evaluations) whether to go on; cheap."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended. Failures are raised as JobError instead."""

    kind: Literal["succeeded", "paused", "cancelled"]
    trained_tokens: int
    """Billed tokens so far: rendered tokens of every example seen, over all epochs."""
    model_dir: Path | None = None
    """The final model (or, paused, the usable snapshot)."""


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """One call of chat completions, validated, defaults filled in."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    max_tokens: int | None = None
    """None: up to the end of the context."""
    temperature: float = 1.0
    top_p: float = 1.0
    stop: Sequence[str] = ()
    n: int = 1
    seed: int | None = None
    top_logprobs: int | None = None
    """None: no logprobs at all; 0 to 20: that many alternatives beside each chosen token."""
    parallel_tool_calls: bool = True
    """Whether an answer may call several tools; otherwise its first call is the only one."""


@dataclass(frozen=True, kw_only=True)
class TokenLogprob:
    """A generated token with its natural-log probability under the untempered model."""

    token: str
    logprob: float
    bytes: Sequence[int]
    top: Sequence[tuple[str, float, Sequence[int]]] = ()


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A piece of an answer. Text arrives in whole characters; the last delta of a choice has its finish_reason."""

    index: int
    text: str = ""
    logprobs: Sequence[TokenLogprob] = ()
    finish_reason: Literal["stop", "length"] | None = None
    n_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A running generation. Closing `deltas` early ends the work at once."""

    n_prompt_tokens: int
    deltas: Iterator[Delta]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """How likely a model finds a given answer."""

    logprob: float
    """Natural logarithm of the probability of all of its tokens, its end among them."""
    n_tokens: int


class UserError(Exception):
    """A request that can never work (HTTP 400): the text says why and what to do."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, param, code)
        self.message = message
        self.param = param
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a task would take, before it runs; serialised as the answer of POST /v1/local/plan."""

    n_examples: int
    tokens_per_epoch: int
    loss_tokens_per_epoch: int
    longest_example_tokens: int
    context_tokens: int
    time_s: float
    """From the creation of the job to its end."""
    memory_bytes: int
    """At the worst moment."""
    notes: Sequence[str] = ()
    choices: Mapping[str, Any] = field(default_factory=dict)
    """How it would be computed, under the names that the facts of the job will have; and why."""
    memory: Mapping[str, int] = field(default_factory=dict)
    """`memory_bytes`, term by term."""
    time: Mapping[str, float] = field(default_factory=dict)
    """`time_s`, part by part."""
    n_sampled: int | None = None
    """Examples by which the tokens of a large file are estimated; None: all are counted."""
    tokens_deviation: float = 0.0
    """Standard error of an estimated `tokens_per_epoch`, as a share of it."""
    energy_kwh: float | None = None
    """None where the device does not tell its power."""


MeasureProgress = Callable[[int, int, str], None]
"""Told how many parts of a measurement are done, of how many, and which was the last."""


class Engine(Protocol):
    """What trains and answers."""

    def check_model(self, model: ModelRef) -> None:
        """Raise UserError if the model can't be had or can't be tuned; downloads nothing."""

    def train(self, task: Task, recorder: Recorder) -> Outcome:
        """Run the task from its last resume point (or the start) to its end, a pause or a cancel.

        Raises:
            JobError: The job can't be done; code, message and param are shown to the user.
        """

    def forecast(self, task: Task, progress: MeasureProgress | None = None) -> Forecast:
        """Count tokens by the model's own template and say what time and memory the task would take.

        `progress` is told how the machine is measured, where it is for the first time.
        """

    def context_tokens(self, model: ModelRef) -> int:
        """The longest sequence that the model takes."""

    def inspect(self, model: ModelRef, path: Path) -> Iterable[Issue]:
        """Look for what the model can't learn of a sound training file: labels, or a kind of input, that don't fit."""

    def chat(self, model: ModelRef, request: ChatRequest) -> Answer:
        """Start answering; thread-safe. Raises UserError for a prompt that can't work (too long, images)."""

    def render(self, model: ModelRef, example: Mapping[str, Any], method: MethodType) -> list[dict[str, Any]]:
        """Show an example as the trainer sees it: one {"id", "text", "weight"} a token."""

    def score(self, model: ModelRef, examples: Sequence[Mapping[str, Any]]) -> Sequence[Scored]:
        """Say how likely the model finds the last answer of each example; thread-safe.

        Raises:
            UserError: An example is too long, or the engine cannot.
        """

    def is_classifier(self, model: ModelRef) -> bool:
        """Whether the model answers with labels that it was tuned on, fetching the base model if need be."""

    def base_sha256(self, model: ModelRef) -> str | None:
        """Return the sum of the base model's weights, fetching them if need be; None for an engine without weights."""
