"""What an export writes on the server's disk is gone when the client has it, and when the client has gone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import uvicorn

from local_backend.app import create_app
from local_backend.engine.exports import export as exports
from local_backend.settings import Settings
from tests.training.chatty import write_tiny


def wait_until(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_so()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[uvicorn.Server]:
    settings = Settings(home=tmp_path / "home", cache=tmp_path / "cache", engine="torch", allow_local_paths=True)
    running = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    assert wait_until(lambda: running.started)
    yield running
    running.should_exit = True
    thread.join(20)


@contextmanager
def asked_to_export(server: uvicorn.Server, model: Path) -> Iterator[socket.socket]:
    """Ask on a bare connection, which can be closed at any time."""
    address = server.servers[0].sockets[0].getsockname()
    with socket.create_connection(address) as connection:
        path = f"/v1/local/models/{quote(str(model))}/export?format=merged"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        yield connection


def left(home: Path) -> list[Path]:
    return list((home / "server" / "incoming").iterdir())


def test_a_client_that_hangs_up_before_the_export_is_written_leaves_nothing(
    server: uvicorn.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a model whose merging takes minutes."""
    begins, may_write, write, written = threading.Event(), threading.Event(), exports.export, []

    def write_later(*given: Any, **options: Any) -> exports.Exported:
        begins.set()
        assert may_write.wait(20)
        written.append(write(*given, **options))
        return written[0]

    monkeypatch.setattr(exports, "export", write_later)
    with asked_to_export(server, write_tiny(tmp_path / "model")):
        assert begins.wait(20)
    assert wait_until(lambda: not server.server_state.connections)
    may_write.set()
    assert wait_until(lambda: bool(written))
    assert wait_until(lambda: not server.server_state.tasks)
    assert left(tmp_path / "home") == []


@pytest.mark.parametrize("n_bytes", [1, 1 << 30])
def test_nothing_is_left_of_an_export_that_was_read_or_broken_off(
    server: uvicorn.Server, tmp_path: Path, n_bytes: int
) -> None:
    """The beginning of the answer, or all of it."""
    with asked_to_export(server, write_tiny(tmp_path / "model")) as connection, connection.makefile("rb") as answer:
        assert answer.read(n_bytes)
    assert wait_until(lambda: not server.server_state.tasks)
    assert left(tmp_path / "home") == []
