"""Calls that only the local backend answers, under /v1/local/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ftclient.data import Issue, Report
from ftclient.errors import BackendError
from ftclient.hosts import Host
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from openai import OpenAI


def forecast(openai: OpenAI, host: Host, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job of this create body would take on the machine behind `host`."""
    return _post(openai, host, "/local/plan", body)


def check_with_tokenizer(openai: OpenAI, host: Host, *, file_id: str, model: str, method: str) -> Report:
    """Return the check of an uploaded file with the model's own tokenizer."""
    body = {"training_file": file_id, "model": model, "method": method}
    return report_of(_post(openai, host, "/local/check", body))


def machine(openai: OpenAI, host: Host) -> dict[str, Any]:
    """Return the state of the machine behind `host`: device, memory, runner, models at hand."""
    with errors_of(host):
        return _object(host, openai.get("/local/machine", cast_to=object))


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


def _post(openai: OpenAI, host: Host, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    with errors_of(host):
        return _object(host, openai.post(path, body=dict(body), cast_to=object))


def _object(host: Host, found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise BackendError(f"{host.title} sent an answer that is no JSON object. Is this a server of ftclient?")
    return found
