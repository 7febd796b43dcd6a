"""A host on this machine that answers what a test wants, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ftclient import Client, hosts


class HostServer(ThreadingHTTPServer):
    """Answers by path, without the query; anything else is a 404 as OpenAI words it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: HostServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/v1")
        self.server.asked.append(path)
        missing = {"error": {"message": "It does not exist.", "type": "t", "param": None, "code": "model_not_found"}}
        status, answer = self.server.answers.get(path, (404, missing))
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def host_server() -> Iterator[HostServer]:
    with HostServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def hosted(host_server: HostServer, tmp_path: Path) -> Iterator[Client]:
    """A client that takes the server for OpenAI."""
    with Client.openai(api_key="sk-test-0123456789", base_url=host_server.url, home=tmp_path) as client:
        assert client.host is hosts.OPENAI
        yield client
