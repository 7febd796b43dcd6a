"""Commands on one job: cancel, pause, resume, checkpoints, metrics."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftclient.cli.options import JobArgument
from ftclient.cli.session import as_object, connected, current, out, say, show, show_json, show_table
from ftclient.jobs.curves import best_checkpoint
from ftclient.jobs.diagnosis import diagnose

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

    from ftclient.jobs.metrics import StepMetrics

_COLUMNS = {
    "train_loss": "train loss",
    "train_mean_token_accuracy": "accuracy",
    "valid_loss": "valid loss",
    "full_valid_loss": "full valid loss",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="[bold]ftclient cancel ftjob-abc123[/bold]")(cancel)
    app.command(epilog="[bold]ftclient pause ftjob-abc123[/bold]")(pause)
    app.command(epilog="[bold]ftclient resume ftjob-abc123[/bold]")(resume)
    app.command(
        epilog="[bold]ftclient checkpoints ftjob-abc123[/bold]\n\n"
        '[bold]ftclient chat "$(ftclient checkpoints ftjob-abc123 --best)" "My lamp flickers."[/bold]'
    )(checkpoints)
    app.command(epilog="[bold]ftclient metrics ftjob-abc123 --plot curves.svg[/bold]")(metrics)


def cancel(job: JobArgument) -> None:
    """End a job now, for good. On this machine its finished epochs can be used: see `checkpoints`."""
    with connected() as client:
        _show(client.job(job).cancel())


def pause(job: JobArgument) -> None:
    """Stop a job at a usable snapshot; `resume` goes on from there."""
    with connected() as client:
        _show(client.job(job).pause())


def resume(job: JobArgument) -> None:
    """Go on with a paused job, or with one that failed on this machine: its error says whether it can."""
    with connected() as client:
        _show(client.job(job).resume())


def checkpoints(
    job: JobArgument,
    *,
    best: Annotated[bool, typer.Option("--best", help="Only the one that did best in validation.")] = False,
) -> None:
    """List the usable models along the way of a job, oldest first; the one that did best in validation is marked."""
    with connected() as client:
        at_host = client.job(job)
        found = at_host.checkpoints()
        name = at_host.latest and at_host.latest.fine_tuned_model
        chosen = best_checkpoint(found, at_host.metrics() if found else [], model=name or None)
    if current.as_json:
        show_json([as_object(each) for each in found if not best or each is chosen])
    elif chosen is None:
        say("There are no checkpoints yet: they are made at the end of epochs.")
    elif best:
        show(chosen.fine_tuned_model_checkpoint)
    else:
        rows = [
            (str(each.step_number), _loss(each), "best" if each is chosen else "", each.fine_tuned_model_checkpoint)
            for each in found
        ]
        show_table(("step", "loss", "", "model"), rows)


def metrics(
    job: JobArgument,
    *,
    plot: Annotated[Path | None, typer.Option(help="Write the curves to this .svg or .png file, too.")] = None,
    classes: Annotated[bool, typer.Option("--classes", help="Of a classifier: label by label.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Of a classifier: confusion, F1 and calibration as .svg or .png.")
    ] = None,
) -> None:
    """Print loss and accuracy by step, with curves on a terminal, and say whether the job fits its data.

    As JSON it is a row for each step; the last one has that, too, as `diagnosis`: fit, evidence, advice.
    """
    if classes or picture:
        _classification(job, picture)
        return
    with connected() as client:
        found = client.job(job).metrics()
    if plot:
        _plot(found, plot, job)
    if found:
        say(str(diagnose(found)))
    if current.as_json:
        show_json(_rows_json(found))
    elif not found:
        say("There are no metrics yet.")
    else:
        _show_metrics(found)


def _classification(job_id: str, picture: Path | None) -> None:
    """Show a classifier's figures, and draw them."""
    from ftclient.jobs.classification_image import write_classification
    from ftclient.view.classes import render

    with connected() as client:
        found = client.job(job_id).classification()
    if found is None:
        say("There are no figures by label: they are measured on the validation data of a classifier's job.")
        raise typer.Exit(1)
    if picture:
        try:
            say(f"Picture: {write_classification(found, picture, title=job_id)}")
        except (ValueError, OSError) as error:
            raise typer.BadParameter(str(error), param_hint="--picture") from error
    show_json(asdict(found)) if current.as_json else show(render(found))


def _rows_json(rows: list[StepMetrics]) -> list[dict[str, Any]]:
    """Return the rows as plain values; the last one has what all of them say about the job's fit."""
    found = [row.to_json() for row in rows]
    if found:
        found[-1]["diagnosis"] = diagnose(rows).to_json()
    return found


def _plot(rows: list[StepMetrics], path: Path, job_id: str) -> None:
    from ftclient.jobs.curves_image import write_curves

    try:
        write_curves(rows, path, title=job_id)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--plot") from error
    say(f"Curves: {path}")


def _show_metrics(rows: list[StepMetrics]) -> None:
    if out().is_terminal:
        from ftclient.view.curves import Curves

        show(Curves(rows))
    names = [name for name in _COLUMNS if any(getattr(row, name) is not None for row in rows)]
    cells = [(str(row.step), *[_number(getattr(row, name)) for name in names]) for row in rows]
    show_table(("step", *[_COLUMNS[name] for name in names]), cells)


def _show(job: FineTuningJob) -> None:
    if current.as_json:
        show_json(as_object(job))
    else:
        show(f"{job.id}  {job.status}")


def _loss(checkpoint: FineTuningJobCheckpoint) -> str:
    metrics = checkpoint.metrics
    return _number(metrics.full_valid_loss if metrics.full_valid_loss is not None else metrics.train_loss)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
