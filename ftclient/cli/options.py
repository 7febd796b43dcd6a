"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ftclient.data.limits import Method

FileArgument = Annotated[
    Path,
    typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, help="A .jsonl file (or .gz, .zst)."),
]
MethodOption = Annotated[Method, typer.Option(help="What the examples are for.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, as `ftclient jobs` shows it.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
