"""The plan of one job: tokens, epochs, cost, time and memory, with the arithmetic shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.jupyter import JupyterMixin

from ftclient.cost.epochs import Epochs, n_steps, resolve_epochs
from ftclient.cost.prices import Price, last_day_to_start, shutdown_of, training_price
from ftclient.cost.tokens import Tokens, count_tokens
from ftclient.data import Report
from ftclient.errors import BackendError, BudgetError
from ftclient.hosts import Host
from ftclient.jobs.request import JobRequest

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Note:
    """Something to know before starting; `code` is for programs, `message` for people."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a job takes on the machine that runs it."""

    time_s: float
    memory_bytes: int
    learning_rate: float | None = None
    longest_example_tokens: int | None = None
    context_tokens: int | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Plan(JupyterMixin):
    """One job, worked out. Prints itself with rich; `client.train(plan)` runs exactly this."""

    request: JobRequest
    host: Host
    model: str
    """The model's own name, where the host has resolved an alias."""
    n_examples: int
    epochs: Epochs
    batch_size: int | None
    """None: the host chooses and does not say how."""
    tokens: Tokens
    price: Price | None
    machine: Machine | None
    """None: somebody else's machine."""
    warnings: Sequence[Note] = ()

    @property
    def billed_tokens(self) -> int:
        """What the API calls trained_tokens: every token of every epoch."""
        return self.tokens.per_epoch * self.epochs.n_epochs

    @property
    def cost_usd(self) -> Decimal | None:
        """The exact cost; None where the host has no price for it (the local machine charges nothing)."""
        return self.price.cost_usd(self.billed_tokens) if self.price else None

    @property
    def n_steps(self) -> int | None:
        """Optimizer steps, where the batch size is known."""
        if self.batch_size is None:
            return None
        return n_steps(self.n_examples, batch_size=self.batch_size, n_epochs=self.epochs.n_epochs)

    def check_budget(self, max_cost_usd: Decimal | float | str) -> None:
        """Refuse a job that would cost more.

        Raises:
            BudgetError: It costs more, or nobody knows what it costs.
        """
        if self.host.is_local:
            return
        limit = Decimal(str(max_cost_usd))
        if self.cost_usd is None:
            raise BudgetError(
                f"The price of training {self.model} at {self.host.title} is not known, so it cannot be kept under "
                f"${limit}. Leave the limit away to train all the same."
            )
        if self.cost_usd > limit:
            raise BudgetError(f"The job would cost ${self.cost_usd:.4f}, more than the limit of ${limit}.")

    def to_json(self) -> dict[str, Any]:
        """The plan as `ftclient plan --json` prints it."""
        return {
            "n_examples": self.n_examples,
            "n_epochs": self.epochs.n_epochs,
            "epochs_rule": self.epochs.rule,
            "tokens_per_epoch": self.tokens.per_epoch,
            "loss_tokens_per_epoch": self.tokens.loss_per_epoch,
            "billed_tokens": self.billed_tokens,
            "price": self.price.to_json() if self.price else None,
            "cost_usd": None if self.cost_usd is None else f"{self.cost_usd:f}",
            "time_s": self.machine.time_s if self.machine else None,
            "memory_bytes": self.machine.memory_bytes if self.machine else None,
            "warnings": [{"code": note.code, "message": note.message} for note in self.warnings],
        }

    def __repr__(self) -> str:
        """What would be trained, where, and for how much; all of it is in `to_json()`."""
        cost = "no charge" if self.host.is_local else "unknown cost" if self.cost_usd is None else f"${self.cost_usd}"
        return f"<Plan {self.model} at {self.host.title}: {self.billed_tokens:,} tokens, {cost}>"

    def __rich__(self) -> RenderableType:
        """The plan as a table, for `rich.print(plan)`."""
        from ftclient.cost.plan_view import render

        return render(self)


def hosted_plan(request: JobRequest, host: Host, report: Report, *, notes: Sequence[Note] = ()) -> Plan:
    """Return the plan of a job at a host that charges, from counts made here.

    Args:
        request: The job.
        host: Where it would run.
        report: The check of the training file, which has counted its tokens.
        notes: What asking the host has brought to light.
    """
    price = training_price(host, request.model)
    limits = host.limits.for_model(request.model)
    tokens = count_tokens(request.train, report, model=request.model, method=request.method.type, limits=limits)
    batch_size = request.method.batch_size
    return Plan(
        request=request,
        host=host,
        model=request.model,
        n_examples=report.n_examples,
        epochs=resolve_epochs(request.method.n_epochs, n_examples=report.n_examples),
        batch_size=batch_size if isinstance(batch_size, int) else None,
        tokens=tokens or Tokens(per_epoch=0, loss_per_epoch=0),
        price=price if tokens else None,
        machine=None,
        warnings=[*notes, *_about_tokens(tokens), *_about_price(host, request, price), *_about_dates(host, request)],
    )


def local_plan(request: JobRequest, host: Host, answer: Mapping[str, Any]) -> Plan:
    """Return the plan that the local backend has worked out (the answer of POST /v1/local/plan).

    Raises:
        BackendError: The answer lacks what a plan needs.
    """
    try:
        return Plan(
            request=request,
            host=host,
            model=str(answer["model"]),
            n_examples=int(answer["n_examples"]),
            epochs=_epochs(request, answer),
            batch_size=int(answer["batch_size"]),
            tokens=Tokens(
                per_epoch=int(answer["tokens_per_epoch"]), loss_per_epoch=int(answer["loss_tokens_per_epoch"])
            ),
            price=None,
            machine=Machine(
                time_s=float(answer["time_s"]),
                memory_bytes=int(answer["memory_bytes"]),
                learning_rate=answer.get("learning_rate"),
                longest_example_tokens=answer.get("longest_example_tokens"),
                context_tokens=answer.get("context_tokens"),
            ),
            warnings=[Note("note", str(text)) for text in answer.get("notes", ())],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BackendError(
            f"{host.title} sent a plan that cannot be read ({error}). Do client and server have the same version?"
        ) from error


def _epochs(request: JobRequest, answer: Mapping[str, Any]) -> Epochs:
    """Return the epochs that the backend will run, with the arithmetic where it is the published rule."""
    epochs = resolve_epochs(request.method.n_epochs, n_examples=int(answer["n_examples"]))
    agreed = epochs.n_epochs == int(answer["n_epochs"])
    return epochs if agreed else Epochs(int(answer["n_epochs"]), str(answer["epochs_rule"]))


def _about_tokens(tokens: Tokens | None) -> list[Note]:
    if tokens is None:
        text = "Tokens could not be counted: the vocabulary is not on this machine. Their cost is not known."
        return [Note("tokens_unknown", text)]
    notes = []
    if tokens.n_cut:
        text = (
            f"{tokens.n_cut:,} examples are longer than the host reads; it stops at its limit, and so does the count."
        )
        notes.append(Note("too_long", text))
    elif tokens.is_estimate:
        notes.append(Note("tokens_estimated", "The token count is an estimate: for part of it no rule is published."))
    return notes


def _about_price(host: Host, request: JobRequest, price: Price | None) -> list[Note]:
    if price is not None:
        return []
    if request.method.type == "reinforcement":
        return [
            Note("price_by_the_hour", "Reinforcement is charged by the hour of training, which cannot be foreseen.")
        ]
    return [Note("price_unknown", f"No price of training {request.model} at {host.title} is known, so no cost either.")]


def _about_dates(host: Host, request: JobRequest) -> list[Note]:
    notes = []
    last_day, shutdown = last_day_to_start(host), shutdown_of(host, request.model)
    if last_day:
        text = f"{host.title} starts no fine-tuning jobs after {last_day}, and none at all for new organizations."
        notes.append(Note("training_closing", text))
    if shutdown:
        text = f"{request.model} is shut down on {shutdown}, together with every model tuned on it."
        notes.append(Note("model_shutdown", text))
    return notes
