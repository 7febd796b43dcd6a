"""Answers at hand are told with their day where the name of a model may lead to another one by now."""

from __future__ import annotations

import datetime as dt
import sqlite3
from contextlib import closing

import pytest

from ftclient import Client, Dataset, hosts

N = 5
OLD = dt.datetime(2026, 3, 4, 12, tzinfo=dt.timezone.utc)


def data(n: int = N) -> Dataset:
    return Dataset(
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "new answer"}]}
        for i in range(n)
    )


def client_of(chat_host, tmp_path, host) -> Client:
    return Client.at(chat_host.url, host=host, home=tmp_path / "home", api_key="sk-none")


def make_one_old(tmp_path) -> None:
    with closing(sqlite3.connect(tmp_path / "home" / "client.db")) as db, db:
        key = db.execute("SELECT key FROM answers").fetchone()
        db.execute("UPDATE answers SET asked_at = ? WHERE key = ?", (OLD.timestamp(), *key))


@pytest.mark.parametrize(
    "host",
    [hosts.AZURE, hosts.AZURE_PROJECT, hosts.LOCAL, hosts.OTHER],
    ids=["azure", "azure-project", "somebody-elses", "other"],
)
def test_answers_of_a_name_that_may_lead_elsewhere_are_told_with_their_day(chat_host, tmp_path, host):
    """Deployments are pointed at other models, and other servers started with other weights."""
    chat_host.reply, bills = lambda _: "old answer", []
    with client_of(chat_host, tmp_path, host) as client:
        first = client.evaluate(data(), models=["support"], announce=bills.append)
        make_one_old(tmp_path)
        chat_host.reply = lambda _: "new answer"
        again = client.evaluate(data(), models=["support"], announce=bills.append)
        more = client.evaluate(data(N + 2), models=["support"], announce=bills.append)
        fresh = client.evaluate(data(), models=["support"], fresh=True)
    texts = [bill.text.partition(";")[0].removesuffix(".") for bill in bills]
    assert texts == [
        "5 answers to ask for",
        "All 5 answers are at hand, the oldest of 2026-03-04",
        "2 answers to ask for, 5 at hand, the oldest of 2026-03-04",
    ]
    assert first.notes == fresh.notes == []
    (note,) = again.notes
    assert note == (
        "support: 5 of 5 answers are of earlier calls, the oldest of 2026-03-04. If the name leads to another model "
        "since, ask again: --fresh, or fresh=True."
    )
    assert more.notes[0].startswith("support: 5 of 7 answers")
    assert (again.scores[0].exact_match, fresh.scores[0].exact_match) == (0.0, 1.0)


@pytest.mark.parametrize("host", [hosts.OPENAI, hosts.NEBIUS], ids=["openai", "nebius"])
def test_names_that_stay_what_they_are_need_no_day(chat_host, tmp_path, host):
    bills = []
    with client_of(chat_host, tmp_path, host) as client:
        for _ in range(2):
            found = client.evaluate(data(), models=["support"], announce=bills.append)
    assert (bills[1].text, found.notes) == ("All 5 answers are at hand.", [])


def test_weights_that_are_known_need_no_day(ft_client):
    bills = []
    for _ in range(2):
        found = ft_client.evaluate(data(), models=["smollm2-135m"], announce=bills.append)
    assert (bills[1].text, found.notes) == ("All 5 answers are at hand.", [])
