"""A key and a sentence of the training data are planted, and looked for in everything that is written or raised."""

from __future__ import annotations

import logging
import pickle
import sqlite3
import traceback
from pathlib import Path

import pytest

from ftclient import Client, DataError, Dataset, FtclientError, LocalOptions, Simulate, Supervised, hosts
from tests.e2e.serving import simulated_server
from tests.faults.proxy import Fault, FaultProxy

KEY = "sk-canary-7Qm2xV9pL4"
SENTENCE = (
    "The heron keeps the brass key of the winter pantry under the third flat stone behind the old mill, and only the "
    "youngest of the ferrymen has ever been told about it by anybody"
)


def examples(n: int = 12) -> list[dict[str, object]]:
    return [
        {"messages": [{"role": "user", "content": f"Where, {i}?"}, {"role": "assistant", "content": f"{SENTENCE} {i}"}]}
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with simulated_server(tmp_path_factory.mktemp("server")) as url:
        yield url.removesuffix("/v1")


def journal_text(home: Path) -> str:
    """Return all that the journal holds, as SQL."""
    db = sqlite3.connect(home / "client.db")
    try:
        return "\n".join(db.iterdump())
    finally:
        db.close()


def told(error: BaseException) -> str:
    """Return everything that an error shows: its text, its traceback with causes, and its pickled form."""
    shown = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
    if isinstance(error, FtclientError):
        shown += pickle.dumps(error.with_traceback(None)).decode("latin-1")
    return shown


def with_key(status: int) -> Fault:
    """Hosts repeat a wrong key in their answer; the proxy does so with the whole key."""
    body = f'{{"error": {{"message": "Incorrect API key provided: {KEY}.", "code": "invalid_api_key"}}}}'.encode()
    return Fault(edit=lambda _: body, status=status)


@pytest.mark.parametrize("host", [hosts.LOCAL, hosts.Host(name="other", title="the host")])
def test_neither_key_nor_training_text_is_written_or_raised(server: str, tmp_path: Path, caplog, host) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("openai").setLevel(logging.NOTSET)
    errors: list[BaseException] = []
    broken = Dataset([*examples(), {"messages": [{"role": "user", "content": SENTENCE}]}])
    with FaultProxy(server) as proxy, Client.at(proxy.url, api_key=KEY, host=host, home=tmp_path) as client:
        local = LocalOptions(simulate=Simulate(speed="immediate", fail_at_step=3)) if host.is_local else None
        plan = client.plan(Dataset(examples()), model="smollm2-135m", method=Supervised(n_epochs=1), local=local)
        job = client.train(plan)
        attempts = [
            lambda: client.plan(broken, model="smollm2-135m"),
            lambda: client.job("ftjob-nonesuch"),
            lambda: client.chat("nonesuch", SENTENCE),
            lambda: client.openai.fine_tuning.jobs.create(model="nonesuch", training_file="file-nonesuch"),
        ]
        if host.is_local:
            attempts.append(lambda: job.wait(timeout_s=60))
        else:
            job.wait(timeout_s=60)
        faulty = [Fault(status=503), Fault(drop_after=True), Fault(keep_bytes=5), Fault(status=429)]
        faulty += [with_key(status) for status in (400, 401, 403, 500)]
        errors += [caught(attempt) for attempt in attempts]
        client.openai.max_retries = 0
        for fault in faulty:
            proxy.choose = lambda _, fault=fault: fault
            errors += [caught(lambda: client.chat("smollm2-135m", SENTENCE)), caught(client.models)]
        shown = [repr(client), repr(plan), repr(job), repr(client.openai), str(plan.to_json()), repr(broken)]
    shown += [told(error) for error in errors]
    assert len(errors) == len(attempts) + 2 * len(faulty)
    assert any(isinstance(error, DataError) for error in errors)
    everywhere = {"errors": "\n".join(shown), "journal": journal_text(tmp_path), "log": caplog.text}
    for where, text in everywhere.items():
        assert KEY not in text, where
        assert SENTENCE[:81] not in text, f"{where}: {text[max(0, text.index(SENTENCE[:81]) - 1500) :][:1700]}"


def caught(call) -> BaseException:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever it is, it is looked through
        call()
    return raised.value
