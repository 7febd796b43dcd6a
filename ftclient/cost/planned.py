"""From a checked file, or the local backend's word, to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftclient.cost.access import Access
from ftclient.cost.book import PriceBook, price_book
from ftclient.cost.epochs import Epochs, explain_local_batch, resolve_batch, resolve_epochs, resolve_host_epochs
from ftclient.cost.notes import (
    Note,
    about_dates,
    about_images,
    about_instead,
    about_method,
    about_price,
    about_tokens,
)
from ftclient.cost.plan import Machine, Plan, energy_kwh
from ftclient.cost.prices import training_price
from ftclient.cost.tokens import Tokens, count_tokens, has_own_encoding
from ftclient.data import Report
from ftclient.errors import BackendError
from ftclient.hosts import Host
from ftclient.jobs.request import JobRequest

_NO_ACCESS = Access([])
_KNOWN = frozenset(
    {
        "model",
        "n_examples",
        "tokens_per_epoch",
        "loss_tokens_per_epoch",
        "longest_example_tokens",
        "context_tokens",
        "n_epochs",
        "epochs_rule",
        "batch_size",
        "learning_rate",
        "learning_rate_multiplier",
        "n_steps",
        "time_s",
        "memory_bytes",
        "energy_kwh",
        "notes",
        "sample",
    }
)
"""Fields of the local backend's answer that have a place of their own in a plan."""


_MEMORY_SHORT = "would run out of memory"
"""Words of the backend's note about a job that this machine cannot hold; its answer has texts alone."""


def hosted_plan(
    request: JobRequest,
    host: Host,
    report: Report,
    *,
    access: Access = _NO_ACCESS,
    book: PriceBook | None = None,
    day: str | None = None,
) -> Plan:
    """Return the plan of a job at a host that charges, from counts made here.

    Args:
        request: The job.
        host: Where it would run.
        report: The check of the training file by the host's limits, which has counted its tokens.
        access: What asking the host has brought to light.
        book: What hosts charge; None is what holds here.
        day: The day it is, as YYYY-MM-DD; None is the calendar's.
    """
    book = book or price_book()
    is_own_encoding = has_own_encoding(request.model)
    tokens = count_tokens(report, is_own_encoding=is_own_encoding)
    is_by_token = request.method.type != "reinforcement"
    kind = request.training_type
    has_price = tokens is not None and is_by_token
    price = training_price(host, request.model, book=book, training_type=kind) if has_price else None
    method, n = request.method, report.n_examples
    epochs, is_assumed = resolve_host_epochs(method.n_epochs, n_examples=n, host_name=host.name)
    batch = resolve_batch(method.batch_size, n_examples=n, host_name=host.name)
    dates = [
        *access.notes,
        *about_dates(host, request.model, book=book, shutdown=access.shutdown, is_listed=access.is_listed, day=day),
        *about_method(host, request, book=book),
    ]
    notes = [
        *dates,
        *about_instead(request, dates, has_images=bool(report.stats["n_with_images"])),
        *about_tokens(host, request.model, tokens, is_own_encoding=is_own_encoding),
        *about_price(host, request, price=price, is_counted=tokens is not None, book=book),
        *about_images(host, request, report, book=book),
        *(_about_epochs(host, epochs) if is_assumed else ()),
    ]
    if host.before_use:
        notes.append(Note("before_use", host.before_use))
    return Plan(
        request=request,
        host=host,
        model=request.model,
        n_examples=n,
        epochs=epochs,
        batch=batch,
        tokens=tokens,
        price=price,
        machine=None,
        warnings=notes,
        epochs_assumed=is_assumed,
        shutdown=access.shutdown,
        is_gone=not access.is_listed and any(note.code == "model_gone" for note in notes),
    )


def _about_epochs(host: Host, epochs: Epochs) -> list[Note]:
    text = (
        f"How often {host.title} passes over the data by itself is not published; {epochs.n_epochs} is an assumption. "
        "Choose the epochs to be sure of the cost."
    )
    return [Note("epochs_assumed", text)]


def local_plan(request: JobRequest, host: Host, answer: Mapping[str, Any], *, book: PriceBook | None = None) -> Plan:
    """Return the plan that the local backend has worked out (the answer of POST /v1/local/plan).

    Raises:
        BackendError: The answer lacks what a plan needs.
    """
    try:
        n_examples = int(answer["n_examples"])
        return Plan(
            request=request,
            host=host,
            model=str(answer["model"]),
            n_examples=n_examples,
            epochs=_epochs(request, answer),
            batch=explain_local_batch(
                int(answer["batch_size"]), asked=request.method.batch_size, n_examples=n_examples
            ),
            tokens=Tokens(
                per_epoch=int(answer["tokens_per_epoch"]),
                loss_per_epoch=int(answer["loss_tokens_per_epoch"]),
                is_estimate=answer.get("sample") is not None,
            ),
            price=None,
            machine=_machine(answer, book or price_book()),
            warnings=[*_about_sample(answer), *(_local_note(str(text)) for text in answer.get("notes", ()))],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BackendError(
            f"{host.title} sent a plan that cannot be read ({error}). Do client and server have the same version?"
        ) from error


def _about_sample(answer: Mapping[str, Any]) -> list[Note]:
    """Say by what tokens are estimated, and how well: within two standard errors in 19 of 20 plans."""
    sample = answer.get("sample")
    if sample is None:
        return []
    n_drawn, margin = int(sample["n_examples"]), 2 * float(sample["tokens_deviation"])
    text = (
        f"The tokens are an estimate (± {margin:.2%}), by {n_drawn:,} of the {int(answer['n_examples']):,} examples, "
        "drawn at random: the file is a large one. The job looks at all of them when it starts."
    )
    return [Note("tokens_estimated", text)]


def _local_note(text: str) -> Note:
    """Return a note of the backend; the one that programs must not miss has a code of its own."""
    return Note("memory_short" if _MEMORY_SHORT in text else "note", text)


def _machine(answer: Mapping[str, Any], book: PriceBook) -> Machine:
    prices, time_s = book.host("local"), float(answer["time_s"])
    measured = answer.get("energy_kwh")
    return Machine(
        time_s=time_s,
        memory_bytes=int(answer["memory_bytes"]),
        learning_rate=answer.get("learning_rate"),
        longest_example_tokens=answer.get("longest_example_tokens"),
        context_tokens=answer.get("context_tokens"),
        energy_kwh=float(measured) if measured is not None else energy_kwh(time_s, watts=prices.watts),
        usd_per_kwh=prices.usd_per_kwh,
        more={name: value for name, value in answer.items() if name not in _KNOWN},
    )


def _epochs(request: JobRequest, answer: Mapping[str, Any]) -> Epochs:
    """Return the epochs that the backend will run, with the arithmetic where it is the published rule."""
    epochs = resolve_epochs(request.method.n_epochs, n_examples=int(answer["n_examples"]))
    agreed = epochs.n_epochs == int(answer["n_epochs"])
    return epochs if agreed else Epochs(int(answer["n_epochs"]), str(answer["epochs_rule"]))
