"""One suite, several places: see `places`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract import places

SIMULATED = ("in-process", "in-process-async", "http")
FINAL = ("succeeded", "failed", "cancelled", "paused")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests run at every place that trains nothing; the journey runs with the real engine too."""
    if "place" not in metafunc.fixturenames:
        return
    chosen: list[Any] = list(SIMULATED)
    if metafunc.definition.get_closest_marker("real_engine_too"):
        chosen.append("http-async")
        chosen.append(pytest.param("http-torch", marks=pytest.mark.slow))
        if os.environ.get("FTCLIENT_CONTRACT_HOSTED"):
            chosen.append("hosted")
    if metafunc.definition.get_closest_marker("real_engine_only"):
        chosen = [pytest.param("http-torch", marks=pytest.mark.slow)]
    metafunc.parametrize("place", chosen, indirect=True, scope="session")


@pytest.fixture(scope="session")
def simulated_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the simulated engine that all tests share."""
    with places.server(tmp_path_factory.mktemp("http")) as url:
        yield url


@pytest.fixture(scope="session")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An official client, synchronous or called as if it were."""
    name = request.param
    is_async = name.endswith("-async")
    if name.startswith("in-process"):
        manager = places.in_this_process(tmp_path_factory.mktemp("in-process"), asynchronous=is_async)
    elif name == "http-torch":
        with places.server(tmp_path_factory.mktemp("torch"), engine="torch") as url, places.behind_http(url) as client:
            yield client
        return
    elif name == "hosted":
        manager = places.hosted()
    else:
        manager = places.behind_http(request.getfixturevalue("simulated_url"), asynchronous=is_async)
    with manager as client:
        yield client


@pytest.fixture
def api(place: Any) -> Any:
    """The client under test."""
    return place


def examples(n: int, *, offset: int = 0) -> bytes:
    """A training file of n short conversations."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Where is parcel {i}?"},
                {"role": "assistant", "content": f"Parcel {i} is in hall {i % 7}, on shelf {i % 3}."},
            ]
        }
        for i in range(offset, offset + n)
    ]
    return jsonl(rows)


def preferences(n: int) -> bytes:
    """A preference file of n pairs."""
    rows = [
        {
            "input": {"messages": [{"role": "user", "content": f"Greet guest {i}."}]},
            "preferred_output": [{"role": "assistant", "content": f"Welcome, guest {i}."}],
            "non_preferred_output": [{"role": "assistant", "content": "What?"}],
        }
        for i in range(n)
    ]
    return jsonl(rows)


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def upload(api: Any) -> Callable[..., str]:
    """Upload bytes as a training file; returns its id."""

    def send(data: bytes, name: str = "train.jsonl") -> str:
        return str(api.files.create(file=(name, data), purpose="fine-tune").id)

    return send


@pytest.fixture
def train(api: Any, upload: Callable[..., str]) -> Callable[..., Any]:
    """Create a job on twelve examples, of one epoch unless said otherwise, and wait for its end; returns the job."""

    def run(**options: Any) -> Any:
        given = {"model": "smollm2-135m", **options}
        if "method" not in given:
            given.setdefault("hyperparameters", {"n_epochs": 1})
        if "training_file" not in given:
            given["training_file"] = upload(examples(12))
        return wait(api, api.fine_tuning.jobs.create(**given).id)

    return run


def wait(api: Any, job_id: str, *, until: tuple[str, ...] = FINAL, within_s: float = 60.0) -> Any:
    """Poll a job until it has one of the statuses."""
    deadline = time.monotonic() + within_s
    while True:
        job = api.fine_tuning.jobs.retrieve(job_id)
        if job.status in until:
            return job
        assert time.monotonic() < deadline, f"{job_id} is still {job.status}"
        time.sleep(0.02)


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers that this folder uses."""
    config.addinivalue_line("markers", "real_engine_too: also runs with torch, and hosted where that is asked for")
    config.addinivalue_line("markers", "real_engine_only: runs with torch alone")
