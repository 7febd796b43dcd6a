"""`ftclient watch` and `ftclient events`: following a job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ftclient.cli.options import JobArgument, JobsArgument
from ftclient.cli.session import as_object, connected, current, err, show, show_json
from ftclient.jobs.follow import ending_of

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJobEvent

    from ftclient.jobs.job import Job


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="[bold]ftclient watch ftjob-abc123[/bold]\n\n[bold]ftclient watch ftjob-abc123 ftjob-def456[/bold]"
    )(watch)
    app.command(
        epilog="[bold]ftclient events ftjob-abc123 --follow[/bold]\n\n[bold]ftclient events ftjob-abc123 --json[/bold]"
    )(events)


def watch(jobs: JobsArgument) -> None:
    """Watch one job live until it ends, or several in one table. Ctrl-C leaves the view; the jobs go on."""
    with connected() as client:
        found = [client.job(job) for job in dict.fromkeys(jobs)]
        if len(found) == 1:
            finish(found[0])
        _finish_all(found)


def _finish_all(jobs: list[Job]) -> NoReturn:
    from ftclient.view.watch_many import watch_all

    ended = watch_all(jobs, console=err(), command=current.command)
    if current.as_json:
        show_json([as_object(job) for job in ended])
    else:
        show(*[job.fine_tuned_model for job in ended if job.fine_tuned_model])
    raise typer.Exit(1 if any(ending_of(job) in ("failed", "cancelled") for job in ended) else 0)


def finish(job: Job) -> NoReturn:
    """Watch a job to its end and leave with what that means for the shell."""
    from ftclient.view.watch import watch as show_live

    ended = show_live(job, console=err(), command=current.command)
    if current.as_json:
        show_json(as_object(ended))
    elif ending_of(ended) == "succeeded" and ended.fine_tuned_model:
        show(ended.fine_tuned_model)
    raise typer.Exit(1 if ending_of(ended) in ("failed", "cancelled") else 0)


def events(
    job: JobArgument,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job ends (JSON: one object a line).")
    ] = False,
) -> None:
    """Print a job's events, oldest first."""
    with connected() as client:
        found = client.job(job).events(follow_on=follow)
        if current.as_json and not follow:
            show_json([as_object(event) for event in found])
            return
        for event in found:
            typer.echo(json.dumps(as_object(event)) if current.as_json else _line(event))


def _line(event: FineTuningJobEvent) -> str:
    import time

    from ftclient.view.words import printable

    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.created_at))
    level = "" if event.level == "info" else f"{event.level}: "
    return f"{at}  {level}{printable(event.message)}"
