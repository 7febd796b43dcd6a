"""`ftclient compare`: prompting, retrieval, transfer learning and fine-tuning on the same test questions."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer
from typing_extensions import Self

from ftclient.cli.downloads import fetch_model
from ftclient.cli.options import YesOption, in_a_folder
from ftclient.cli.plan import PricesOption, lay_prices, usd
from ftclient.cli.session import agree, connected, current, err, say, show, show_json
from ftclient.errors import FtclientError

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob
    from rich.progress import Progress

    from ftclient.client import Client
    from ftclient.cost.plan import Plan
    from ftclient.data import Dataset
    from ftclient.jobs.job import Job


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="[bold]ftclient compare train.jsonl test.jsonl --model smollm2-135m[/bold]\n\n"
        "[bold]ftclient compare train.jsonl test.jsonl --model smollm2-135m --docs handbook --html page.html[/bold]\n\n"
        "[bold]ftclient compare train.jsonl test.jsonl --model smollm2-135m --only base,lora --epochs 4[/bold]\n\n"
        "[bold]ftclient compare train.jsonl test.jsonl --model smollm2-135m --fractions 0.1,0.3,1[/bold]"
    )(compare)


def compare(  # noqa: PLR0913 - an argument an option
    train: Annotated[Path, typer.Argument(help="What to learn from: chat JSONL.", exists=True, dir_okay=False)],
    test: Annotated[
        Path, typer.Argument(help="Questions with their answers, kept apart.", exists=True, dir_okay=False)
    ],
    *,
    model: Annotated[str, typer.Option(help="The base model.")],
    docs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Documents that answers can be looked up in: txt, md, html, pdf.")
    ] = None,
    valid: Annotated[Path | None, typer.Option(metavar="FILE", help="What training looks at along the way.")] = None,
    only: Annotated[
        str | None, typer.Option(metavar="A,B", help="Of base, examples, rag, head, lora, full. (default: all)")
    ] = None,
    shots: Annotated[int, typer.Option(min=0, max=64, help="Examples in the prompt.")] = 4,
    passages: Annotated[int, typer.Option(min=1, max=50, help="Passages in the prompt.")] = 3,
    epochs: Annotated[int | None, typer.Option(min=1, max=50, help="Passes over the training data.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, max=256, help="Examples an optimizer step.")] = None,
    enough: Annotated[
        float, typer.Option(min=0, max=1, help="From where on less effort is enough, though more may do a bit better.")
    ] = 0.9,
    max_cost: Annotated[str | None, typer.Option(metavar="USD", help="Refuse if it may cost more in all.")] = None,
    prices: PricesOption = None,
    fractions: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Instead: train on these parts of the data, to see if more would help."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", callback=in_a_folder, help="Write a page with all answers.")
    ] = None,
    lang: Annotated[Literal["en", "ja"], typer.Option(help="Language of that page.")] = "en",
    yes: YesOption = False,
) -> None:
    """Find out whether to tune at all: the same questions by every approach, with quality, time and cost.

    Jobs and answers are kept: the same call after Ctrl-C, an error, or a crash goes on from there.
    """
    from ftclient.approaches import Audience, Wishes
    from ftclient.approaches import compare as compare_approaches
    from ftclient.data import Dataset

    if fractions and html:
        raise typer.BadParameter("there is no page of a learning curve", param_hint="--html")
    wishes = Wishes(
        docs=docs,
        approaches=_chosen(only),
        valid=Dataset.read(valid) if valid else None,
        n_shots=shots,
        n_passages=passages,
        n_epochs=epochs,
        batch_size=batch_size,
        good_enough=enough,
        max_cost_usd=usd(max_cost),
    )
    with connected() as client, _Bar() as bar:
        lay_prices(client, prices)
        fetch_model(client, model)
        data = Dataset.read(train), Dataset.read(test)
        how: dict[str, Any] = {
            "wishes": wishes,
            "audience": Audience(tell=say, progress=bar.tell, follow=_follow, agree=partial(_consent, yes=yes)),
        }
        if fractions:
            _learning_curve(client, *data, model=model, fractions=fractions, **how)
            return
        outcomes = compare_approaches(client, *data, model=model, **how)
    if html is not None:
        outcomes.to_html(html, title=test.name, lang=lang)
        say(f"Wrote {html}")
    show_json(outcomes.to_json()) if current.as_json else show(outcomes)


def _learning_curve(client: Client, train: Dataset, test: Dataset, *, fractions: str, **how: Any) -> None:
    from ftclient.approaches import learning_curve

    if (how["wishes"].approaches or ("lora",))[0] not in {"head", "lora", "full"}:
        raise typer.BadParameter("parts of the data are for head, lora or full", param_hint="--only")
    try:
        parts = [float(part) for part in fractions.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            "name parts of 1 with commas between, such as 0.3,1", param_hint="--fractions"
        ) from error
    try:
        curve = learning_curve(client, train, test, fractions=parts, **how)
    except ValueError as error:
        if isinstance(error, FtclientError):
            raise
        raise typer.BadParameter(str(error), param_hint="--fractions") from error
    show_json(curve.to_json()) if current.as_json else show(curve)


def _chosen(only: str | None) -> Any:
    from ftclient.approaches import ApproachName

    if only is None:
        return None
    names = tuple(name.strip() for name in only.split(",") if name.strip())
    known = get_args(ApproachName)
    if not names or not set(names) <= set(known):
        raise typer.BadParameter(f"choose of {', '.join(known)}", param_hint="--only")
    return names


def _consent(plans: Sequence[Plan], *, yes: bool) -> None:
    """Ask before jobs that cost money are started."""
    costs = [plan.cost_usd for plan in plans]
    known = sum((cost for cost in costs if cost is not None), Decimal(0))
    cost = f"${known:.2f}" if None not in costs else "a price that is not known"
    what = f"{len(plans)} training job{'s' if len(plans) > 1 else ''} ({cost}), and for answers"
    agree(f"Start {what}?", host=current.host, what=what, yes=yes)


def _follow(job: Job) -> FineTuningJob:
    """Show a job in the live view to its end."""
    from ftclient.view.watch import watch

    return watch(job, console=err(), command=current.command)


class _Bar:
    """A bar of answers on a terminal; it goes away when all have answered, so that jobs can be shown."""

    def __init__(self) -> None:
        self._shown: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._end()

    def tell(self, done: int, total: int) -> None:
        """Move the bar."""
        if not err().is_terminal:
            return
        if self._shown is None:
            self._shown = _new_bar(total)
        self._shown.update(self._shown.task_ids[0], completed=done)
        if done == total:
            self._end()

    def _end(self) -> None:
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.stop()


def _new_bar(total: int) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    bar = Progress(TextColumn("Asking"), BarColumn(), MofNCompleteColumn(), console=err(), transient=True)
    bar.add_task("", total=total)
    bar.start()
    return bar
