"""`ftclient plan` and `ftclient train`."""

from __future__ import annotations

import sys
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftclient.cli.job_options import JobOptions, LearningOptions, planned
from ftclient.cli.options import FileArgument, YesOption, with_groups
from ftclient.cli.session import as_object, connected, current, err, say, show, show_json

if TYPE_CHECKING:
    from ftclient.client import Client
    from ftclient.cost.plan import Plan

_BIG_BYTES = 1 << 20
"""Smaller uploads are over before a bar is read."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="[bold]ftclient plan support.jsonl --model smollm2-135m[/bold]\n\n"
        "[bold]ftclient --backend openai plan support.jsonl --model gpt-4.1-mini --json[/bold]"
    )(with_groups(plan))
    app.command(
        epilog="[bold]ftclient train support.jsonl --model smollm2-135m --valid 10% --epochs 4[/bold]\n\n"
        "[bold]ftclient --backend openai train support.jsonl --model gpt-4.1-mini --max-cost 5 --detach[/bold]"
    )(with_groups(train))


def plan(file: FileArgument, *, job: JobOptions, learning: LearningOptions) -> None:
    """Say what training would take: tokens, epochs, cost, time, memory. Nothing is started."""
    with connected(keyless=True) as client:
        made = planned(client, file, job, learning)
        show_json(made.to_json()) if current.as_json else show(made)


def train(
    file: FileArgument,
    *,
    job: JobOptions,
    learning: LearningOptions,
    max_cost: Annotated[str | None, typer.Option("--max-cost", metavar="USD", help="Refuse if it costs more.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start, say the job's id, and leave.")] = False,
    yes: YesOption = False,
) -> None:
    """Check, plan and start a job, and watch it to its end. Ctrl-C leaves the view; the job goes on."""
    limit = _usd(max_cost)
    with connected() as client:
        made = planned(client, file, job, learning)
        say(made)
        if limit is not None:
            made.check_budget(limit)
        consent(made, yes=yes)
        _run(client, made, limit, detach=detach)


def _run(client: Client, made: Plan, limit: Decimal | None, *, detach: bool) -> None:
    from ftclient.cli.watching import finish

    with _upload_bar(made) as progress:
        job = client.train(made, max_cost_usd=limit, progress=progress)
    if not detach:
        finish(job)
    if current.as_json:
        show_json(as_object(job.latest))
    else:
        show(job.id)
        say(f"The job goes on by itself. Watch it with: {current.command} watch {job.id}")


def _usd(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        limit = Decimal(text.lstrip("$"))
    except InvalidOperation:
        limit = Decimal(-1)
    if not limit.is_finite() or limit < 0:
        raise typer.BadParameter(f"{text!r} is no amount in dollars", param_hint="--max-cost")
    return limit


def consent(made: Plan, *, yes: bool) -> None:
    """Ask before money is spent; where nobody can be asked, refuse."""
    from ftclient.errors import BudgetError

    if made.host.is_local or yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise BudgetError(f"{made.host.title} charges for this job, and nobody is here to agree. Pass --yes.")
    if not typer.confirm(f"Start this job at {made.host.title}?", err=True):
        raise typer.Exit(1)


class _upload_bar:  # noqa: N801 - used like a function
    """A bar for large uploads, on a terminal."""

    def __init__(self, made: Plan) -> None:
        data = [made.request.train, made.request.valid]
        self._wanted = err().is_terminal and sum(each.size_bytes for each in data if each) >= _BIG_BYTES

    def __enter__(self) -> Any:
        if not self._wanted:
            return None
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self._bar = Progress(TextColumn("Uploading"), BarColumn(), DownloadColumn(), console=err(), transient=True)
        self._bar.start()
        task = self._bar.add_task("")
        return lambda sent, total: self._bar.update(task, completed=sent, total=total)

    def __exit__(self, *exc_info: object) -> None:
        if self._wanted:
            self._bar.stop()
