"""Answers of hosts become our errors, with what to do about them. The answers come from a real HTTP server."""

from __future__ import annotations

import json
import pickle
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ftclient import (
    AccessError,
    AuthError,
    BackendError,
    Client,
    DataError,
    FtclientError,
    JobFailedError,
    JobNotFoundError,
    RateLimitError,
    UnavailableError,
    errors,
    hosts,
)

CANARY = "sk-canary-0123456789"
CLOSED = {
    "message": "OpenAI is winding down the fine-tuning platform and your organization is no longer able to create new "
    "fine-tuning training jobs.",
    "type": "invalid_request_error",
    "param": None,
    "code": "training_not_available",
}
PLAIN = {"message": "That did not work", "type": "t", "param": "model", "code": "c"}


class Answers(HTTPServer):
    """Gives every request the same answer."""

    status = 200
    body: bytes = b"{}"
    content_type = "application/json"


class _Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.send_header("Content-Type", self.server.content_type)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.send_header("x-request-id", "req_1")
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[Answers]:
    with Answers(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def ask(server: Answers, tmp_path):
    """Ask for a job and return the error."""

    def run(status: int, error: object, *, host=hosts.OPENAI, content_type: str = "application/json") -> FtclientError:
        server.status, server.content_type = status, content_type
        server.body = error if isinstance(error, bytes) else json.dumps({"error": error}).encode()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        with Client.at(url, api_key=CANARY, host=host, home=tmp_path, max_retries=0) as client:
            with pytest.raises(FtclientError) as raised:
                client.job("ftjob-1")
            return raised.value

    return run


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (400, BackendError, "OpenAI refused (HTTP 400): That did not work."),
        (401, AuthError, "does not accept the API key. Check OPENAI_API_KEY."),
        (403, AccessError, "refuses access: That did not work."),
        (404, JobNotFoundError, "OpenAI knows no job 'ftjob-1'."),
        (408, UnavailableError, "Try again later."),
        (409, UnavailableError, "failed (HTTP 409): That did not work."),
        (422, BackendError, "HTTP 422"),
        (425, UnavailableError, "Try again later."),
        (429, RateLimitError, "Try again later."),
        (500, UnavailableError, "failed (HTTP 500)"),
        (503, UnavailableError, "Try again later."),
    ],
)
def test_each_status_has_its_error_and_says_what_to_do(ask, status: int, kind: type, text: str) -> None:
    error = ask(status, PLAIN)
    assert type(error) is kind
    assert text in str(error)
    if isinstance(error, BackendError):
        assert (error.status_code, error.code, error.param, error.request_id) == (status, "c", "model", "req_1")


def test_a_closed_door_shows_the_way_to_the_local_backend(ask) -> None:
    error = ask(403, CLOSED)
    assert isinstance(error, AccessError)
    assert error.code == "training_not_available"
    assert "2027-01-06" in str(error)
    assert "ftclient --backend local train FILE --model smollm2-135m" in str(error)
    assert "Client.local()" in str(error)


def test_an_empty_account_is_told_to_fill_it(ask) -> None:
    assert "Add credit" in str(ask(429, {**PLAIN, "code": "insufficient_quota"}))


def test_a_page_of_html_is_not_shown(ask) -> None:
    error = ask(502, b"<html><body>Bad gateway, nginx</body></html>", content_type="text/html")
    assert isinstance(error, UnavailableError)
    assert "nginx" not in str(error)


def test_no_key_is_ever_in_an_error(ask) -> None:
    error = ask(401, {**PLAIN, "message": f"Incorrect API key provided: {CANARY}"})
    assert CANARY not in str(error) + repr(error)


def test_a_missing_key_says_which_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(AuthError, match="Set OPENAI_API_KEY"):
        Client.openai()


def test_nobody_listening_is_said_with_the_remedy(tmp_path) -> None:
    client = Client.at("http://127.0.0.1:9", home=tmp_path, max_retries=0)
    with client, pytest.raises(UnavailableError, match="Is `ftclient serve` running there") as raised:
        client.jobs()
    assert raised.value.__cause__ is not None
    assert traceback.format_exception(raised.value)


@pytest.mark.parametrize("name", [name for name in dir(errors) if name.endswith("Error")])
def test_every_error_survives_pickling_and_has_its_stdlib_parent(name: str) -> None:
    kind = getattr(errors, name)
    made = (
        kind("what happened", 403, "code", "param", "req_1")
        if issubclass(kind, BackendError)
        else kind("what happened")
    )
    again = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own bytes
    assert type(again) is kind
    assert str(again) == "what happened"
    assert vars(again) == vars(made)
    if kind is not FtclientError:
        assert issubclass(kind, (ValueError, LookupError, RuntimeError, NotImplementedError, ImportError))


def test_an_error_of_data_carries_its_report() -> None:
    from ftclient import Dataset

    report = Dataset([{"messages": []}]).check()
    again = pickle.loads(pickle.dumps(DataError("bad", report)))  # noqa: S301 - our own bytes
    assert again.report.n_errors == report.n_errors


def test_a_failed_job_is_a_runtime_error_with_the_hosts_code() -> None:
    error = JobFailedError("no", code="invalid_file_format", param="training_file")
    assert isinstance(error, RuntimeError)
    assert (error.code, error.param) == ("invalid_file_format", "training_file")
