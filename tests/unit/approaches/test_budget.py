"""What jobs and answers may cost together: how a limit may be named, and what is refused because of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from ftclient import Client, Dataset, hosts
from ftclient.approaches import Audience, Wishes, compare, learning_curve
from ftclient.cost.plan import Plan
from ftclient.errors import BudgetError
from ftclient.hosts import Host
from tests.unit.approaches.test_approaches import example

TRAIN = Dataset([example(f"question {n}", f"answer {n}") for n in range(30)])
TEST = Dataset([example("What does a card cost?", "5 euros"), example("Where is the door?", "In hall A")])
WAYS: Mapping[str, Callable[..., object]] = {
    "the comparison": compare,
    "the learning curve": partial(learning_curve, fractions=(0.5, 1)),
}


class AgreedError(Exception):
    """Everything was within the limit, and somebody is asked to agree."""


def agree(_plans: Sequence[Plan]) -> None:
    raise AgreedError


def asks(what: str, client: Client, model: str) -> Callable[..., object]:
    """What compares, or draws a curve of, LoRA under the wishes that it is called with."""

    def ask(**wishes: Any) -> object:
        chosen = Wishes(approaches=("lora",), **wishes)
        return WAYS[what](client, TRAIN, TEST, model=model, wishes=chosen, audience=Audience(agree=agree))

    return ask


def hosted(client: Client, host: Host = hosts.OPENAI) -> Client:
    """A client that goes by a host's rules and prices."""
    return Client(client.openai, host=host, home=client.home)


def is_within(ask: Callable[..., object], **wishes: Any) -> bool:
    """Whether nothing is refused before somebody is asked to agree."""
    with pytest.raises((AgreedError, BudgetError)) as raised:
        ask(**wishes)
    return raised.type is AgreedError


@pytest.mark.parametrize("what", WAYS)
def test_a_limit_may_be_text_and_what_is_no_amount_is_a_mistake(what: str, ft_client: Client) -> None:
    ask = asks(what, hosted(ft_client), "gpt-4.1-mini")
    costs = r"up to \$0\.\d{4} \(training \$0\.\d{4}, answers \$0\.\d{4}\)"
    with pytest.raises(BudgetError, match=rf"^{what.capitalize()} may cost {costs}, more than .* \$0\.0001\.$"):
        ask(max_cost_usd="0.0001")
    assert is_within(ask, max_cost_usd="100")
    for odd in ("lots", "", "-1", "nan"):
        with pytest.raises(BudgetError, match=rf"^'{odd}' is no amount in dollars\.$"):
            ask(max_cost_usd=odd)


@pytest.mark.parametrize("what", WAYS)
def test_what_is_no_amount_is_a_mistake_also_where_nothing_costs_anything(what: str, ft_client: Client) -> None:
    ask = asks(what, ft_client, "smollm2-135m")
    with pytest.raises(BudgetError, match=r"^'lots' is no amount in dollars\.$"):
        ask(max_cost_usd="lots")
    assert is_within(ask, max_cost_usd="0")


@pytest.mark.parametrize("what", WAYS)
def test_epochs_that_a_host_chooses_by_itself_are_under_no_limit(what: str, ft_client: Client) -> None:
    ask = asks(what, hosted(ft_client, hosts.AZURE), "gpt-4.1-mini")
    words = rf"^Azure OpenAI chooses the epochs, .*, so {what} cannot be kept under \$100\. Choose them \(--epochs N\)"
    with pytest.raises(BudgetError, match=words):
        ask(max_cost_usd=100)
    assert is_within(ask)
    assert is_within(ask, max_cost_usd=100, n_epochs=2)
    assert not is_within(ask, max_cost_usd="0.0001", n_epochs=2)


@pytest.mark.parametrize("what", WAYS)
@pytest.mark.parametrize(
    ("host", "model"),
    [
        (hosts.OPENAI, "ft:gpt-4.1-mini-2025-04-14:acme::x"),
        (hosts.OPENAI, "ft:gpt-4.1-mini-2025-04-14:acme:compare-lora:x"),
        (hosts.AZURE, "gpt-4.1-mini-2025-04-14.ft-abc"),
    ],
)
def test_what_goes_on_from_a_tuned_model_has_the_prices_of_its_base(
    what: str, host: Host, model: str, ft_client: Client
) -> None:
    ask = asks(what, hosted(ft_client, host), model)
    assert is_within(ask, max_cost_usd=100, n_epochs=2)
    with pytest.raises(BudgetError, match="may cost up to"):
        ask(max_cost_usd="0.0001", n_epochs=2)
