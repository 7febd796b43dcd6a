"""`ftclient plan` and `ftclient train`."""

from __future__ import annotations

import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftclient.cli.downloads import fetch_model
from ftclient.cli.options import FileArgument, MethodOption, MultiplierOption, RateOption, YesOption
from ftclient.cli.session import as_object, connected, current, err, say, show, show_json

if TYPE_CHECKING:
    from ftclient.client import Client
    from ftclient.cost.plan import Plan
    from ftclient.data import Dataset
    from ftclient.jobs.local_options import LocalOptions
    from ftclient.jobs.methods import Method

ModelOption = Annotated[str, typer.Option("--model", help="The model to start from, such as smollm2-135m.")]
ValidOption = Annotated[
    str | None, typer.Option("--valid", metavar="FILE|SHARE", help="A validation file, or a share of FILE such as 10%.")
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", min=1, max=50, help="Passes over the data.")]
BatchOption = Annotated[int | None, typer.Option("--batch-size", min=1, max=256, help="Examples a step.")]
TuneOption = Annotated[
    str | None, typer.Option("--tune", metavar="lora|full|head|last:N", help="What is trained (local backend).")
]
SuffixOption = Annotated[str | None, typer.Option(help="Part of the tuned model's name.")]
SeedOption = Annotated[int | None, typer.Option(min=0, max=2147483647, help="Makes the run repeatable.")]

_BIG_BYTES = 1 << 20
"""Smaller uploads are over before a bar is read."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="[bold]ftclient plan support.jsonl --model smollm2-135m[/bold]\n\n"
        "[bold]ftclient --backend openai plan support.jsonl --model gpt-4.1-mini --json[/bold]"
    )(plan)
    app.command(
        epilog="[bold]ftclient train support.jsonl --model smollm2-135m --valid 10% --epochs 4[/bold]\n\n"
        "[bold]ftclient --backend openai train support.jsonl --model gpt-4.1-mini --max-cost 5 --detach[/bold]"
    )(train)


def plan(  # noqa: PLR0913 - an argument is an option
    file: FileArgument,
    *,
    model: ModelOption,
    valid: ValidOption = None,
    method: MethodOption = "supervised",
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    learning_rate: RateOption = None,
    learning_rate_multiplier: MultiplierOption = None,
    tune: TuneOption = None,
    suffix: SuffixOption = None,
    seed: SeedOption = None,
) -> None:
    """Say what training would take: tokens, epochs, cost, time, memory. Nothing is started."""
    numbers = {"n_epochs": epochs, "batch_size": batch_size, "learning_rate_multiplier": learning_rate_multiplier}
    with connected(keyless=True) as client:
        made = _plan(
            client,
            file,
            valid,
            model=model,
            method=_method(method, numbers, learning_rate),
            local=_local(tune, learning_rate),
            suffix=suffix,
            seed=seed,
        )
        show_json(made.to_json()) if current.as_json else show(made)


def train(  # noqa: PLR0913 - an argument is an option
    file: FileArgument,
    *,
    model: ModelOption,
    valid: ValidOption = None,
    method: MethodOption = "supervised",
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    learning_rate: RateOption = None,
    learning_rate_multiplier: MultiplierOption = None,
    tune: TuneOption = None,
    suffix: SuffixOption = None,
    seed: SeedOption = None,
    max_cost: Annotated[str | None, typer.Option("--max-cost", metavar="USD", help="Refuse if it costs more.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start, say the job's id, and leave.")] = False,
    yes: YesOption = False,
) -> None:
    """Check, plan and start a job, and watch it to its end. Ctrl-C leaves the view; the job goes on."""
    limit = _usd(max_cost)
    numbers = {"n_epochs": epochs, "batch_size": batch_size, "learning_rate_multiplier": learning_rate_multiplier}
    with connected() as client:
        made = _plan(
            client,
            file,
            valid,
            model=model,
            method=_method(method, numbers, learning_rate),
            local=_local(tune, learning_rate),
            suffix=suffix,
            seed=seed,
        )
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


def _plan(
    client: Client, file: Path, valid: str | None, *, method: Method, local: LocalOptions | None, **more: Any
) -> Plan:
    train_data, valid_data = _datasets(file, valid)
    fetch_model(client, more["model"])
    with err().status("Checking the data and working out the plan ..."):
        return client.plan(train_data, valid=valid_data, method=method, local=local, **more)


def _datasets(file: Path, valid: str | None) -> tuple[Dataset, Dataset | None]:
    from ftclient.data import Dataset

    data = Dataset.read(file)
    if valid is None:
        return data, None
    if valid.endswith("%"):
        share = _share(valid)
        train_data, valid_data = data.split(1 - share, share)
        return train_data, valid_data
    if not Path(valid).is_file():
        raise typer.BadParameter(f"there is no file {valid}; a share ends in %, such as 10%", param_hint="--valid")
    return data, Dataset.read(valid)


def _share(text: str) -> float:
    try:
        share = float(text[:-1]) / 100
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise typer.BadParameter(f"{text} is no share between 0% and 100%", param_hint="--valid")
    return share


def _method(name: str, numbers: dict[str, Any], learning_rate: float | None) -> Method:
    from ftclient.jobs.methods import DPO, Supervised

    chosen = {key: value for key, value in numbers.items() if value is not None}
    if learning_rate is not None and current.host.learning_rate == "absolute":
        chosen["learning_rate_multiplier"] = learning_rate
    if name == "reinforcement":
        raise typer.BadParameter(
            "reinforcement needs a grader, which the command line cannot take; use Reinforcement(grader=...) in Python",
            param_hint="--method",
        )
    return DPO(**chosen) if name == "dpo" else Supervised(**chosen)


def _local(tune: str | None, learning_rate: float | None) -> LocalOptions | None:
    host = current.host
    if learning_rate is not None and not host.is_local and host.learning_rate != "absolute":
        raise typer.BadParameter(
            f"{host.title} takes only multiples of its own rate: use --rate-multiplier",
            param_hint="--learning-rate",
        )
    if tune is None and (learning_rate is None or not host.is_local):
        return None
    from ftclient.jobs.local_options import LocalOptions

    given = {"tune": _tune(tune)} if tune else {}
    return LocalOptions(**given, learning_rate=learning_rate)


def _tune(text: str) -> Any:
    from ftclient.jobs.local_options import Full, Head, LastLayers, LoRA

    name, _, n = text.partition(":")
    if name == "last" and n.isdigit() and int(n) > 0:
        return LastLayers(n=int(n))
    whole = {"lora": LoRA, "full": Full, "head": Head}.get(text)
    if whole is None:
        raise typer.BadParameter(f"{text!r} is none of lora, full, head, last:N", param_hint="--tune")
    return whole()


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
