"""A real server with the simulated engine, and a proxy with faults in front of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ftclient import Client, Dataset, Host, hosts
from tests.faults.proxy import FaultProxy


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`http://127.0.0.1:PORT` of a server process that all tests of this folder share."""
    home = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "local_backend", "serve", "--engine", "simulated", "--runner", "thread"]
    server = subprocess.Popen(
        [*command, "--port", "0", "--home", str(home)], stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert server.stderr is not None
    with server, server.stderr:
        for line in server.stderr:
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                yield found.group()
                break
        server.terminate()
        server.stderr.read()


@pytest.fixture
def proxy(server_url: str) -> Iterator[FaultProxy]:
    """A proxy in front of the server, without faults until a test sets `choose`."""
    with FaultProxy(server_url) as running:
        yield running


@pytest.fixture
def connect(proxy: FaultProxy, tmp_path) -> Iterator:
    """Return a client through the proxy, or at another address; `host` says what it believes about the server."""
    clients = []

    def make(host: Host = hosts.LOCAL, *, url: str | None = None) -> Client:
        clients.append(Client.at(url or proxy.url, api_key="sk-test", host=host, home=tmp_path / "home"))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def data() -> Dataset:
    """Twelve examples, without errors."""
    return Dataset(
        {
            "messages": [
                {"role": "user", "content": f"What is {n} plus one?"},
                {"role": "assistant", "content": f"It is {n + 1}."},
            ]
        }
        for n in range(12)
    )
