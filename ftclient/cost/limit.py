"""Whether a planned job stays under a limit in dollars, whatever the host makes of what was left open."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from ftclient.cost.book import to_text
from ftclient.errors import BudgetError

if TYPE_CHECKING:
    from ftclient.cost.plan import Plan


def check(plan: Plan, max_cost_usd: Decimal | float | str) -> None:
    """Refuse a job that could cost more than this.

    Raises:
        BudgetError: It may cost more, or nobody knows what it costs, or this is no amount in dollars.
    """
    limit = amount(max_cost_usd)
    if plan.host.is_local:
        return
    most = plan.most_usd
    if most is None:
        raise BudgetError(f"{_why_unknown(plan)}, so it cannot be kept under ${to_text(limit)}. {_remedy(plan)}")
    if most > limit:
        cost = "would cost" if most == plan.cost_usd else "may cost up to"
        raise BudgetError(
            f"The job {cost} ${to_text(most)}, more than the limit of ${to_text(limit)}.{_why_more(plan)}"
        )


def amount(given: Decimal | float | str) -> Decimal:
    """Return a limit as it was given, in US dollars.

    Raises:
        BudgetError: This is no amount in dollars.
    """
    try:
        limit = Decimal(str(given))
    except InvalidOperation:
        limit = Decimal("NaN")
    if not limit.is_finite() or limit < 0:
        raise BudgetError(f"{str(given)[:40]!r} is no amount in dollars.")
    return limit


def _why_unknown(plan: Plan) -> str:
    if plan.request.method.type == "reinforcement":
        return "Reinforcement is charged by the hour of training, and its hours cannot be foreseen"
    if plan.tokens is None:
        return "The tokens of the training file could not be counted"
    if plan.price is None:
        return f"The price of training {plan.model} at {plan.host.title} is not known"
    return f"{plan.host.title} chooses the epochs of this job, and does not say how"


def _remedy(plan: Plan) -> str:
    if plan.request.method.type == "reinforcement" or plan.tokens is None:
        return "Leave the limit away to train all the same."
    if plan.price is None:
        return "Leave the limit away to train all the same, or name the price in a file: --prices FILE."
    return "Choose them: --epochs N, or n_epochs=N of the method."


def _why_more(plan: Plan) -> str:
    if plan.most_usd == plan.cost_usd:
        return ""
    kind = plan.request.training_type
    asked = f"Training of the type {kind}" if kind else "Without a training type the host chooses one, which"
    return f" {asked} may cost more than the global price; training_type='globalStandard' (--training-type) does not."
