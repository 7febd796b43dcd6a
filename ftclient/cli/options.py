"""Arguments and options that several commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ftclient.data.limits import Method


def _job_id(text: str) -> str:
    """Refuse the empty text that an unset variable of the shell leaves."""
    if not text.strip():
        raise typer.BadParameter("it is empty; `ftclient jobs` lists the ids")
    return text


def _job_ids(given: list[str]) -> list[str]:
    return [_job_id(each) for each in given]


def _positive(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value:g} is no number above 0")
    return value


FileArgument = Annotated[
    Path,
    typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, help="A .jsonl file (or .gz, .zst)."),
]
MethodOption = Annotated[Method, typer.Option(help="What the examples are for.")]
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", callback=_job_id, help="A job's id, as `ftclient jobs` shows it.")
]
JobsArgument = Annotated[
    list[str],
    typer.Argument(metavar="JOB...", callback=_job_ids, help="Ids of jobs, as `ftclient jobs` shows them."),
]
RateOption = Annotated[
    float | None,
    typer.Option(
        "--learning-rate", callback=_positive, help="Absolute rate (local backend, and hosts that read it so)."
    ),
]
MultiplierOption = Annotated[
    float | None, typer.Option("--rate-multiplier", callback=_positive, help="Times the host's own rate.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
