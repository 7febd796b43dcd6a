"""With what models are asked in a comparison, and what is told of their answers."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ftclient import BudgetError, Client, Dataset, hosts
from ftclient.approaches import LearningCurve, Outcomes, Wishes, compare, learning_curve
from ftclient.cli.main import main
from ftclient.cost.book import PriceBook
from ftclient.evaluate import reasoning
from tests.e2e.serving import simulated_server
from tests.faults.proxy import NO_FAULT, Exchange, Fault, FaultProxy
from tests.unit.approaches.test_approaches import example
from tests.unit.approaches.test_found_again import MODEL, TEST, TRAIN
from tests.unit.evaluate.conftest import ChatHost, refusal
from tests.unit.evaluate.test_reasoning import N, data, host

REASONER, UNNAMED = "o4-mini", "mine"


@pytest.fixture
def openai(chat_host: ChatHost, tmp_path: Path) -> Iterator[Client]:
    """A client that takes the server for OpenAI."""
    with Client.openai(api_key="sk-none", base_url=chat_host.url, home=tmp_path / "openai") as client:
        yield client


@pytest.fixture
def azure(chat_host: ChatHost, tmp_path: Path) -> Iterator[Client]:
    """A client that takes the server for Azure, where names of models say nothing."""
    with Client.at(chat_host.url, host=hosts.AZURE, home=tmp_path / "azure", api_key="sk-none") as client:
        rates = {"input": "1", "output": "1"}
        prices = {"format": 2, "hosts": {"azure": {"models": {UNNAMED: {"base": rates, "tuned": rates}}}}}
        (tmp_path / "prices.json").write_text(json.dumps(prices))
        client.prices = PriceBook.read(tmp_path / "prices.json")
        yield client


def asked(client: Client, model: str, **wishes: Any) -> Outcomes:
    """What comes of asking the base model alone."""
    return compare(client, data(), data(), model=model, wishes=Wishes(approaches=("base",), **wishes))


def accuracy(found: Outcomes) -> float:
    """The share of right answers."""
    return found.outcome("base").figure.value


def shown(found: Outcomes | LearningCurve) -> str:
    """What a terminal shows."""
    console = Console(width=300, file=io.StringIO())
    console.print(found)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]  # it is a StringIO


def longest(chat_host: ChatHost) -> int:
    """How long answers might be, with what is thought before them."""
    return max(int(body.get("max_completion_tokens", 0)) for body in chat_host.asked)


def test_models_that_reason_have_room_for_it(openai: Client, chat_host: ChatHost) -> None:
    chat_host.reply = host(1_000)
    found = asked(openai, REASONER)
    assert (accuracy(found), list(found.comparison.notes)) == (1.0, [])


def test_answers_that_were_cut_off_before_they_began_are_told_by_the_name_of_the_approach(
    openai: Client, chat_host: ChatHost
) -> None:
    chat_host.reply = host(1_000)
    found = asked(openai, REASONER, max_tokens=30)
    assert accuracy(found) == 0.0
    (note,) = found.to_json()["comparison"]["notes"]
    assert note.startswith(f"base model: {N} of {N} answers were cut off before they began")
    assert note in shown(found)
    assert note in found.to_html()


def test_the_room_to_reason_is_in_what_a_limit_is_compared_to(openai: Client, chat_host: ChatHost) -> None:
    chat_host.reply = host(1_000)
    with pytest.raises(BudgetError, match="more than the limit"):
        asked(openai, REASONER, max_cost_usd="0.02")
    assert chat_host.asked == []
    asked(openai, REASONER, max_cost_usd="0.02", max_tokens=30)
    assert longest(chat_host) == 30
    assert accuracy(asked(openai, REASONER, max_cost_usd="2")) == 1.0


def test_under_a_limit_a_model_whose_name_does_not_say_that_it_reasons_has_no_room_for_it(
    azure: Client, chat_host: ChatHost
) -> None:
    chat_host.reply = host(1_000)
    found = asked(azure, UNNAMED, max_cost_usd="0.02")
    assert 0 < longest(chat_host) < reasoning.TOKENS
    assert "cut off before they began" in found.comparison.notes[0]
    assert accuracy(asked(azure, UNNAMED, fresh=True)) == 1.0


def test_answers_of_a_name_that_may_lead_elsewhere_are_told_and_asked_for_again_if_wanted(
    azure: Client, chat_host: ChatHost
) -> None:
    chat_host.reply = lambda _: "praise"
    first, again, fresh = (asked(azure, UNNAMED, **wishes) for wishes in ({}, {}, {"fresh": True}))
    (note,) = again.comparison.notes
    assert note.startswith(f"base model: {N} of {N} answers are of earlier calls, the oldest of 20")
    assert "--fresh" in note
    assert list(first.comparison.notes) == list(fresh.comparison.notes) == []
    assert len(chat_host.asked) == 2 * N


def test_refused_questions_are_told_in_a_terminal_too(openai: Client, chat_host: ChatHost) -> None:
    refused = refusal("Too long.", code="context_length_exceeded")
    chat_host.reply = lambda body: (400, refused) if body["messages"][0]["content"] == "q0" else "praise"
    assert "base model: refused questions count as wrong (1): " in shown(asked(openai, "gpt-4.1"))


def test_the_command_asks_afresh_if_told_so_and_for_answers_of_the_length_that_it_is_told(
    chat_host: ChatHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.setenv("OPENAI_BASE_URL", chat_host.url)
    file, home = str(tmp_path / "data.jsonl"), str(tmp_path / "home")
    data().write(file)
    command = ["ftclient", "compare", file, file, "--model", "gpt-4.1", "--only", "base", "--max-tokens", "33"]
    for more in ((), (), ("--fresh",)):
        monkeypatch.setattr("sys.argv", [*command, *more, "--backend", "openai", "--home", home])
        with pytest.raises(SystemExit) as left:
            main()
        assert not left.value.code
    assert [body["max_tokens"] for body in chat_host.asked] == [33] * 2 * N


def test_a_learning_curve_tells_of_answers_of_earlier_calls(ft_client: Client) -> None:
    client = Client(ft_client.openai, host=hosts.OTHER, home=ft_client.home)
    first, again, fresh = (
        learning_curve(client, TRAIN, TEST, model=MODEL, fractions=(0.5, 1), wishes=Wishes(fresh=is_fresh))
        for is_fresh in (False, False, True)
    )
    assert first.doubts == fresh.doubts == []
    for point, doubt in zip(again.points, again.doubts, strict=True):
        assert doubt.startswith(f"{point.model}: 2 of 2 answers are of earlier calls")
        assert doubt in shown(again)


@pytest.mark.parametrize(("limit", "is_whole"), [(None, True), ("100", False)])
def test_no_answer_to_a_learning_curve_is_longer_than_its_limit_was_counted_with(
    tmp_path: Path, limit: str | None, *, is_whole: bool
) -> None:
    """Models whose names do not say that they reason have room for it only where nobody counts on less."""
    rates = {"input": "1", "output": "1"}
    priced = {MODEL: {"training": {"usd_per_million_tokens": "1"}, "base": rates, "tuned": rates}}
    (tmp_path / "prices.json").write_text(json.dumps({"format": 2, "hosts": {"other": {"models": priced}}}))
    train = Dataset([example(f"question {n}", "many words " * 50) for n in range(30)])
    unfit = json.dumps(refusal("Unsupported.", code="unsupported_parameter", param="max_tokens")).encode()
    faults = iter([Fault(status=400, edit=lambda _: unfit), NO_FAULT] * 2)  # one question to one model after the other

    def choose(exchange: Exchange) -> Fault:
        return next(faults) if exchange.path.endswith("/chat/completions") else NO_FAULT

    with (
        simulated_server(tmp_path / "server") as url,
        FaultProxy(url.removesuffix("/v1"), choose) as proxy,
        Client.at(f"{proxy.url}/v1", host=hosts.OTHER, home=tmp_path / "client", api_key="sk-none") as client,
    ):
        client.prices = PriceBook.read(tmp_path / "prices.json")
        wishes = Wishes(n_epochs=1, max_cost_usd=limit)
        test = Dataset([example("What does a card cost?", "5 euros")])
        learning_curve(client, train, test, model=MODEL, fractions=(0.5, 1), wishes=wishes)
    with closing(sqlite3.connect(tmp_path / "client" / "client.db")) as db:
        answers = [json.loads(text) for (text,) in db.execute("SELECT answer FROM answers")]
    assert len(answers) == 2
    assert {answer["finish_reason"] == "stop" for answer in answers} == {is_whole}
