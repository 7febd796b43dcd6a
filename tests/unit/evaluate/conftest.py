"""A host on this machine whose models answer what a test wants, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from ftclient import Client
from tests.unit.json_host import JsonHandler, JsonHost

Reply = str | dict[str, Any] | tuple[int, dict[str, Any]]
"""A text, a message with `finish_reason` and `usage` beside its fields, or a status with the whole body."""


class ChatHost(JsonHost):
    """Answers chat completions by `reply`, which is given the body; knows no other paths."""

    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.reply: Callable[[dict[str, Any]], Reply] = lambda body: f"I am {body['model']}"
        self.asked: list[dict[str, Any]] = []

    def n_asked(self, model: str) -> int:
        return sum(body["model"] == model for body in self.asked)


class _Handler(JsonHandler, BaseHTTPRequestHandler):  # named for the linter, which knows its methods
    server: ChatHost

    def do_GET(self) -> None:
        self.send_json(404, refusal("It does not exist.", code=None))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        found = self.server.reply(body)
        status, answer = found if isinstance(found, tuple) else (200, _completion(body, found))
        self.send_json(status, answer)


def refusal(message: str, *, code: str | None, param: str | None = None) -> dict[str, Any]:
    """The body of a refusal in OpenAI's shape."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def _completion(body: dict[str, Any], found: str | dict[str, Any]) -> dict[str, Any]:
    message = {"content": found} if isinstance(found, str) else dict(found)
    choice = {"index": 0, "finish_reason": message.pop("finish_reason", "stop")}
    usage = message.pop("usage", {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15})
    choice["message"] = {"role": "assistant", "content": None, **message}
    said = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"]}
    return {**said, "choices": [choice], "usage": usage}


@pytest.fixture
def chat_host() -> Iterator[ChatHost]:
    server = ChatHost()
    with server.running():
        yield server


@pytest.fixture
def hosted(chat_host: ChatHost, tmp_path: Path) -> Iterator[Client]:
    """A client that takes the server for OpenAI."""
    with Client.openai(api_key="sk-test-0123456789", base_url=chat_host.url, home=tmp_path) as client:
        yield client
