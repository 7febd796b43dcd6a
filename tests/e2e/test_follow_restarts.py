"""A follower outlives the server it follows."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from ftclient import Client, LocalOptions, Simulate, Supervised, hosts
from tests.e2e.serving import simulated_server
from tests.faults.following import listed
from tests.faults.launching import MODEL, examples
from tests.faults.proxy import FaultProxy


def test_events_come_once_and_in_order_though_the_server_is_restarted_in_mid_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One address, two servers one after the other on the same home; in between there is nobody."""
    monkeypatch.setattr("ftclient.jobs.follow.Pace.after", lambda _self, *, news: 0.05 if news else 0.1)
    local = LocalOptions(simulate=Simulate(speed="timed", seconds_per_step=0.05))
    told: list[str] = []
    missed = 0
    with ExitStack() as first, ExitStack() as second, FaultProxy("http://127.0.0.1:9") as proxy:
        proxy.upstream = first.enter_context(simulated_server(tmp_path / "server")).removesuffix("/v1")
        client = second.enter_context(Client.at(proxy.url, host=hosts.LOCAL, home=tmp_path / "home"))
        method = Supervised(n_epochs=3, batch_size=1)
        job = client.train(client.plan(examples(), model=MODEL, method=method, local=local))
        client.openai.max_retries = 0
        for poll in job.polls():
            told += [event.id for event in poll.events]
            missed += poll.job is None
            if missed == 0 and len(told) > 8:
                first.close()
            if missed == 3:
                proxy.upstream = second.enter_context(simulated_server(tmp_path / "server")).removesuffix("/v1")
        assert poll.job.status == "succeeded"
        assert told == listed(client.openai, job.id)
    assert missed >= 3
    assert len(told) > 40
