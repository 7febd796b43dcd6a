"""What there is to know before a job is started, beside its numbers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ftclient.cost.book import Dates, PriceBook
from ftclient.cost.prices import Price, base_of, dates_of, hourly_price_usd, model_prices, today, why_no_price
from ftclient.cost.tokens import Tokens
from ftclient.data import Dataset, Report
from ftclient.data.counted import counted
from ftclient.hosts import Host
from ftclient.jobs.request import JobRequest

OPEN_MODEL = "smollm2-135m"
"""The model of the local backend that is named where a hosted one is not to be had."""


@dataclass(frozen=True)
class Note:
    """Something to know before starting; `code` is for programs, `message` for people."""

    code: str
    message: str


def about_tokens(host: Host, model: str, tokens: Tokens | None, *, is_own_encoding: bool = True) -> list[Note]:
    """Say what is wrong or rough with the count of tokens."""
    if tokens is None:
        text = "Tokens could not be counted: the vocabulary is not on this machine. Their cost is not known."
        return [Note("tokens_unknown", text)]
    notes = []
    if tokens.n_cut:
        text = (
            f"{tokens.n_cut:,} examples are longer than {host.title} reads; it stops at its limit, and so does the "
            f"count, {tokens.n_lost:,} tokens an epoch before the end of the file."
        )
        notes.append(Note("too_long", text))
    if not is_own_encoding:
        text = f"The token count is an estimate: {model} has its own tokenizer, and o200k stood in for it."
        notes.append(Note("tokens_estimated", text))
    elif tokens.is_estimate:
        notes.append(Note("tokens_estimated", "The token count is an estimate: for part of it no rule is published."))
    return notes


def about_price(
    host: Host, request: JobRequest, *, price: Price | None, is_counted: bool = True, book: PriceBook
) -> list[Note]:
    """Say why a cost is not known, or what it may be at most."""
    if request.method.type == "reinforcement":
        hourly = hourly_price_usd(host, request.model, book=book)
        rate = f" (${hourly} an hour)" if hourly is not None else ""
        text = f"Reinforcement is charged by the hour of training{rate}, and its hours cannot be foreseen."
        return [Note("price_by_the_hour", text)]
    if price is not None:
        return _about_training_type(host, request, price, book=book)
    if not is_counted:
        return []  # `about_tokens` has said so
    why = why_no_price(host, request.model, book=book)
    text = f"No price of training {request.model} at {host.title} is known, so no cost either. {why}"
    remedy = " A file of your own prices can name it: --prices FILE, or FTCLIENT_PRICES."
    return [Note("price_unknown", text + remedy)]


def _about_training_type(host: Host, request: JobRequest, price: Price, *, book: PriceBook) -> list[Note]:
    """Say which of a host's kinds of training the price is for."""
    found = model_prices(host, request.model, book=book)
    if found is None or not found.training.at_most_times or request.training_type == "globalStandard":
        return []
    most = f" A limit is held to {price.at_most_times} times the price." if price.at_most_times > 1 else ""
    text = (
        f"The price is that of {host.title}'s global training. Regional training costs 10 to 30 % more, and developer "
        f"training about half.{most}"
    )
    return [Note("price_of_global_training", text)]


def about_images(host: Host, request: JobRequest, report: Report, *, book: PriceBook) -> list[Note]:
    """Say that the data has images and the model takes none."""
    found, n = model_prices(host, request.model, book=book), report.stats["n_with_images"]
    if not n or found is None or found.takes_images:
        return []
    able = [name for name, each in book.host(host.name).models.items() if each.takes_images]
    text = f"{counted(n, 'example')} with images: {host.title} trains {request.model} on none, as far as is known."
    return [Note("images_not_taken", text + (f" It does with {' or '.join(able)}." if able else ""))]


def about_method(host: Host, request: JobRequest, *, book: PriceBook) -> list[Note]:
    """Say that the host tunes this model, but not in this way."""
    found = model_prices(host, request.model, book=book)
    if found is None or request.method.type in found.methods:
        return []
    able = ", ".join(found.methods)
    text = f"{host.title} tunes {request.model} by {able}, and not by {request.method.type} as far as is known."
    return [Note("method_not_offered", text)]


def about_dates(
    host: Host,
    model: str,
    *,
    book: PriceBook,
    shutdown: str | None = None,
    is_listed: bool = False,
    day: str | None = None,
) -> list[Note]:
    """Say when the model, or training as such, ends.

    Args:
        host: Where the model is.
        model: Its name.
        book: What is known of dates.
        shutdown: The host's own word, which wins over the book's.
        is_listed: Whether the host has said that the model is there.
        day: The day it is, as YYYY-MM-DD; None is the calendar's.
    """
    day = day or today()
    dates = dates_of(host, model, book=book)
    ends = shutdown or dates.shutdown
    if ends is not None and ends <= day:
        if is_listed and shutdown is None:
            return [*_about_training(host, model, dates, day), _still_listed(host, model, ends)]
        text = f"{model} was shut down at {host.title} on {ends}, together with every model tuned on it."
        return [Note("model_gone", text)]
    return [*_about_training(host, model, dates, day), *_about_shutdown(host, model, ends)]


def _still_listed(host: Host, model: str, ends: str) -> Note:
    text = f"{model} was to be shut down at {host.title} on {ends}; it still lists it, but may refuse the job."
    return Note("model_overdue", text)


def _about_training(host: Host, model: str, dates: Dates, day: str) -> list[Note]:
    last_day, closed = dates.last_training_day, dates.closed_to_newcomers
    newcomers = f", and none at all for accounts that had not tuned before {closed}" if closed else ""
    newcomers += f". {about_idle(host, dates)}" if dates.closed_to_idle else ""
    if last_day and last_day < day:
        return [Note("training_closed", f"{host.title} starts no jobs on {base_of(model)} since {last_day}.")]
    if last_day:
        text = f"{host.title} starts no fine-tuning jobs on {base_of(model)} after {last_day}"
        return [Note("training_closing", f"{text}{newcomers.removesuffix('.')}.")]
    return []


def about_idle(host: Host, dates: Dates) -> str:
    """Return the rule for accounts that do not use what they have tuned, in a sentence."""
    return (
        f"Since {dates.closed_to_idle}, {host.title} also refuses accounts that have asked no tuned model within "
        f"{dates.idle_days} days."
    )


def _about_shutdown(host: Host, model: str, ends: str | None) -> list[Note]:
    if ends is None:
        return []
    text = f"{model} is shut down at {host.title} on {ends}, together with every model tuned on it."
    return [Note("model_shutdown", text)]


ENDING = frozenset({"training_closed", "training_closing", "training_refused", "model_gone", "model_not_listed"})
"""Codes of notes after which one asks what to do instead."""


def about_instead(request: JobRequest, notes: Sequence[Note], *, has_images: bool = False) -> list[Note]:
    """Name the command that trains an open model on the user's own machine, where the host will not do for long."""
    is_text = request.method.type != "reinforcement" and not has_images  # the open model reads no images
    if not is_text or not any(note.code in ENDING for note in notes):
        return []
    start = "The same data trains an open model on your own machine, free of charge:"
    parts = [request.train, request.valid] if request.valid else [request.train]
    if not all(map(_is_own_file, parts)):
        text = f"{start} plan it again for {OPEN_MODEL} with Client.local(), or with `ftclient --backend local`."
        return [Note("use_local", text)]
    line = ["ftclient", "--backend", "local", "train", str(request.train.path), "--model", OPEN_MODEL]
    return [Note("use_local", f"{start} {shlex.join([*line, *_options(request)])}")]


def _is_own_file(data: Dataset) -> bool:
    """Whether the data is a file of the user's, and not in memory or a part that will be gone with this process."""
    return data.path is not None and not data.is_temporary


def _options(request: JobRequest) -> list[str]:
    """Return the options that mean the same at the local backend."""
    method = request.method
    chosen = {
        "--valid": request.valid.path if request.valid else None,
        "--method": None if method.type == "supervised" else method.type,
        "--epochs": None if method.n_epochs == "auto" else method.n_epochs,
        "--batch-size": None if method.batch_size == "auto" else method.batch_size,
        "--suffix": request.suffix,
        "--seed": request.seed,
    }
    return [text for name, value in chosen.items() if value is not None for text in (name, str(value))]
