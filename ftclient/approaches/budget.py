"""What jobs and answers cost together at most, before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from ftclient.cost.book import to_text
from ftclient.cost.limit import amount
from ftclient.cost.prices import base_of
from ftclient.cost.words import dollars
from ftclient.errors import BudgetError
from ftclient.evaluate import spending

if TYPE_CHECKING:
    from ftclient.client import Client
    from ftclient.cost.plan import Plan
    from ftclient.hosts import Host


def priced_as(plan: Plan) -> str:
    """Return a name for the model that a job will make: answers of tuned models have prices of their own."""
    return f"ft:{base_of(plan.model)}:compare"


def limit_of(host: Host, given: Decimal | float | str | None) -> Decimal | None:
    """Return what may be spent, in US dollars; None where nobody has said so, or nothing costs anything.

    Raises:
        BudgetError: This is no amount in dollars.
    """
    allowed = None if given is None else amount(given)
    return None if host.is_local else allowed


def check_budget(
    client: Client,
    plans: Sequence[Plan],
    asked: Sequence[spending.Asked],
    *,
    limit: Decimal,
    what: str,
) -> None:
    """Refuse what may cost more at a host than was allowed.

    Args:
        client: Where models are trained and asked.
        plans: The jobs.
        asked: What is asked at most, of all models.
        limit: US dollars.
        what: What is refused, for the message: "the comparison".

    Raises:
        BudgetError: It may cost more, or a price is not known.
    """
    host, allowed = client.host, to_text(limit)
    most = spending.spending(host, asked, n_stored=0, book=client.prices).most_usd
    costs = [plan.most_usd for plan in plans]
    if any(plan.epochs_assumed for plan in plans):
        raise BudgetError(
            f"{host.title} chooses the epochs, and does not say how, so {what} cannot be kept under ${allowed}. "
            "Choose them (--epochs N), or leave the limit away."
        )
    if most is None or None in costs:
        raise BudgetError(
            f"Not every price at {host.title} is known, so {what} cannot be kept under ${allowed}. "
            "Name prices in a file (--prices FILE), or leave the limit away."
        )
    training = sum((cost for cost in costs if cost is not None), Decimal(0))
    if training + most > limit:
        raise BudgetError(
            f"{what[0].upper()}{what[1:]} may cost up to {dollars(training + most)} (training {dollars(training)}, "
            f"answers {dollars(most)}), more than the limit of ${allowed}."
        )
