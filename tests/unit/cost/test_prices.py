"""The book of prices: its data, and files of the user's own over it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from ftclient import Client, DataError, hosts
from ftclient.cost.book import PriceBook, shipped
from ftclient.cost.prices import base_of, chat_price, dates_of, hourly_price_usd, training_price, why_no_price

LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct"


def own_file(folder: Path, models: dict[str, object], *, host: str = "nebius", **more: object) -> Path:
    path = folder / "prices.json"
    path.write_text(json.dumps({"format": 2, "hosts": {host: {"models": models, **more}}}))
    return path


def test_every_known_host_is_in_the_book() -> None:
    assert {host.name for host in hosts.KNOWN} == set(shipped().hosts)


@pytest.mark.parametrize("group", ["training", "tuned", "base", "hosting"])
def test_every_price_has_a_source_with_a_day_or_a_reason_why_there_is_none(group: str) -> None:
    for host in shipped().hosts.values():
        for name, model in host.models.items():
            entry = getattr(model, group)
            found = shipped().source_of(entry)
            assert found, name
            assert found.url.startswith("https://"), name
            amounts = entry.model_dump(exclude={"unknown", "note", "source"}, exclude_none=True)
            assert bool(amounts) != bool(entry.unknown), name


def test_dates_have_sources_and_names_are_unique() -> None:
    shipped().check_sources("prices.json")
    for host in shipped().hosts.values():
        names = [name for model, prices in host.models.items() for name in (model, *prices.aliases)]
        assert len(names) == len(set(names))
        assert all(model.dates.source or not model.dates.model_fields_set for model in host.models.values())


def test_no_price_of_training_is_zero() -> None:
    """What is not known is None: a zero would be an offer."""
    for host in shipped().hosts.values():
        for model in host.models.values():
            assert model.training.usd_per_million_tokens != 0
            assert model.training.usd_per_hour != 0


def test_reinforcement_has_a_price_by_the_hour() -> None:
    assert hourly_price_usd(hosts.OPENAI, "o4-mini") == Decimal(100)
    assert training_price(hosts.OPENAI, "o4-mini") is None


def test_azure_charges_hosting_and_ends_later_than_openai() -> None:
    model = shipped().host("azure").models["gpt-4.1-mini-2025-04-14"]
    assert model.hosting.usd_per_hour == Decimal("1.70")
    assert dates_of(hosts.AZURE, "gpt-4.1-mini").shutdown == "2027-10-14"
    assert dates_of(hosts.OPENAI, "gpt-4.1-mini").shutdown == "2027-01-14"
    assert dates_of(hosts.OPENAI, "gpt-4.1-mini").last_training_day == "2027-01-06"  # the service's, as it has no own


def test_the_base_of_a_tuned_name_is_found_in_both_forms() -> None:
    assert base_of("ft:gpt-4o-mini-2024-07-18:acme::a1b2c3d4") == "gpt-4o-mini-2024-07-18"
    assert base_of("gpt-4.1-mini-2025-04-14.ft-0123abcd-mine") == "gpt-4.1-mini-2025-04-14"
    assert base_of("meta-llama/Llama-3.3-70B-Instruct") == "meta-llama/Llama-3.3-70B-Instruct"


def test_a_reason_stands_in_for_a_price_that_is_not_known() -> None:
    assert "console" in why_no_price(hosts.NEBIUS, LLAMA)
    assert "not in the book" in why_no_price(hosts.NEBIUS, "gpt-9")


def test_own_prices_are_laid_over_those_of_the_package(tmp_path: Path) -> None:
    path = own_file(tmp_path, {LLAMA: {"training": {"usd_per_million_tokens": "0.40"}}}, minimum_usd_per_job="4")
    book = PriceBook.read(path)
    price = training_price(hosts.NEBIUS, LLAMA, book=book)
    assert price is not None
    assert (price.usd_per_million_tokens, price.source) == (Decimal("0.40"), str(path))
    assert price.as_of.startswith("20")
    assert price.cost_usd(1_000_000) == 4  # the least that a job costs
    assert price.cost_usd(100_000_000) == 40
    assert training_price(hosts.OPENAI, "gpt-4.1-mini", book=book) == training_price(hosts.OPENAI, "gpt-4.1-mini")
    assert training_price(hosts.NEBIUS, LLAMA) is None


def test_an_alias_in_ones_own_file_means_the_same_model_and_leaves_the_rest(tmp_path: Path) -> None:
    path = own_file(tmp_path, {"gpt-4.1-mini": {"training": {"usd_per_million_tokens": "6"}}}, host="openai")
    book = PriceBook.read(path)
    price = training_price(hosts.OPENAI, "gpt-4.1-mini-2025-04-14", book=book)
    assert price is not None
    assert price.usd_per_million_tokens == 6
    assert chat_price(hosts.OPENAI, "gpt-4.1-mini", book=book) == chat_price(hosts.OPENAI, "gpt-4.1-mini")


def test_the_environment_names_a_file_for_every_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = own_file(tmp_path, {LLAMA: {"training": {"usd_per_million_tokens": 0.4}}})
    monkeypatch.setenv("FTCLIENT_PRICES", str(path))
    assert training_price(hosts.NEBIUS, LLAMA) is not None
    client = Client.at("https://api.tokenfactory.nebius.com/v1/", api_key="none", home=tmp_path)
    assert training_price(client.host, LLAMA, book=client.prices) is not None
    client.prices = shipped()
    assert training_price(client.host, LLAMA, book=client.prices) is None


def test_a_client_takes_a_file_of_prices(tmp_path: Path) -> None:
    import openai

    path = own_file(tmp_path, {LLAMA: {"training": {"usd_per_million_tokens": "0.4"}}})
    client = Client(openai.OpenAI(api_key="none"), host=hosts.NEBIUS, home=tmp_path, prices=path)
    assert training_price(client.host, LLAMA, book=client.prices) is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "no JSON"),
        ('{"hosts": {}}', '"format": 2'),
        ('{"format": 1, "hosts": {}}', '"format": 2'),
        (
            '{"format": 2, "hosts": {"openai": {"models": {"m": {"training": {"usd": 1}}}}}}',
            "models > m > training > usd",
        ),
        (
            '{"format": 2, "hosts": {"openai": {"models": {"m": {"training": {"usd_per_million_tokens": "-1"}}}}}}',
            "usd_per_million_tokens: .*greater than or equal to 0",
        ),
        (
            '{"format": 2, "hosts": {"openai": {"models": {"m": {"training": {"usd_per_million_tokens": "NaN"}}}}}}',
            "usd_per_million_tokens",
        ),
        ('{"format": 2, "hosts": {"openai": {"models": {"m": {"dates": {"shutdown": "soon"}}}}}}', "dates > shutdown"),
        (
            '{"format": 2, "hosts": {"openai": {"models": {"m": {"base": {"input": "1", "source": "me"}}}}}}',
            "no source 'me'",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_field(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        PriceBook.read(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json cannot be read"):
        PriceBook.read(tmp_path / "nowhere.json")
