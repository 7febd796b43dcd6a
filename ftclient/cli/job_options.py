"""What `plan` and `train` are both told: one declaration of each option, and the way from them to a plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ftclient.cli.downloads import fetch_model
from ftclient.cli.options import BatchSizeOption, EpochsOption, MethodOption, MultiplierOption, RateOption
from ftclient.cli.session import current, err
from ftclient.hosts import TrainingType

if TYPE_CHECKING:
    from rich.status import Status

    from ftclient.client import Client
    from ftclient.cost.plan import Plan
    from ftclient.data import Dataset
    from ftclient.jobs.local import Measuring
    from ftclient.jobs.local_options import LocalOptions
    from ftclient.jobs.methods import Method


@dataclass(frozen=True, kw_only=True)
class SetupOptions:
    """What belongs to a job beside its model."""

    valid: Annotated[
        str | None,
        typer.Option("--valid", metavar="FILE|SHARE", help="A validation file, or a share of FILE such as 10%."),
    ] = None
    suffix: Annotated[str | None, typer.Option(help="Part of the tuned model's name.")] = None
    seed: Annotated[int | None, typer.Option(min=0, max=2147483647, help="Makes the run repeatable.")] = None
    training_type: Annotated[
        TrainingType | None, typer.Option(help="Where Azure trains: its region, anywhere, or spare capacity.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class JobOptions(SetupOptions):
    """Which job is meant."""

    model: Annotated[str, typer.Option("--model", help="The model to start from, such as smollm2-135m.")]


@dataclass(frozen=True, kw_only=True)
class LearningOptions:
    """How it learns."""

    method: MethodOption = "supervised"
    epochs: EpochsOption = None
    batch_size: BatchSizeOption = None
    learning_rate: RateOption = None
    learning_rate_multiplier: MultiplierOption = None
    tune: Annotated[
        str | None, typer.Option("--tune", metavar="lora|full|head|last:N", help="What is trained (local backend).")
    ] = None
    task: Annotated[
        Literal["chat", "classify"],
        typer.Option("--task", help="`classify` makes a classifier of a language model (local backend)."),
    ] = "chat"


def planned(client: Client, file: Path, job: JobOptions, learning: LearningOptions) -> Plan:
    """Return the plan of the job that the options describe, with the model fetched first where that is needed."""
    method, local = method_of(learning), _local(learning)
    train, valid = datasets(file, job.valid)
    fetch_model(client, job.model)
    with err().status("Checking the data and working out the plan ...") as status:
        return client.plan(
            train,
            measuring=tell_measuring(status),
            valid=valid,
            model=job.model,
            method=method,
            local=local,
            suffix=job.suffix,
            seed=job.seed,
            training_type=job.training_type,
        )


def tell_measuring(status: Status) -> Measuring:
    """Return what shows on a status line how the local machine is measured."""

    def tell(done: int, of: int, what: str) -> None:
        status.update(f"Measuring this machine, once for this model: {what} ({done} of {of}) ...")

    return tell


def datasets(file: Path, valid: str | None) -> tuple[Dataset, Dataset | None]:
    """Return what to train on and what to measure on, where `--valid` names a file or a share."""
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


def method_of(given: LearningOptions) -> Method:
    """Return the way of tuning that the options describe."""
    from ftclient.jobs.methods import DPO, Supervised

    numbers: dict[str, Any] = {
        "n_epochs": given.epochs,
        "batch_size": given.batch_size,
        "learning_rate_multiplier": given.learning_rate_multiplier,
    }
    chosen = {key: value for key, value in numbers.items() if value is not None}
    if given.learning_rate is not None and current.host.learning_rate == "absolute":
        chosen["learning_rate_multiplier"] = given.learning_rate
    if given.method == "reinforcement":
        raise typer.BadParameter(
            "reinforcement needs a grader, which the command line cannot take; use Reinforcement(grader=...) in Python",
            param_hint="--method",
        )
    return DPO(**chosen) if given.method == "dpo" else Supervised(**chosen)


def _local(given: LearningOptions) -> LocalOptions | None:
    host, learning_rate = current.host, given.learning_rate
    if learning_rate is not None and not host.is_local and host.learning_rate != "absolute":
        raise typer.BadParameter(
            f"{host.title} takes only multiples of its own rate: use --rate-multiplier",
            param_hint="--learning-rate",
        )
    is_default = given.tune is None and given.task == "chat"
    if is_default and (learning_rate is None or not host.is_local):
        return None
    from ftclient.jobs.local_options import LocalOptions

    tune = {"tune": _tune(given.tune)} if given.tune else {}
    return LocalOptions(**tune, learning_rate=learning_rate, task=given.task)


def _tune(text: str) -> Any:
    from ftclient.jobs.local_options import Full, Head, LastLayers, LoRA

    name, _, n = text.partition(":")
    if name == "last" and n.isdigit() and int(n) > 0:
        return LastLayers(n=int(n))
    whole = {"lora": LoRA, "full": Full, "head": Head}.get(text)
    if whole is None:
        raise typer.BadParameter(f"{text!r} is none of lora, full, head, last:N", param_hint="--tune")
    return whole()
