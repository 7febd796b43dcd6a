"""What no client of ours would send: each gets a 4xx in OpenAI's shape that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.contract.conftest import examples
from tests.contract.places import server

MODEL = "smollm2-135m"


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with server(tmp_path_factory.mktemp("input")) as url, httpx2.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def file_id(http: httpx2.Client) -> str:
    made = http.post("/files", files={"file": ("a.jsonl", examples(10))}, data={"purpose": "fine-tune"})
    return made.json()["id"]


def refusal(answer: httpx2.Response, *, status: int = 400) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["x-request-id"]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def form(*parts: tuple[str, bytes], end: bytes = b"--cut--\r\n") -> dict[str, Any]:
    body = b"".join(
        b'--cut\r\nContent-Disposition: form-data; name="' + head.encode() + b"\r\n\r\n" + data + b"\r\n"
        for head, data in parts
    )
    return {"content": body + end, "headers": {"content-type": "multipart/form-data; boundary=cut"}}


@pytest.mark.parametrize("cut_bytes", [1, 30, 200])
def test_an_upload_that_ends_too_early_is_refused(http, cut_bytes):
    """A proxy may cut a body and still end the request in order: half a file must not be trained on."""
    whole = form(('purpose"', b"fine-tune"), ('file"; filename="a.jsonl"', examples(10)), end=b"")
    whole["content"] = whole["content"][:-cut_bytes]
    before = http.get("/files").json()["data"]
    assert "too early" in refusal(http.post("/files", **whole))["message"]
    assert http.get("/files").json()["data"] == before


@pytest.mark.parametrize("seconds", ["²", "9" * 5000, "-3600", "1e5", ""])
def test_a_lifetime_that_is_no_number_is_refused(http, seconds):
    fields = {"purpose": "fine-tune", "expires_after[anchor]": "created_at", "expires_after[seconds]": seconds}
    answer = http.post("/files", files={"file": ("a.jsonl", examples(1))}, data=fields)
    assert refusal(answer)["param"] == "expires_after.seconds"


@pytest.mark.parametrize("body", [b"[1]", b"null", b'"text"', b""])
def test_a_body_that_is_no_object_is_told_so(http, body):
    answer = http.post("/fine_tuning/jobs", content=body, headers={"content-type": "application/json"})
    error = refusal(answer)
    assert "must be a JSON object" in error["message"]
    assert error["param"] is None


def test_a_body_of_another_type_is_told_which_one_is_wanted(http, file_id):
    body = f'{{"model": "{MODEL}", "training_file": "{file_id}"}}'
    answer = http.post("/fine_tuning/jobs", content=body, headers={"content-type": "text/plain"})
    assert "application/json" in refusal(answer)["message"]


@pytest.mark.parametrize("path", ["/fine_tuning/jobs", "/chat/completions"])
@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b'{"model": "\xff"}'])
def test_a_body_that_cannot_be_read_is_a_400(http, path, body):
    assert "pars" in refusal(http.post(path, content=body, headers={"content-type": "application/json"}))["message"]


def test_half_a_surrogate_pair_is_no_text(http):
    body = b'{"model": "%s", "messages": [{"role": "user", "content": "\\ud800"}]}' % MODEL.encode()
    refusal(http.post("/chat/completions", content=body, headers={"content-type": "application/json"}))


@pytest.mark.parametrize(("value", "given"), [(1.5, "a number"), ("3", "a string"), (True, "a boolean")])
def test_a_number_of_the_wrong_type_is_told_what_is_allowed(http, file_id, value, given):
    body = {"model": MODEL, "training_file": file_id, "hyperparameters": {"n_epochs": value}}
    wanted = "expected an integer or 'auto'"
    assert refusal(http.post("/fine_tuning/jobs", json=body)) == {
        "message": f"Invalid type for 'hyperparameters.n_epochs': {wanted}, but got {given} instead.",
        "type": "invalid_request_error",
        "param": "hyperparameters.n_epochs",
        "code": "invalid_type",
    }


def test_the_innermost_mistake_is_named(http):
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    assert refusal(http.post("/chat/completions", json={**chat, "stop": ["a", 1]}))["param"] == "stop[1]"
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "video"}]}]
    error = refusal(http.post("/chat/completions", json={**chat, "messages": parts}))
    assert error["param"] == "messages[0].content[1].type"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user"}, "messages[1]"),
        ({"role": "tool", "content": None, "tool_call_id": "a"}, "messages[1]"),
        ({"role": "assistant", "tool_calls": [{}]}, "messages[1].tool_calls[0].function"),
        (
            {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {}}}]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        ({"role": "assistant", "function_call": {"name": "f"}}, "messages[1].function_call.arguments"),
    ],
)
def test_messages_without_what_they_need_are_refused(http, message, param):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}, message]}
    assert refusal(http.post("/chat/completions", json=body))["param"] == param


def test_calls_of_earlier_answers_may_come_back_as_they_were(http):
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "1", "tool_call_id": "call_1"},
    ]
    assert http.post("/chat/completions", json={"model": MODEL, "messages": messages}).status_code == 200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": {"type": "supervised", "dpo": {"hyperparameters": {"beta": 1}}}}, "'method.dpo'"),
        ({"method": {"type": "dpo"}, "hyperparameters": {"n_epochs": 1}}, "supervised jobs only"),
        (
            {
                "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
                "hyperparameters": {"n_epochs": 1},
            },
            "differ",
        ),
        ({"local": {"tune": {"type": "magic"}}}, "'last_layers'"),
    ],
)
def test_numbers_that_would_be_ignored_are_refused(http, file_id, fields, words):
    answer = http.post("/fine_tuning/jobs", json={"model": MODEL, "training_file": file_id, **fields})
    message = refusal(answer)["message"]
    assert words in message
    assert "Value error" not in message
    assert "_tune_type" not in message


@pytest.mark.parametrize("example", [{}, {"messages": "x"}, {"messages": [{"role": "user", "content": "x"}]}])
def test_an_example_that_cannot_be_trained_on_is_not_rendered(http, example):
    error = refusal(http.post("/local/render", json={"model": MODEL, "example": example}))
    assert error["param"] == "example"


@pytest.mark.parametrize("path", ["/responses", "/fine_tuning/alpha/graders/nonesuch", "/files/a/b"])
def test_an_address_that_is_not_there_is_told_what_is(http, path):
    message = refusal(http.post(path, json={}), status=404)["message"]
    assert message.startswith(f"Invalid URL (POST /v1{path})")
    assert "chat/completions" in message


def test_an_origin_that_is_no_address_is_a_foreign_one(http):
    refusal(http.get("/models", headers={"origin": "http://[bad"}), status=403)


@pytest.mark.parametrize("value", ["foo", "", '{"run": "1"}'])
def test_a_metadata_filter_that_is_neither_null_nor_a_pair_is_refused(http, value):
    """It would else be ignored, and all jobs be taken for the ones asked for."""
    error = refusal(http.get("/fine_tuning/jobs", params={"metadata": value}))
    assert (error["param"], error["code"]) == ("metadata", "invalid_value")
    assert "metadata[key]=value" in error["message"]


def test_metadata_filters_that_are_written_right_are_answered(http):
    for query in ({"metadata": "null"}, {"metadata[run]": "1"}):
        assert http.get("/fine_tuning/jobs", params=query).status_code == 200
