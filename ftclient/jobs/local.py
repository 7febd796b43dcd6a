"""Calls that only the local backend answers, under /v1/local/."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ftclient.data import Issue, Report
from ftclient.errors import BackendError
from ftclient.hosts import Host
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from openai import OpenAI


PullProgress = Callable[[str, int, "int | None"], None]
"""Called with a file's name, the bytes of it that are there, and its size where that is known."""


Measuring = Callable[[int, int, str], None]
"""Called with how many parts of a measurement are done, of how many, and which was the last."""


def forecast(
    openai: OpenAI, host: Host, body: Mapping[str, Any], *, measuring: Measuring | None = None
) -> dict[str, Any]:
    """Return what a job of this create body would take on the machine behind `host`.

    Args:
        openai: The official client.
        host: A local backend.
        body: The job.
        measuring: Told how the machine is measured, which takes some seconds, once for each model.

    Raises:
        BackendError: The plan cannot be made; the text says why and what to do.
    """
    if measuring is None:
        return _post(openai, host, "/local/plan", body)
    with errors_of(host), _streamed(openai, "/local/plan", body, accept="application/x-ndjson") as lines:
        for line in lines:
            told = json.loads(line)
            if "plan" in told:
                return dict(told["plan"])
            _raise_told(told)
            measuring(int(told["done"]), int(told["of"]), str(told["what"]))
    raise BackendError(f"{host.title} ended its answer before the plan. Try again.")


def check_with_tokenizer(openai: OpenAI, host: Host, *, file_id: str, model: str, method: str) -> Report:
    """Return the check of an uploaded file with the model's own tokenizer."""
    body = {"training_file": file_id, "model": model, "method": method}
    return report_of(_post(openai, host, "/local/check", body))


def machine(openai: OpenAI, host: Host) -> dict[str, Any]:
    """Return the state of the machine behind `host`: device, memory, runner, models at hand."""
    with errors_of(host):
        return _object(host, openai.get("/local/machine", cast_to=object))


def base_models(openai: OpenAI, host: Host) -> dict[str, Any]:
    """Return which base models are at hand behind `host`, and its engine; quicker than all of `machine`."""
    with errors_of(host):
        return _object(host, openai.get("/local/models", cast_to=object))


def pull(openai: OpenAI, host: Host, model: str, *, progress: PullProgress | None = None) -> None:
    """Have the local backend download a base model, and return when it is there.

    Args:
        openai: The official client.
        host: A local backend.
        model: A catalogue name, alias or hub id.
        progress: Told about every piece.

    Raises:
        BackendError: The model cannot be had; the text says why and what to do.
    """
    with errors_of(host), _streamed(openai, "/local/models/pull", {"model": model}) as lines:
        for line in lines:
            told = json.loads(line)
            _raise_told(told)
            if progress and "file" in told:
                progress(str(told["file"]), int(told["done_bytes"]), told.get("total_bytes"))


def report_of(found: Mapping[str, Any]) -> Report:
    """Return the report that was sent as `ftclient check --json` prints it."""
    issues = [Issue(**issue) for issue in found.get("issues", ())]
    return Report(
        n_examples=int(found["n_examples"]),
        issues=issues,
        stats=found.get("stats", {}),
        n_errors=int(found["n_errors"]),
        n_warnings=int(found["n_warnings"]),
    )


def _raise_told(told: Mapping[str, Any]) -> None:
    """Raise what a line of an answer tells that has gone wrong since it began."""
    if "error" in told:
        error = told["error"]
        raise BackendError(str(error.get("message")), None, error.get("code"), error.get("param"))


@contextmanager
def _streamed(
    openai: OpenAI, path: str, body: Mapping[str, Any], *, accept: str | None = None
) -> Iterator[Iterator[str]]:
    """Give the lines of an answer as they come."""
    # The header by which the official client's own `with_streaming_response` asks for an answer that is not read yet.
    headers = {"X-Stainless-Raw-Response": "stream", **({"Accept": accept} if accept else {})}
    answer: Any = openai.post(path, body=dict(body), cast_to=object, options={"headers": headers, "max_retries": 0})
    try:
        yield (line for line in answer.iter_lines() if line.strip())
    finally:
        answer.close()


def _post(openai: OpenAI, host: Host, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    with errors_of(host):
        return _object(host, openai.post(path, body=dict(body), cast_to=object))


def _object(host: Host, found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise BackendError(f"{host.title} sent an answer that is no JSON object. Is this a server of ftclient?")
    return found
