"""A host on this machine that answers what a test wants, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from ftclient import Client, hosts
from tests.unit.json_host import JsonHandler, JsonHost


class HostServer(JsonHost):
    """Answers by path, without the query; anything else is a 404 as OpenAI words it."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[str] = []


class _Handler(JsonHandler, BaseHTTPRequestHandler):  # named for the linter, which knows its methods
    server: HostServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/v1")
        self.server.asked.append(path)
        missing = {"error": {"message": "It does not exist.", "type": "t", "param": None, "code": "model_not_found"}}
        self.send_json(*self.server.answers.get(path, (404, missing)))


@pytest.fixture
def host_server() -> Iterator[HostServer]:
    server = HostServer()
    with server.running():
        yield server


@pytest.fixture
def hosted(host_server: HostServer, tmp_path: Path) -> Iterator[Client]:
    """A client that takes the server for OpenAI."""
    with Client.openai(api_key="sk-test-0123456789", base_url=host_server.url, home=tmp_path) as client:
        assert client.host is hosts.OPENAI
        yield client
