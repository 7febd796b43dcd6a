"""A stream of files becomes a folder, whole or not at all, and never reaches out of it."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ftclient import BackendError, Client, UnsupportedError, hosts


def archive(*members: tuple[str, bytes | None]) -> bytes:
    """Return a tar of files; without content a member is a link to /etc/passwd."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content or b""))
    return packed.getvalue()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-tar")
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """A server that answers everything with its `body`."""
    with HTTPServer(("127.0.0.1", 0), _Handler) as running:
        running.asked, running.body = [], b""
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def client(server: HTTPServer, tmp_path: Path) -> Iterator[Client]:
    with Client.at(f"http://127.0.0.1:{server.server_port}", home=tmp_path / "home") as made:
        yield made


def test_the_files_arrive_as_they_were_sent(client: Client, server: HTTPServer, tmp_path: Path) -> None:
    weights = bytes(range(256)) * 20_000  # several pieces of the stream
    server.body = archive(("model.safetensors", weights), ("sub/HOW_TO_USE.md", b"read me"))
    files = client.export("ft:smollm2-135m:personal::a1b2c3d4", to=tmp_path / "out", form="merged")
    assert [file.relative_to(tmp_path / "out").as_posix() for file in files] == [
        "model.safetensors",
        "sub/HOW_TO_USE.md",
    ]
    assert files[0].read_bytes() == weights
    assert server.asked == ["/v1/local/models/ft:smollm2-135m:personal::a1b2c3d4/export?format=merged"]


@pytest.mark.parametrize(
    "body",
    [
        archive(("../escaped", b"x")),
        archive(("/tmp/escaped", b"x")),  # noqa: S108 - a name that must be refused
        archive(("good", b"x"), ("link", None)),
        archive(("twice", b"x"))[:700],
        b"this is no archive" * 100,
    ],
)
def test_what_is_unsafe_or_damaged_leaves_nothing_behind(
    client: Client, server: HTTPServer, tmp_path: Path, body: bytes
) -> None:
    server.body = body
    with pytest.raises(BackendError):
        client.export("m", to=tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []
    assert not (tmp_path / "escaped").exists()


def test_a_folder_with_something_in_it_is_left_alone(client: Client, server: HTTPServer, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match="Choose a new folder"):
        client.export("m", to=tmp_path)
    assert server.asked == []


def test_hosts_that_give_no_weights_away_are_not_even_asked(server: HTTPServer, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server.server_port}/v1"
    with Client.at(url, api_key="k", host=hosts.OPENAI, home=tmp_path) as client, pytest.raises(UnsupportedError):
        client.export("ft:gpt-4o-mini:acme::a1b2c3d4", to=tmp_path / "out")
    assert server.asked == []
