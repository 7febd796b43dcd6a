"""What jobs and answers cost together at most, before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from ftclient.cost.limit import amount
from ftclient.errors import BudgetError
from ftclient.evaluate import spending

if TYPE_CHECKING:
    from ftclient.client import Client
    from ftclient.cost.plan import Plan


def priced_as(plan: Plan) -> str:
    """Return a name for the model that a job will make: answers of tuned models have prices of their own."""
    return f"ft:{plan.model}:compare"


def check_budget(
    client: Client,
    plans: Sequence[Plan],
    asked: Sequence[spending.Asked],
    *,
    limit: Decimal | float | str,
    what: str,
) -> None:
    """Refuse what may cost more than was allowed; nothing costs anything at servers of one's own.

    Args:
        client: Where models are trained and asked.
        plans: The jobs.
        asked: What is asked at most, of all models.
        limit: US dollars.
        what: What is refused, for the message: "the comparison".

    Raises:
        BudgetError: It may cost more, a price is not known, or the limit is no amount in dollars.
    """
    host, allowed = client.host, amount(limit)
    most = spending.spending(host, asked, n_stored=0, book=client.prices).most_usd
    costs = [Decimal(0) if host.is_local else plan.most_usd for plan in plans]
    if not host.is_local and any(plan.epochs_assumed for plan in plans):
        raise BudgetError(
            f"{host.title} chooses the epochs, and does not say how, so {what} cannot be kept under ${limit}. "
            "Choose them (--epochs N), or leave the limit away."
        )
    if most is None or None in costs:
        raise BudgetError(
            f"Not every price at {host.title} is known, so {what} cannot be kept under ${limit}. "
            "Name prices in a file (--prices FILE), or leave the limit away."
        )
    training = sum((cost for cost in costs if cost is not None), Decimal(0))
    if training + most > allowed:
        raise BudgetError(
            f"{what[0].upper()}{what[1:]} may cost up to ${training + most:.2f} (training ${training:.2f}, answers "
            f"${most:.2f}), more than the limit of ${limit}."
        )
