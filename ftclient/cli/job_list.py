"""`ftclient jobs`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from ftclient.cli.session import as_object, connected, current, say, show, show_json, show_table

if TYPE_CHECKING:
    from ftclient.client import Client
    from ftclient.jobs.job import Job
    from ftclient.jobs.journal import Launch


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="[bold]ftclient jobs --limit 5[/bold]\n\n[bold]ftclient jobs --json[/bold]")(jobs)


def jobs(
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 20,
    lost: Annotated[bool, typer.Option("--lost", help="Only launches whose outcome is not known.")] = False,
    forget: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Give an unknown launch up, so that its run id can be sent again."),
    ] = None,
) -> None:
    """List jobs, newest first, and look for those whose launch was never answered."""
    with connected() as client:
        if forget is not None:
            _forget(client, forget)
            return
        unknown = client.find_lost(tell=say)
        if lost:
            rows = [{"run_id": each.run_id, "created_at": each.created_at, "state": each.state} for each in unknown]
            show_json(rows) if current.as_json else show(*[f"{each.run_id}  {_state(each)}" for each in unknown])
            if not all(each.is_under_way for each in unknown):
                say(f"To give one up, so that it can be sent again: {current.command} jobs --forget RUN")
            return
        found = client.jobs(limit=limit)
    if current.as_json:
        show_json([as_object(job.latest) for job in found])
    elif found:
        show_table(("job", "status", "age", "model"), [_row(job) for job in found])
        for told in filter(None, map(_way_on, found)):
            say(told)
    else:
        say(f"There are no jobs yet. Start one with: {current.command} train FILE --model smollm2-135m")
    n_lost = sum(not each.is_under_way for each in unknown)
    if n_lost:
        told = f"{n_lost} {'launch was' if n_lost == 1 else 'launches were'} never answered; whether a job exists"
        say(f"{told} is not known: {current.command} jobs --lost")


def _state(launch: Launch) -> str:
    return "on its way" if launch.is_under_way else launch.state


def _forget(client: Client, run_id: str) -> None:
    try:
        job = client.forget_launch(run_id)
    except ValueError as error:
        raise typer.BadParameter(current.retell(str(error)), param_hint="--forget") from error
    if current.as_json:
        show_json({"run_id": run_id, "job": job.id if job else None})
    else:
        show(f"{run_id}  found: {job.id}" if job else f"{run_id}  given up; it can be sent again")


def _way_on(each: Job) -> str | None:
    """What to type to go on with a job that failed, where its error says that this is possible."""
    job = each.latest or each.refresh()
    said = (job.error and job.error.message) or ""
    if job.status != "failed" or "`ftclient resume" not in said:
        return None
    return f"{job.id} failed and can go on: {current.command} resume {job.id}"


def _row(each: Job) -> tuple[str, ...]:
    job = each.latest or each.refresh()
    return job.id, job.status, _age(job.created_at), job.fine_tuned_model or job.model


def _age(created_at: int) -> str:
    seconds = max(0, int(time.time()) - created_at)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
