"""The fault proxy does what it says, shown with a real server behind it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

from tests.faults.proxy import Fault, FaultProxy, random_faults


class Counting(BaseHTTPRequestHandler):
    """Counts what reaches the server and answers with a small list."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        answer = b'{"object": "list", "data": [1, 2, 3]}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    Counting.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with FaultProxy(f"http://127.0.0.1:{server.server_address[1]}") as running:
        yield running
    server.shutdown()
    server.server_close()


def test_without_a_fault_an_exchange_passes_unchanged(proxy: FaultProxy) -> None:
    with httpx2.Client() as client:
        for _ in range(3):
            answer = client.post(f"{proxy.url}/v1/x?a=1", content=b"body", headers={"x-kept": "yes"})
            assert answer.json()["data"] == [1, 2, 3]
    path, headers, body = Counting.seen[-1]
    assert (path, headers["x-kept"], body) == ("/v1/x?a=1", "yes", b"body")
    assert len(Counting.seen) == 3


@pytest.mark.parametrize(
    ("fault", "n_arrived"),
    [
        (Fault(drop_before=True), 0),
        (Fault(drop_after=True), 1),
        (Fault(keep_bytes=5), 1),
    ],
)
def test_a_lost_answer_is_an_error_to_the_client_whether_or_not_the_server_acted(
    proxy: FaultProxy, fault: Fault, n_arrived: int
) -> None:
    proxy.choose = lambda _: fault
    with httpx2.Client() as client, pytest.raises(httpx2.TransportError):
        client.post(proxy.url, content=b"x")
    assert len(Counting.seen) == n_arrived


def test_it_answers_in_the_servers_place(proxy: FaultProxy) -> None:
    proxy.choose = lambda _: Fault(status=429, retry_after_s=0.5)
    with httpx2.Client() as client:
        answer = client.post(proxy.url)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "0.5")
    assert Counting.seen == []


def test_it_answers_in_the_servers_place_after_the_server_has_acted(proxy: FaultProxy) -> None:
    proxy.choose = lambda _: Fault(status_after=408)
    with httpx2.Client() as client:
        assert client.post(proxy.url, content=b"x").status_code == 408
    assert len(Counting.seen) == 1


def test_headers_are_lost_and_pages_turned_around(proxy: FaultProxy) -> None:
    proxy.choose = lambda _: Fault(strip_headers=frozenset({"idempotency-key"}), reverse_page=True)
    with httpx2.Client() as client:
        answer = client.post(proxy.url, headers={"Idempotency-Key": "k", "x-kept": "yes"})
    assert answer.json()["data"] == [3, 2, 1]
    assert "idempotency-key" not in Counting.seen[0][1]
    assert Counting.seen[0][1]["x-kept"] == "yes"


def test_random_faults_are_the_same_for_the_same_seed(proxy: FaultProxy) -> None:
    def outcomes(seed: int) -> list[str]:
        proxy.seen.clear()
        proxy.choose = random_faults(seed, rate=0.5)
        with httpx2.Client() as client:
            return [outcome(client, proxy.url) for _ in range(40)]

    first = outcomes(1)
    assert first == outcomes(1)
    assert first != outcomes(2)
    assert len(set(first)) >= 3


def outcome(client: httpx2.Client, url: str) -> str:
    try:
        return str(client.post(url).status_code)
    except httpx2.TransportError:
        return "lost"
