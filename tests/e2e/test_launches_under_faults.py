"""One job a launch and each event once, though the line fails and processes are killed again and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.serving import simulated_server
from tests.faults.following import differing, follow_under_faults
from tests.faults.launching import Count, launch_under_faults


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with simulated_server(tmp_path_factory.mktemp("server")) as url:
        yield url.removesuffix("/v1")


def disturbed(count: Count) -> None:
    """The run was one: something was killed, and something failed."""
    assert count.n_kills > 0
    assert count.n_faults > count.n_requests / 10


@pytest.mark.slow
def test_each_launch_is_one_job_where_the_key_is_honoured(server: str, tmp_path: Path) -> None:
    count = launch_under_faults(server, tmp_path / "honoured", host="local", n=30, seed=3, rate=0.25)
    disturbed(count)
    assert set(count.jobs_of.values()) == {1}
    assert len(count.jobs_of) == count.n_launches
    assert count.unknown == set()
    assert set(count.known.values()) == count.job_ids


@pytest.mark.slow
@pytest.mark.parametrize("host", ["other", "local"])
def test_without_the_key_there_is_never_more_than_one_and_the_missing_are_named(
    server: str, tmp_path: Path, host: str
) -> None:
    """At a host that does not know the key, and at one that would if a proxy did not take it off."""
    key = frozenset({"idempotency-key"})
    count = launch_under_faults(server, tmp_path / f"stripped-{host}", host=host, n=15, seed=4, rate=0.25, strip=key)
    disturbed(count)
    assert set(count.jobs_of.values()) == {1}
    assert count.unknown.isdisjoint(count.jobs_of)
    assert len(count.jobs_of) + len(count.unknown) == count.n_launches
    assert set(count.known.values()) == count.job_ids


def test_followers_that_are_started_again_and_again_tell_the_servers_list(server: str, tmp_path: Path) -> None:
    found = follow_under_faults(server, tmp_path, n_jobs=4, seed=1, rate=0.25)
    assert differing(found) == 0
    assert all(len(theirs) > 40 for _, theirs in found)
