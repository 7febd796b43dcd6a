"""`ftclient keep retrain`: a saved job on an open model, and how near its answers come."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftclient.cli.downloads import fetch_model
from ftclient.cli.options import FolderArgument
from ftclient.cli.session import connected, current, err, say, show, show_json
from ftclient.data.counted import counted

if TYPE_CHECKING:
    from ftclient.client import Client
    from ftclient.keep.folder import KeepFolder

_UNTUNED_PROMPTS = 20
"""So many answers of the model before training show where it came from; it may take its time over each."""


def retrain(
    folder: FolderArgument,
    job: Annotated[str, typer.Argument(metavar="JOB", help="A saved job's id.")],
    *,
    model: Annotated[str, typer.Option(help="The open model to train.")] = "smollm2-135m",
    epochs: Annotated[int | None, typer.Option(min=1, max=50, help="Passes over the data; else the job's own.")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Train once more, also if this has been done.")] = False,
) -> None:
    """Run a saved job again on an open model, on this machine, and compare it with the golden answers.

    Run it once more after a crash, or for another comparison: what is trained is not trained twice.
    """
    from ftclient.keep.folder import KeepFolder
    from ftclient.keep.page import write_page
    from ftclient.keep.retrain import plan_again, train_again
    from ftclient.view.watch import watch

    if not current.host.is_local:
        text = f"{current.host.title} is no local backend; say --backend local"
        raise typer.BadParameter(text, param_hint="--backend")
    kept = KeepFolder(folder)
    with connected() as client:
        fetch_model(client, model)
        plan = plan_again(client, kept, job, model=model, n_epochs=epochs)
        say(plan)
        started = train_again(client, plan, anew=anew)
        watch(started, console=err(), command=current.command)
        result = started.result()
        found = _comparison(client, kept, job, plan.model, result.model)
    if found is None:
        say("No golden answers are recorded, so there is nothing to compare with; `ftclient keep record` does that.")
    write_page(kept)
    if current.as_json:
        show_json(found or {"model": result.model})
    else:
        show(result.model)


def _comparison(client: Client, kept: KeepFolder, job: str, base: str, model: str) -> dict[str, Any] | None:
    """Compare a retrained model with golden answers, and take that into the folder; None where there are none."""
    from ftclient.keep.download import job_of
    from ftclient.keep.golden import compare_with_golden

    golden = str(job_of(kept, job)["fine_tuned_model"])
    if not any(True for _ in kept.golden(golden)):
        return None
    with err().status(f"Asking {model} ...") as status:

        def tell(done: int, total: int) -> None:
            status.update(f"{model}: {done}/{total}")

        found = compare_with_golden(client, kept, golden, model, progress=tell)
        before = compare_with_golden(client, kept, golden, base, n=_UNTUNED_PROMPTS, progress=tell)
    row = {"golden": golden, "model": model, **asdict(found), "untuned_similarity": before.similarity}
    earlier = kept.manifest.get("agreements", [])
    kept.manifest["agreements"] = [*(each for each in earlier if each["model"] != model), row]
    kept.save()
    alike = f"{found.exact:.0%} answered alike, {found.similarity:.0%} of the text in common"
    say(f"{counted(found.n, 'prompt')}: {alike}; before training it was {before.similarity:.0%}.")
    return row
