"""The same job at every host and model that could run it."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from ftclient import DPO, Dataset, Supervised, hosts
from ftclient.cost.book import PriceBook, shipped
from ftclient.cost.offers import Offers, compare_offers
from tests.unit.cost.test_prices import LLAMA, own_file

DAY = "2026-11-24"
"""The day on which these tests take place, before the end of some models and after that of others."""
PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


def example(number: int, *, content: object = None) -> dict[str, object]:
    return {
        "messages": [
            {"role": "user", "content": content or f"What is {number} plus one?"},
            {"role": "assistant", "content": f"It is {number + 1}."},
        ]
    }


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset(map(example, range(100)))


@pytest.fixture(scope="module")
def offers(data: Dataset) -> Offers:
    return compare_offers(data, method=Supervised(n_epochs=3), calls_per_day=1000, shots=5, book=shipped(), day=DAY)


def test_the_users_own_machine_comes_first_and_costs_nothing(offers: Offers) -> None:
    first = offers.offers[0]
    assert first.host is hosts.LOCAL
    assert first.first_month_usd == 0


def test_offers_are_sorted_by_the_first_month_with_unknown_ones_last(offers: Offers) -> None:
    months = [offer.first_month_usd for offer in offers.offers]
    known = [month for month in months if month is not None]
    assert known == sorted(known)
    assert months[: len(known)] == known
    assert None in months


def test_costs_are_those_of_a_plan(offers: Offers) -> None:
    mini = next(each for each in offers.offers if each.host is hosts.OPENAI and each.model.startswith("gpt-4.1-mini"))
    assert mini.billed_tokens is not None
    assert mini.training_usd == Decimal(5) * mini.billed_tokens / 1_000_000
    assert mini.shutdown == "2027-01-14"
    assert any("2026-05-07" in note for note in mini.notes)


def test_models_that_are_gone_or_tuned_otherwise_are_left_out_with_the_reason(offers: Offers) -> None:
    reasons = {(host, model): reason for host, model, reason in offers.left_out}
    assert reasons["openai", "gpt-3.5-turbo-0125"] == "shut down on 2026-10-23"
    assert reasons["openai", "davinci-002"] == "tuned by completions only"
    assert reasons["azure", "o4-mini-2025-04-16"] == "tuned by reinforcement only"


def test_what_has_ended_by_the_day_is_left_out(data: Dataset) -> None:
    found = compare_offers(data, book=shipped(), day="2027-01-07")
    assert not any(offer.host is hosts.OPENAI for offer in found.offers)
    reasons = {(host, model): reason for host, model, reason in found.left_out}
    assert reasons["openai", "gpt-4o-2024-08-06"] == "no jobs are started since 2027-01-06"


def test_preference_pairs_go_only_where_they_can_be_trained() -> None:
    pairs = Dataset(
        {
            "input": {"messages": [{"role": "user", "content": f"{n}?"}]},
            "preferred_output": [{"role": "assistant", "content": f"It is {n}."}],
            "non_preferred_output": [{"role": "assistant", "content": "No."}],
        }
        for n in range(12)
    )
    found = compare_offers(pairs, method=DPO(), book=shipped(), day=DAY)
    assert {offer.host.name for offer in found.offers} == {"openai", "azure", "local"}
    assert not any(offer.model.startswith("gpt-4o-mini") for offer in found.offers if offer.host is hosts.AZURE)


def test_images_go_only_where_they_are_seen() -> None:
    seen = [{"type": "image_url", "image_url": {"url": PNG}}]
    found = compare_offers(Dataset(example(n, content=seen) for n in range(12)), book=shipped(), day=DAY)
    hosted = {(offer.host.name, offer.model) for offer in found.offers if not offer.host.is_local}
    assert ("openai", "gpt-4o-2024-08-06") in hosted
    assert ("openai", "gpt-4.1-2025-04-14") not in hosted
    assert ("openai", "gpt-4.1-2025-04-14", "takes no images") in found.left_out


def test_data_with_errors_is_refused_everywhere_with_an_example() -> None:
    found = compare_offers(Dataset([*map(example, range(12)), {"messages": []}]), book=shipped(), day=DAY)
    assert found.offers == []
    assert (
        "openai",
        "gpt-4.1-2025-04-14",
        "the data has 1 error by its rules, such as empty_messages",
    ) in found.left_out


def test_hosts_of_ones_own_book_are_compared_too(data: Dataset, tmp_path: Path) -> None:
    model = {"training": {"usd_per_million_tokens": "0.48"}}
    found = compare_offers(data, book=PriceBook.read(own_file(tmp_path, {LLAMA: model}, host="elsewhere")))
    assert any(offer.host.name == "elsewhere" and offer.training_usd for offer in found.offers)


def test_offers_are_one_table_with_footnotes(offers: Offers) -> None:
    console = Console(file=io.StringIO(), width=140)
    console.print(offers)
    text = console.file.getvalue()
    assert "smollm2-135m" in text
    assert "Left out, shut down on 2026-10-23: gpt-4.1-nano-2025-04-14 (openai)" in text
    assert text.count("Tokens are estimated by o200k.") == 1


def test_offers_fit_a_terminal_of_80_columns(offers: Offers) -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(offers)
    text = console.file.getvalue()
    assert "…" not in text
    assert "gpt-4.1-mini-2025-04-14" in text


def test_offers_without_traffic_have_no_month(data: Dataset) -> None:
    found = compare_offers(data, book=shipped()).to_json()
    assert all(offer["use"] is None for offer in found["offers"])
    assert found["offers"][0]["host"] == "local"
