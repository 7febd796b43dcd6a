"""`ftclient keep`: taking along what a hosted account still has."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftclient.cli.keep_retrain import retrain
from ftclient.cli.options import FolderArgument, YesOption
from ftclient.cli.session import agree, connected, current, err, say, show_json, show_table, with_globals
from ftclient.errors import FtclientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ftclient.client import Client
    from ftclient.data import Dataset
    from ftclient.keep.folder import KeepFolder
    from ftclient.keep.inventory import Tuned
    from ftclient.keep.prompts import Prompt

AskOption = Annotated[bool, typer.Option("--ask", help="Ask each model for one token, to see whether it answers.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keep = typer.Typer(no_args_is_help=True, help="Take along tuned models' data and answers before a host goes dark.")
    keep.command("list", epilog="[bold]ftclient --backend openai keep list[/bold]")(with_globals(list_models))
    keep.command(epilog="[bold]ftclient --backend openai keep save kept/[/bold]")(with_globals(save))
    keep.command(epilog="[bold]ftclient --backend openai keep record kept/ --model ft:...[/bold]")(with_globals(record))
    keep.command(epilog="[bold]ftclient keep retrain kept/ ftjob-abc123 --model smollm2-135m[/bold]")(
        with_globals(retrain)
    )
    app.add_typer(keep, name="keep")


def list_models(*, ask: AskOption = False) -> None:
    """List the account's tuned models, those that go first in front, and what still works with them."""
    with connected() as client:
        found = _inventory(client, ask=ask)
    if current.as_json:
        show_json([each.to_json() for each in found])
    elif not found:
        say("This account has no tuned models.")
    else:
        names = ("days left", "job", "training file", "answers", "model")
        show_table(names, [_row(each) for each in found])


def save(folder: FolderArgument, *, ask: AskOption = False) -> None:
    """Save data, events, metrics and parameters of all tuned models. Run it again to fetch what was missing."""
    from ftclient.keep.download import save as save_all
    from ftclient.keep.folder import KeepFolder
    from ftclient.keep.page import write_page

    kept = KeepFolder(folder)
    with connected() as client, err().status("Saving ...") as status:
        problems = save_all(client, kept, _inventory(client, ask=ask), progress=status.update)
    page = write_page(kept)
    if current.as_json:
        show_json(kept.manifest)
    else:
        say(f"{len(kept.manifest['models'])} models, {len(kept.manifest['files'])} files. Summary: {page}")
        for problem in problems:
            say(f"Not saved: {problem['what']}: {problem['why']}")
    raise typer.Exit(1 if problems else 0)


def record(
    folder: FolderArgument,
    *,
    model: Annotated[list[str] | None, typer.Option(help="Whom to ask (again for more); all saved ones else.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Examples to take prompts from; else those saved.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many prompts a model.")] = 100,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 512,
    yes: YesOption = False,
) -> None:
    """Record what tuned models answer to chosen prompts. The cost is shown first."""
    from ftclient.keep.folder import KeepFolder
    from ftclient.keep.page import write_page
    from ftclient.keep.prompts import cost_usd

    kept = KeepFolder(folder)
    found = {name: _prompts(kept, name, prompts, n) for name in model or _saved_models(kept)}
    chosen = {name: asked for name, asked in found.items() if asked}
    if not chosen:
        raise typer.Exit(1)
    costs = [cost_usd(current.host, name, asked, max_tokens=max_tokens) for name, asked in chosen.items()]
    _consent(costs, sum(map(len, chosen.values())), yes=yes)
    with connected() as client:
        refused = _record_all(client, kept, chosen, max_tokens)
    write_page(kept)
    raise typer.Exit(1 if refused or len(chosen) < len(found) else 0)


def _inventory(client: Client, *, ask: bool) -> list[Tuned]:
    from ftclient.keep.inventory import inventory

    with err().status("Asking what there is ..."):
        return inventory(client, ask=ask, tell=say)


def _row(each: Tuned) -> tuple[str, ...]:
    days = "?" if each.days_left is None else str(each.days_left)
    works = [_short(each.calls.get(call)) for call in ("training_file", "chat")]
    return days, each.job_id or "", *works, each.model


def _short(outcome: str | None) -> str:
    if outcome is None:
        return ""
    return outcome if outcome in ("works", "not tried") else "no"


def _saved_models(kept: KeepFolder) -> list[str]:
    found = [str(each["model"]) for each in kept.manifest["models"]]
    if not found:
        raise typer.BadParameter(f"nothing is saved there yet; begin with: ftclient keep save {kept.path}")
    return found


def _prompts(kept: KeepFolder, model: str, chosen: Path | None, n: int) -> Sequence[Prompt]:
    """Return the prompts for a model: of the chosen file, else of its own job's saved data; say so where none are."""
    from ftclient.keep.prompts import prompts_of

    try:
        found = prompts_of(_examples(kept, model, chosen), n=n)
    except FtclientError as error:
        if chosen:
            raise
        say(f"Left out {model}: {error} Name a file with --prompts.")
        return []
    if not found:
        say(f"Left out {model}: there are no prompts in {chosen or 'its saved data'}.")
    return found


def _examples(kept: KeepFolder, model: str, chosen: Path | None) -> Dataset:
    from ftclient.data import Dataset
    from ftclient.keep.download import job_of
    from ftclient.keep.retrain import prompt_data

    if chosen:
        return Dataset.read(chosen)
    job_id = next((each["job_id"] for each in kept.manifest["models"] if each["model"] == model), None)
    if job_id is None:
        raise typer.BadParameter(f"no saved job has made {model}; name a file of prompts", param_hint="--prompts")
    return prompt_data(kept, job_of(kept, job_id))


def _consent(costs: Sequence[Decimal | None], n: int, *, yes: bool) -> None:
    known = [cost for cost in costs if cost is not None]
    text = f"at most ${sum(known):.2f}" if len(known) == len(costs) else "a price that is not known"
    if current.host.is_local:
        return
    say(f"{n} answers from {current.host.title}, for {text}.")
    agree("Record them?", host=current.host, what="answers", yes=yes)


def _record_all(client: Client, kept: KeepFolder, chosen: dict[str, Sequence[Prompt]], max_tokens: int) -> int:
    """Record all models and return of how many answers are missing; each failure is said, and the rest goes on."""
    return sum(not _record_one(client, kept, name, asked, max_tokens) for name, asked in chosen.items())


def _record_one(client: Client, kept: KeepFolder, name: str, asked: Sequence[Prompt], max_tokens: int) -> bool:
    from ftclient.keep.golden import record as record_answers

    try:
        with err().status(f"Asking {name} ...") as status:

            def show_progress(done: int, total: int) -> None:
                status.update(f"{name}: {done}/{total}")

            n = record_answers(client, kept, name, asked, max_tokens=max_tokens, progress=show_progress, tell=say)
    except FtclientError as error:
        say(f"{name} does not answer: {error}")
        return False
    say(f"{n} answers of {name} are recorded.")
    return _is_complete(kept, name)


def _is_complete(kept: KeepFolder, name: str) -> bool:
    """Whether a model has answered all prompts; say which answers are missing, and how many are cut off."""
    from ftclient.keep.golden import n_cut, problem_of

    n = n_cut(kept, name)
    if n:
        say(f"{n} of them were cut off at their longest; a larger --max-tokens asks for them again.")
    missing = [each["why"] for each in kept.manifest["problems"] if each["what"] == problem_of(name)]
    for why in missing:
        say(f"Not recorded: {why}")
    return not missing
