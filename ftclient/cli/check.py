"""`ftclient check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ftclient.cli.options import FileArgument, MethodOption
from ftclient.cli.session import connected, current, show, show_json

if TYPE_CHECKING:
    from ftclient.data import Dataset, Report
    from ftclient.data.limits import Method


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="[bold]ftclient check support.jsonl[/bold]\n\n"
        "[bold]ftclient check pairs.jsonl --method dpo --json[/bold]"
    )(check)


def check(
    file: FileArgument,
    *,
    model: Annotated[str | None, typer.Option(help="Count tokens and lengths for this model.")] = None,
    method: MethodOption = "supervised",
    validation: Annotated[bool, typer.Option("--validation", help="A validation file: it may be short.")] = False,
) -> None:
    """Find every problem of a training file, with its line and what to do about it.

    Uses OpenAI's rules unless --backend names another host; with the model of a local backend, also its own tokenizer.
    Exit code 1: there are errors.
    """
    from ftclient.data import Dataset

    report = _report(Dataset.read(file), model, method, is_training=not validation)
    if current.as_json:
        show_json(report.to_json())
    else:
        show(report)
    raise typer.Exit(0 if report.ok else 1)


def _report(data: Dataset, model: str | None, method: Method, *, is_training: bool) -> Report:
    from ftclient import hosts
    from ftclient.data.check_progress import progress_bar
    from ftclient.data.tokens import encoding_for

    host = current.host
    if host.is_local and model and encoding_for(model) is None:  # only the backend has this model's tokenizer
        with connected() as client:
            return client.check(data, model=model, method=method, is_training=is_training)
    limits = host.limits if current.names_backend else hosts.OPENAI.limits
    with progress_bar(f"Checking {data.name}") as progress:
        return data.check(model=model, method=method, limits=limits, is_training=is_training, progress=progress)
