"""How near the estimates of past jobs came to what the jobs took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.jupyter import JupyterMixin

from ftclient.cost.book import to_text
from ftclient.cost.prices import MILLION

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure, as it was estimated and as it came; None is not known."""

    estimated: float | Decimal | None
    actual: float | Decimal | None

    @property
    def ratio(self) -> float | None:
        """Actual over estimated: 1.0 is right, 2.0 took twice as much."""
        if not self.estimated or self.actual is None:
            return None
        return float(self.actual) / float(self.estimated)

    def to_json(self) -> dict[str, Any]:
        """Both figures and their ratio; amounts are decimal strings."""
        shown = [to_text(each) if isinstance(each, Decimal) else each for each in (self.estimated, self.actual)]
        return {"estimated": shown[0], "actual": shown[1], "ratio": self.ratio}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One past job beside its plan."""

    job_id: str
    model: str
    status: str
    """In the host's words, or `gone` where the host has the job no more."""
    tokens: Measure
    """Billed tokens."""
    cost_usd: Measure
    """The actual one is that of the billed tokens at the plan's price; no host says what it charged."""
    time_s: Measure
    """Of training where the backend measures it, without start and rendering; else from creation to end."""

    def to_json(self) -> dict[str, Any]:
        """The outcome as `ftclient plan --accuracy --json` prints it."""
        found = {"job_id": self.job_id, "model": self.model, "status": self.status}
        measures = {"tokens": self.tokens, "cost_usd": self.cost_usd, "time_s": self.time_s}
        return {**found, **{name: measure.to_json() for name, measure in measures.items()}}


@dataclass(frozen=True, kw_only=True, repr=False)
class Accuracy(JupyterMixin):
    """Past jobs beside their plans, newest first. Prints itself with rich."""

    outcomes: Sequence[Outcome]

    def to_json(self) -> list[dict[str, Any]]:
        """All outcomes as `ftclient plan --accuracy --json` prints them."""
        return [outcome.to_json() for outcome in self.outcomes]

    def __repr__(self) -> str:
        """How many jobs it is of."""
        return f"<Accuracy of {len(self.outcomes)} plans>"

    def __rich__(self) -> RenderableType:
        """The outcomes as a table, for `rich.print(accuracy)`."""
        from ftclient.cost.accuracy_view import render

        return render(self)


def outcome_of(
    job_id: str, plan: Mapping[str, Any], job: FineTuningJob | None, *, trained_s: float | None = None
) -> Outcome:
    """Return a past job beside its plan.

    Args:
        job_id: Which job.
        plan: The plan's JSON as it was kept.
        job: The job as the host has it now; None where it has it no more.
        trained_s: Seconds of training, where the backend measures them.
    """
    is_done = job is not None and job.status == "succeeded"
    billed = job.trained_tokens if job and is_done else None
    span_s = job.finished_at - job.created_at if job and is_done and job.finished_at else None
    return Outcome(
        job_id=job_id,
        model=str(plan.get("model") or (job.model if job else "")),
        status=job.status if job else "gone",
        tokens=Measure(estimated=plan.get("billed_tokens"), actual=billed),
        cost_usd=_cost(plan, billed),
        time_s=_time(plan, trained_s=trained_s if is_done else None, span_s=span_s),
    )


def _time(plan: Mapping[str, Any], *, trained_s: float | None, span_s: float | None) -> Measure:
    """Return seconds of the same span: the backend's clock starts with the first step, behind all that is done once."""
    whole_s, terms = plan.get("time_s"), (plan.get("machine") or {}).get("time") or {}
    if not trained_s:
        return Measure(estimated=whole_s, actual=span_s)
    before_s = sum(float(terms.get(name, 0)) for name in ("start", "render", "frozen"))
    return Measure(estimated=None if whole_s is None else float(whole_s) - before_s, actual=trained_s)


def _cost(plan: Mapping[str, Any], billed: int | None) -> Measure:
    price, estimated = plan.get("price"), plan.get("cost_usd")
    if not price or estimated is None:
        return Measure(estimated=None, actual=None)
    per_million, least = Decimal(price["usd_per_million_tokens"]), Decimal(price.get("minimum_usd", 0))
    actual = None if billed is None else max(least, per_million * billed / MILLION)
    return Measure(estimated=Decimal(estimated), actual=actual)
