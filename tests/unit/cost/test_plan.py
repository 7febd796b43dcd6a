"""Epochs, prices and plans, with the arithmetic of the published rules."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ftclient import BudgetError, Client, Dataset, Host, Supervised, hosts
from ftclient.cost.epochs import n_steps, resolve_epochs
from ftclient.cost.planned import hosted_plan
from ftclient.cost.prices import last_day_to_start, shutdown_of, training_price
from ftclient.cost.tokens import check_and_count
from ftclient.jobs.request import JobRequest


def example(number: int) -> dict[str, object]:
    return {
        "messages": [
            {"role": "user", "content": f"What is {number} plus one?"},
            {"role": "assistant", "content": f"It is {number + 1}."},
        ]
    }


@pytest.mark.parametrize(
    ("n_examples", "n_epochs", "words"),
    [
        (10, 10, "10 examples: 10 x 3 is under 100, so 100 // 10 = 10 epochs"),
        (21, 4, "21 examples: 21 x 3 is under 100, so 100 // 21 = 4 epochs"),
        (100, 3, "100 examples: 100 x 3 lies between 100 and 25,000, so 3 epochs"),
        (101, 3, "101 examples: 101 x 3 lies between 100 and 25,000, so 3 epochs"),
        (2, 25, "2 examples: 2 x 3 is under 100, so 100 // 2, at most 25 = 25 epochs"),
        (10_000, 2, "10,000 examples: 10,000 x 3 is over 25,000, so 25,000 // 10,000 = 2 epochs"),
        (60_000, 1, "60,000 examples: 60,000 x 3 is over 25,000, so 25,000 // 60,000, at least 1 = 1 epoch"),
    ],
)
def test_auto_epochs_follow_the_published_rule_and_explain_it(n_examples: int, n_epochs: int, words: str) -> None:
    """10, 100 and 101 examples are published jobs: they ran 10, 3 and 3 epochs."""
    assert resolve_epochs("auto", n_examples=n_examples) == (n_epochs, words)


def test_epochs_that_were_asked_for_stand() -> None:
    assert resolve_epochs(5, n_examples=10) == (5, "5 epochs, as asked for")
    assert resolve_epochs(1, n_examples=10) == (1, "1 epoch, as asked for")


def test_steps_round_up_within_an_epoch() -> None:
    assert n_steps(101, batch_size=2, n_epochs=3) == 153


@pytest.mark.parametrize(
    "model", ["gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", "ft:gpt-4.1-mini-2025-04-14:acme::abcd1234"]
)
def test_a_price_is_found_by_alias_snapshot_and_tuned_name(model: str) -> None:
    price = training_price(hosts.OPENAI, model)
    assert price is not None
    assert price.usd_per_million_tokens == Decimal("5.00")
    assert price.as_of < "2027"
    assert price.source.startswith("https://")


def test_what_is_not_in_the_table_is_unknown_and_not_free() -> None:
    assert training_price(hosts.OPENAI, "gpt-9") is None
    assert training_price(hosts.OPENAI, "o4-mini") is None  # by the hour
    assert training_price(hosts.NEBIUS, "gpt-4.1-mini") is None


def test_dates_of_the_end_are_known() -> None:
    assert last_day_to_start(hosts.OPENAI) == "2027-01-06"
    assert shutdown_of(hosts.OPENAI, "gpt-4o-mini") == "2027-01-14"
    assert last_day_to_start(hosts.LOCAL) is None


def plan(host: Host, model: str, n: int = 12):
    data = Dataset(map(example, range(n)))
    request = JobRequest(model=model, train=data, method=Supervised(n_epochs=2))
    return hosted_plan(request, host, check_and_count(data, host, model=model))


def test_cost_is_price_times_tokens_times_epochs_exactly() -> None:
    made = plan(hosts.OPENAI, "gpt-4.1-mini")
    found = made.to_json()
    assert found["billed_tokens"] == found["tokens_per_epoch"] * 2
    assert Decimal(found["cost_usd"]) == Decimal(5) * found["billed_tokens"] / 1_000_000
    assert list(found)[:11] == [
        "n_examples",
        "n_epochs",
        "epochs_rule",
        "tokens_per_epoch",
        "loss_tokens_per_epoch",
        "billed_tokens",
        "price",
        "cost_usd",
        "time_s",
        "memory_bytes",
        "warnings",
    ]
    assert {note["code"] for note in found["warnings"]} == {"training_closing", "model_shutdown", "use_local"}


def test_examples_beyond_the_context_are_billed_up_to_it() -> None:
    from dataclasses import replace

    short = replace(hosts.OPENAI, limits=replace(hosts.OPENAI.limits, context_tokens=15))
    whole, cut = plan(hosts.OPENAI, "gpt-4.1-mini"), plan(short, "gpt-4.1-mini")
    assert whole.tokens.per_epoch > 12 * 15
    assert cut.tokens.per_epoch == 12 * 15
    assert cut.tokens.loss_per_epoch < whole.tokens.loss_per_epoch
    assert "too_long" in {note.code for note in cut.warnings}


def test_models_of_unknown_makers_are_counted_as_an_estimate() -> None:
    made = plan(hosts.OTHER, "some-model")
    assert made.tokens.per_epoch == plan(hosts.OPENAI, "gpt-4.1-mini").tokens.per_epoch
    assert "tokens_estimated" in {note.code for note in made.warnings}


def test_a_budget_is_compared_exactly() -> None:
    made = plan(hosts.OPENAI, "gpt-4.1-mini")
    assert made.cost_usd is not None
    made.check_budget(made.cost_usd)
    with pytest.raises(BudgetError, match="more than the limit"):
        made.check_budget(made.cost_usd - Decimal("0.0000001"))
    with pytest.raises(BudgetError):
        made.check_budget(0)


def test_a_budget_with_an_unknown_price_is_refused() -> None:
    made = plan(hosts.OTHER, "some-model")
    assert made.to_json()["cost_usd"] is None
    assert "price_unknown" in {note.code for note in made.warnings}
    with pytest.raises(BudgetError, match="not known"):
        made.check_budget(1000)


def test_a_plan_is_given_when_the_host_cannot_be_reached(tmp_path) -> None:
    client = Client.openai(api_key="sk-test", base_url="http://127.0.0.1:9/v1", home=tmp_path)
    made = client.plan(Dataset(map(example, range(12))), model="gpt-4.1-mini")
    assert made.cost_usd is not None
    assert "access_unknown" in {note.code for note in made.warnings}


def test_a_plan_of_the_local_backend_counts_with_the_backend_and_charges_nothing(ft_client) -> None:
    made = ft_client.plan(Dataset(map(example, range(21))), model="smollm2-135m")
    found = made.to_json()
    assert found["n_epochs"] == 4
    assert found["epochs_rule"] == "21 examples: 21 x 3 is under 100, so 100 // 21 = 4 epochs"
    assert found["cost_usd"] is None
    assert found["time_s"] is not None
    assert not any(note["code"] == "price_unknown" for note in found["warnings"])
    made.check_budget(0)


def test_a_plan_says_the_arithmetic_to_people() -> None:
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), width=100)
    made = plan(hosts.OPENAI, "gpt-4.1-mini")
    console.print(made)
    text = console.file.getvalue()
    assert f"{made.billed_tokens:,} tokens x $5.00 a million" in text
    assert "2027-01-14" in text
