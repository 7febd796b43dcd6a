"""A job as it is asked for, before anything is sent."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftclient.data import Dataset
from ftclient.errors import UnsupportedError
from ftclient.hosts import Host, TrainingType
from ftclient.jobs.local_options import LocalOptions
from ftclient.jobs.methods import Method, Supervised

RUN_KEY = "ftclient_run"
"""The key in a job's metadata under which the run id travels."""

_LONGEST_RUN_ID = 512
"""As long as a value of a job's metadata may be."""
_LONGEST_KEY = 255


def new_run_id() -> str:
    """Return a name for one launch that no other launch has."""
    return f"run-{uuid.uuid4().hex}"


def check_run_id(run_id: str) -> None:
    """Refuse a run id that a job's metadata cannot hold.

    Raises:
        ValueError: It is blank, or has characters that cannot be printed, or too many.
    """
    if not run_id.strip() or not run_id.isprintable() or len(run_id) > _LONGEST_RUN_ID:
        raise ValueError(
            f"a run id names a launch by printable characters, {_LONGEST_RUN_ID} at most; {run_id[:40]!r} is none."
        )


def idempotency_key(run_id: str) -> str:
    """Return the run id as it fits a header: other characters, or very many, by their sha256."""
    fits = run_id.isascii() and run_id == run_id.strip() and len(run_id) <= _LONGEST_KEY
    return run_id if fits else hashlib.sha256(run_id.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """Everything that makes one job what it is."""

    model: str
    train: Dataset
    valid: Dataset | None = None
    method: Method = field(default_factory=Supervised)
    local: LocalOptions | None = None
    """Only for the local backend; other hosts never receive it."""
    suffix: str | None = None
    """Up to 64 characters that become part of the tuned model's name."""
    seed: int | None = None
    training_type: TrainingType | None = None
    """What kind of training Azure is asked for; its open-weight models need one."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    integrations: Sequence[Mapping[str, Any]] = ()
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the create body that this host understands, in their places: objects are merged.

    What an argument of its own is for cannot be among them: the job would be another one than the plan's.
    """

    def __post_init__(self) -> None:
        """Refuse further fields that would change what is planned.

        Raises:
            ValueError: `extra_body` names what has an argument of its own; the text names both.
        """
        taken = next(_taken(self.extra_body, self.method), None)
        if taken is not None:
            place, argument = taken
            raise ValueError(
                f"extra_body names {place}, and the job would be another one than the plan's: use {argument} instead."
            )

    def check_host(self, host: Host) -> None:
        """Refuse what `host` cannot do, before anything is sent.

        Raises:
            UnsupportedError: The text names what cannot be done there, and what can.
        """
        if self.method.type not in host.methods:
            able = ", ".join(sorted(host.methods))
            raise UnsupportedError(f"{host.title} cannot tune by {self.method.type}; it can by: {able}.")
        if self.local is not None and not host.is_local:
            raise UnsupportedError(
                f"LocalOptions are for the local backend alone, and {host.title} would not understand them. "
                "Leave local= away, or use Client.local()."
            )
        if self.training_type is not None and self.training_type not in host.training_types:
            known = (
                f"it knows {', '.join(host.training_types)}" if host.training_types else "only Azure's jobs have one"
            )
            raise UnsupportedError(
                f"{host.title} cannot be asked for the training type {self.training_type!r}: {known}."
            )
        if self.valid is not None:
            host.require("validation_file", "take a validation file")
        elif self.method.type in host.needs_validation:
            raise UnsupportedError(
                f"{host.title} tunes by {self.method.type} only with a validation file: pass valid=..."
            )

    def body(self, *, training_file: str, validation_file: str | None, run_id: str | None = None) -> dict[str, Any]:
        """Return the create body; what was not chosen is not in it."""
        metadata = {**self.metadata, **({} if run_id is None else {RUN_KEY: run_id})}
        chosen: dict[str, Any] = {
            "model": self.model,
            "training_file": training_file,
            "validation_file": validation_file,
            "method": self.method.body(),
            "suffix": self.suffix,
            "seed": self.seed,
            "trainingType": self.training_type,
            "metadata": metadata or None,
            "integrations": [dict(each) for each in self.integrations] or None,
            "local": (self.local.body() or None) if self.local else None,
        }
        return _merged({key: value for key, value in chosen.items() if value is not None}, self.extra_body)


_ARGUMENTS = {
    "model": "model=...",
    "training_file": "the dataset to train on",
    "validation_file": "valid=...",
    "suffix": "suffix=...",
    "seed": "seed=...",
    "trainingType": "training_type=...",
    "metadata": "metadata=...",
    "integrations": "integrations=...",
}
"""Fields of the create body, each with the argument that sets it."""


def _taken(more: Mapping[str, Any], method: Method) -> Iterator[tuple[str, str]]:
    """Yield the fields among `more` that have an argument of their own, each with that argument."""
    yield from ((name, argument) for name, argument in _ARGUMENTS.items() if name in more)
    argument = f"method={type(method).__name__}(...)"
    yield from _taken_parameters(more, "", method)
    chosen = more.get("method", {})
    if not isinstance(chosen, Mapping):
        yield "method", argument
        return
    yield from ((f"method.{name}", "method=...") for name in chosen if name != method.type)
    inner = chosen.get(method.type, {})
    if not isinstance(inner, Mapping):
        yield f"method.{method.type}", argument
        return
    fields = type(method).model_fields
    yield from ((f"method.{method.type}.{name}", argument) for name in inner if name in fields)
    yield from _taken_parameters(inner, f"method.{method.type}.", method)


def _taken_parameters(outer: Mapping[str, Any], start: str, method: Method) -> Iterator[tuple[str, str]]:
    """Yield the hyperparameters that the method has fields for; those that only one host knows may pass."""
    given = outer.get("hyperparameters", {})
    place, argument = f"{start}hyperparameters", f"method={type(method).__name__}(...)"
    if not isinstance(given, Mapping):
        yield place, argument
        return
    yield from ((f"{place}.{name}", argument) for name in given if name in type(method).model_fields)


def _merged(body: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return both; objects that both have are merged in turn, and elsewhere `more` wins."""
    made = dict(body)
    for key, value in more.items():
        both = isinstance(value, Mapping) and isinstance(made.get(key), Mapping)
        made[key] = _merged(made[key], value) if both else value
    return made
