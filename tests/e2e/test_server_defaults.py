"""The SDK sends only what differs from its defaults: the server's have to be the same."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from ftclient.jobs import local_options
from local_backend.api import job_requests

PAIRS = {
    "LoRA": (local_options.LoRA, job_requests.LoraTune),
    "LastLayers": (local_options.LastLayers, job_requests.LastLayersTune),
    "Schedule": (local_options.Schedule, job_requests.Schedule),
    "Evaluation": (local_options.Evaluation, job_requests.Evaluation),
    "Runtime": (local_options.Runtime, job_requests.Runtime),
    "Simulate": (local_options.Simulate, job_requests.Simulate),
}


@pytest.mark.parametrize("name", PAIRS)
def test_options_mean_the_same_on_both_sides(name: str) -> None:
    ours, theirs = (defaults(kind) for kind in PAIRS[name])
    assert ours == theirs


def defaults(kind: type[BaseModel]) -> dict[str, object]:
    return {field: info.default for field, info in kind.model_fields.items() if field != "type"}
