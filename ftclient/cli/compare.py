"""`ftclient compare`: prompting, retrieval, transfer learning and fine-tuning on the same test questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from ftclient.cli.asking_bar import AskingBar
from ftclient.cli.downloads import fetch_model
from ftclient.cli.evaluate import write_page
from ftclient.cli.options import BatchSizeOption, EpochsOption, PageOptions, YesOption, with_groups
from ftclient.cli.plan import PricesOption, lay_prices, usd
from ftclient.cli.session import agree, connected, current, err, say, show, show_json
from ftclient.errors import FtclientError

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

    from ftclient.approaches import ApproachName, Audience, Wishes
    from ftclient.client import Client
    from ftclient.cost.plan import Plan
    from ftclient.data import Dataset
    from ftclient.jobs.job import Job

_NOT_OF_CURVES = ("docs", "shots", "passages", "enough", "html", "lang")
"""Options that mean nothing for a learning curve: its models are asked the bare questions, and nothing is advised."""


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """What the untrained approaches put into prompts."""

    docs: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Documents that answers can be looked up in: txt, md, html, pdf."),
    ] = None
    shots: Annotated[int, typer.Option(min=0, max=64, help="Examples in the prompt.")] = 4
    passages: Annotated[int, typer.Option(min=1, max=50, help="Passages in the prompt.")] = 3


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How the trained approaches learn."""

    valid: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="What training looks at along the way."),
    ] = None
    epochs: EpochsOption = None
    batch_size: BatchSizeOption = None
    fractions: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Instead: train on these parts of the data, to see if more would help."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """What may be asked and spent, and how well is well enough."""

    enough: Annotated[
        float,
        typer.Option(min=0, max=1, help="From where on less effort is enough, though more may do a bit better."),
    ] = 0.9
    max_cost: Annotated[
        str | None,
        typer.Option(metavar="USD", help="Refuse if jobs and answers may cost more in all."),
    ] = None
    prices: PricesOption = None
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer.")] = None
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask again what was asked before.")] = False
    yes: YesOption = False


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="[bold]ftclient compare train.jsonl test.jsonl --model smollm2-135m[/bold]\n\n"
        "[bold]ftclient compare train.jsonl test.jsonl --model smollm2-135m --docs handbook --html page.html[/bold]\n\n"
        "[bold]ftclient compare train.jsonl test.jsonl --model smollm2-135m --only base,lora --epochs 4[/bold]\n\n"
        "[bold]ftclient compare train.jsonl test.jsonl --model smollm2-135m --fractions 0.1,0.3,1[/bold]"
    )(with_groups(compare))


def compare(  # noqa: PLR0913 - an argument a group of options
    train: Annotated[Path, typer.Argument(help="What to learn from: chat JSONL.", exists=True, dir_okay=False)],
    test: Annotated[
        Path, typer.Argument(help="Questions with their answers, kept apart.", exists=True, dir_okay=False)
    ],
    context: typer.Context,
    *,
    model: Annotated[str, typer.Option(help="The base model.")],
    only: Annotated[
        str | None, typer.Option(metavar="A,B", help="Of base, examples, rag, head, lora, full. (default: all)")
    ] = None,
    prompts: PromptOptions,
    training: TrainingOptions,
    limits: LimitOptions,
    page: PageOptions,
) -> None:
    """Find out whether to tune at all: the same questions by every approach, with quality, time and cost.

    Jobs and answers are kept: the same call after Ctrl-C, an error, or a crash goes on from there.
    """
    from ftclient.approaches import compare as compare_approaches
    from ftclient.data import Dataset

    wishes, parts = _wishes(_chosen(only), prompts, training, limits), _parts(training.fractions)
    _refuse_what_does_nothing(context, wishes, is_curve=bool(parts))
    with connected() as client, AskingBar() as bar:
        lay_prices(client, limits.prices)
        fetch_model(client, model)
        data = Dataset.read(train), Dataset.read(test)
        audience = _audience(bar, yes=limits.yes)
        if parts:
            _learning_curve(client, *data, model=model, parts=parts, wishes=wishes, audience=audience)
            return
        outcomes = compare_approaches(client, *data, model=model, wishes=wishes, audience=audience)
    write_page(outcomes, page, title=test.name)
    show_json(outcomes.to_json()) if current.as_json else show(outcomes)


def _wishes(
    approaches: tuple[ApproachName, ...] | None, prompts: PromptOptions, training: TrainingOptions, limits: LimitOptions
) -> Wishes:
    from ftclient.approaches import Wishes
    from ftclient.data import Dataset

    return Wishes(
        docs=prompts.docs,
        approaches=approaches,
        valid=Dataset.read(training.valid) if training.valid else None,
        n_shots=prompts.shots,
        n_passages=prompts.passages,
        n_epochs=training.epochs,
        batch_size=training.batch_size,
        good_enough=limits.enough,
        max_cost_usd=usd(limits.max_cost),
        max_tokens=limits.max_tokens,
        fresh=limits.fresh,
    )


def _chosen(only: str | None) -> tuple[ApproachName, ...] | None:
    from ftclient.approaches import ApproachName

    if only is None:
        return None
    names: Any = tuple(name.strip() for name in only.split(",") if name.strip())
    known = get_args(ApproachName)
    if not names or not set(names) <= set(known):
        raise typer.BadParameter(f"choose of {', '.join(known)}", param_hint="--only")
    return names  # type: ignore[no-any-return]  # they are among the known ones


def _parts(fractions: str | None) -> list[float]:
    if fractions is None:
        return []
    try:
        return [float(part) for part in fractions.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            "name parts of 1 with commas between, such as 0.3,1", param_hint="--fractions"
        ) from error


def _refuse_what_does_nothing(context: typer.Context, wishes: Wishes, *, is_curve: bool) -> None:
    """Refuse options that would be passed over in silence, and retrieval without anything to look up."""
    from ftclient.approaches.learning_curve import approach_of

    if not is_curve:
        if "rag" in (wishes.approaches or ()) and wishes.docs is None:
            raise typer.BadParameter("rag looks answers up in your documents: add --docs DIR", param_hint="--only")
        return
    given = [name for name in _NOT_OF_CURVES if _is_given(context, name)]
    if "html" in given:
        raise typer.BadParameter("there is no page of a learning curve", param_hint="--html")
    if given:
        raise typer.BadParameter(
            "it does nothing for a learning curve (--fractions), which asks trained models the bare questions",
            param_hint=", ".join(f"--{name}" for name in given),
        )
    try:
        approach_of(wishes.approaches)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from error


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name not in {"DEFAULT", "DEFAULT_MAP"}


def _learning_curve(client: Client, train: Dataset, test: Dataset, *, parts: list[float], **how: Any) -> None:
    from ftclient.approaches import learning_curve

    try:
        curve = learning_curve(client, train, test, fractions=parts, **how)
    except ValueError as error:
        if isinstance(error, FtclientError):
            raise
        raise typer.BadParameter(str(error), param_hint="--fractions") from error
    show_json(curve.to_json()) if current.as_json else show(curve)


def _audience(bar: AskingBar, *, yes: bool) -> Audience:
    from ftclient.approaches import Audience

    return Audience(tell=say, progress=bar.tell, follow=_follow, agree=partial(_consent, yes=yes))


def _consent(plans: Sequence[Plan], *, yes: bool) -> None:
    """Ask before jobs that cost money are started."""
    from ftclient.cost.words import dollars

    costs = [plan.cost_usd for plan in plans]
    known = sum((cost for cost in costs if cost is not None), Decimal(0))
    cost = dollars(known) if None not in costs else "a price that is not known"
    what = f"{len(plans)} training job{'s' if len(plans) > 1 else ''} ({cost}), and for answers"
    agree(f"Start {what}?", host=current.host, what=what, yes=yes)


def _follow(job: Job) -> FineTuningJob:
    """Show a job in the live view to its end."""
    from ftclient.view.watch import watch

    return watch(job, console=err(), command=current.command)
