"""The plan of one job: tokens, epochs, cost, time and memory, with the arithmetic shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.jupyter import JupyterMixin

from ftclient.cost import limit
from ftclient.cost.book import PriceBook, to_text
from ftclient.cost.epochs import Batch, Epochs, n_steps
from ftclient.cost.notes import Note
from ftclient.cost.prices import Price, days_left, model_prices
from ftclient.cost.tokens import Tokens, use_tokens
from ftclient.errors import UnsupportedError
from ftclient.hosts import Host
from ftclient.jobs.request import JobRequest

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ftclient.cost.usage import Use

_S_PER_HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a job takes on the machine that runs it."""

    time_s: float
    memory_bytes: int
    learning_rate: float | None = None
    longest_example_tokens: int | None = None
    context_tokens: int | None = None
    energy_kwh: float | None = None
    """By the machine's own measure, or by the power that the book of prices names."""
    usd_per_kwh: Decimal | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    """What else the backend says of how it would run the job."""

    @property
    def energy_usd(self) -> Decimal | None:
        """What the electricity costs; None where its amount or its price is not known."""
        if self.energy_kwh is None or self.usd_per_kwh is None:
            return None
        return Decimal(str(self.energy_kwh)) * self.usd_per_kwh

    def to_json(self) -> dict[str, Any]:
        """What a plan prints beside time and memory."""
        usd = self.energy_usd
        return {**self.more, "energy_kwh": self.energy_kwh, "energy_usd": None if usd is None else to_text(usd)}


@dataclass(frozen=True, kw_only=True, repr=False)
class Plan(JupyterMixin):
    """One job, worked out. Prints itself with rich; `client.train(plan)` runs exactly this."""

    request: JobRequest
    host: Host
    model: str
    """The model's own name, where the host has resolved an alias."""
    n_examples: int
    epochs: Epochs
    batch: Batch | None
    """None: the host chooses and does not say how."""
    tokens: Tokens | None
    """None: they cannot be counted here."""
    price: Price | None
    machine: Machine | None
    """None: somebody else's machine."""
    warnings: Sequence[Note] = ()
    epochs_assumed: bool = False
    """The host chooses the epochs and does not say how."""
    shutdown: str | None = None
    """The day on which the model ends, by the host's own word, as YYYY-MM-DD; None leaves it to the book of prices."""
    is_gone: bool = False
    """The model has been shut down, and the host does not list it."""

    @property
    def batch_size(self) -> int | None:
        """Examples an optimizer step."""
        return self.batch.size if self.batch else None

    @property
    def billed_tokens(self) -> int | None:
        """What the API calls trained_tokens: every token of every epoch."""
        return self.tokens.per_epoch * self.epochs.n_epochs if self.tokens else None

    @property
    def cost_usd(self) -> Decimal | None:
        """The exact cost; None where the host has no price for it (the local machine charges nothing)."""
        billed = self.billed_tokens
        return self.price.cost_usd(billed) if self.price and billed is not None else None

    @property
    def most_usd(self) -> Decimal | None:
        """What it costs at most, where the kind of training or the host's epochs leave room; None if nobody knows."""
        if self.price is None or self.billed_tokens is None or self.epochs_assumed:
            return None
        return self.price.most_usd(self.billed_tokens)

    @property
    def n_steps(self) -> int | None:
        """Optimizer steps, where the batch size is known."""
        if self.batch is None:
            return None
        return n_steps(self.n_examples, batch_size=self.batch.size, n_epochs=self.epochs.n_epochs)

    def check_budget(self, max_cost_usd: Decimal | float | str) -> None:
        """Refuse a job that could cost more.

        Raises:
            BudgetError: It may cost more, or nobody knows what it costs, or this is no amount in dollars.
        """
        limit.check(self, max_cost_usd)

    def check_start(self, host: Host) -> None:
        """Refuse to start at `host` what was planned for another one, or what is known to have ended.

        Raises:
            UnsupportedError: The text says what to do instead.
        """
        if (self.host.name, self.host.is_local) != (host.name, host.is_local):
            raise UnsupportedError(
                f"This plan is for {self.host.title}, with its prices and rules; the client is that of {host.title}. "
                "Plan the job again with this client: client.plan(...)."
            )
        if self.is_gone:
            gone = next((note.message for note in self.warnings if note.code == "model_gone"), f"{self.model} is gone.")
            raise UnsupportedError(f"{gone} Choose another model; nothing was sent.")

    def use(self, *, calls_per_day: int, book: PriceBook | None = None, **usage: Any) -> Use | None:
        """What using the tuned model costs; None where its tokens cannot be counted, or the model has been shut down.

        Args:
            calls_per_day: How often it will be asked.
            book: What hosts charge; None is what holds here.
            usage: prompt_tokens, answer_tokens, shots and in_batches (see `ftclient.cost.usage.traffic_of`).
        """
        from ftclient.cost.usage import local_use, traffic_of, use_of

        if self.tokens is None or self.is_gone:
            return None
        tokens = self._use_tokens()
        if tokens is None:
            return None
        traffic = traffic_of(tokens, self.n_examples, calls_per_day=calls_per_day, **usage)
        if self.host.is_local:
            return local_use(traffic)
        prices = model_prices(self.host, self.model, book=book)
        left = days_left(self.host, self.model, book=book, shutdown=self.shutdown)
        return use_of(prices, traffic, training_usd=self.cost_usd, days_left=left)

    def _use_tokens(self) -> Tokens | None:
        """Tokens of the examples as the model will be asked them: of two answers, it gives the preferred one."""
        if self.request.method.type != "dpo":
            return self.tokens
        return use_tokens(self.request.train, self.host, model=self.model)

    def to_json(self) -> dict[str, Any]:
        """The plan as `ftclient plan --json` prints it."""
        tokens, machine, local = self.tokens, self.machine, self.request.local
        return {
            "n_examples": self.n_examples,
            "n_epochs": self.epochs.n_epochs,
            "epochs_rule": self.epochs.rule,
            "tokens_per_epoch": tokens.per_epoch if tokens else None,
            "loss_tokens_per_epoch": tokens.loss_per_epoch if tokens else None,
            "billed_tokens": self.billed_tokens,
            "price": self.price.to_json() if self.price else None,
            "cost_usd": None if self.cost_usd is None else to_text(self.cost_usd),
            "time_s": machine.time_s if machine else None,
            "memory_bytes": machine.memory_bytes if machine else None,
            "warnings": [{"code": note.code, "message": note.message} for note in self.warnings],
            "most_usd": None if self.most_usd is None else to_text(self.most_usd),
            "host": self.host.name,
            "model": self.model,
            "batch_size": self.batch_size,
            "batch_rule": self.batch.rule if self.batch else None,
            "n_steps": self.n_steps,
            "n_cut_examples": tokens.n_cut if tokens else None,
            "machine": machine.to_json() if machine else None,
            "local": local.model_dump(mode="json", include={"tune", "task"}) if local else None,
        }

    def __repr__(self) -> str:
        """What would be trained, where, and for how much; all of it is in `to_json()`."""
        cost = "no charge" if self.host.is_local else "unknown cost" if self.cost_usd is None else f"${self.cost_usd}"
        billed = "unknown" if self.billed_tokens is None else f"{self.billed_tokens:,}"
        return f"<Plan {self.model} at {self.host.title}: {billed} tokens, {cost}>"

    def __rich__(self) -> RenderableType:
        """The plan as a table, for `rich.print(plan)`."""
        from ftclient.cost.plan_view import render

        return render(self)


def energy_kwh(time_s: float, *, watts: Decimal | None) -> float | None:
    """Return the electricity of so much time at this power; None where the power is not known."""
    return None if watts is None else float(watts) * time_s / _S_PER_HOUR / 1000


__all__ = ["Machine", "Note", "Plan", "energy_kwh"]
