"""`ftclient train`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typing_extensions import Self

from ftclient.cli.job_options import JobOptions, LearningOptions, planned
from ftclient.cli.options import FileArgument, YesOption, with_groups
from ftclient.cli.plan import PricesOption, lay_prices, usd
from ftclient.cli.session import agree, as_object, connected, current, err, is_attended, say, show, show_json

if TYPE_CHECKING:
    from openai.types import FileObject

    from ftclient.client import Client
    from ftclient.cost.plan import Plan
    from ftclient.hosts import Host
    from ftclient.jobs.job import Job
    from ftclient.jobs.upload import Reuse

ReuseChoice = Literal["ask", "yes", "no"]
_BIG_BYTES = 1 << 20
"""Smaller uploads are over before a bar is read."""


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """How it is started."""

    detach: Annotated[bool, typer.Option("--detach", help="Start, say the job's id, and leave.")] = False
    reuse: Annotated[
        ReuseChoice | None,
        typer.Option(help="Whether to use a file of the same bytes that the host has; else it is asked on a terminal."),
    ] = None
    run_id: Annotated[
        str | None,
        typer.Option(
            "--run-id",
            metavar="NAME",
            help="A name for this launch: the same command again takes up its job, another name starts another.",
        ),
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="[bold]ftclient train support.jsonl --model smollm2-135m --valid 10% --epochs 4[/bold]\n\n"
        "[bold]ftclient --backend openai train support.jsonl --model gpt-4.1-mini --max-cost 5 --detach[/bold]"
    )(with_groups(train))


def train(
    file: FileArgument,
    *,
    job: JobOptions,
    learning: LearningOptions,
    start: StartOptions,
    max_cost: Annotated[str | None, typer.Option("--max-cost", metavar="USD", help="Refuse if it costs more.")] = None,
    prices: PricesOption = None,
    yes: YesOption = False,
) -> None:
    """Check, plan and start a job, and watch it to its end. Ctrl-C leaves the view; the job goes on."""
    limit = usd(max_cost)
    with connected() as client:
        lay_prices(client, prices)
        made = planned(client, file, job, learning)
        say(made)
        if limit is not None:
            made.check_budget(limit)
        consent(made, yes=yes)
        reuse = "no" if yes and not start.reuse else start.reuse
        _show(_started(client, made, limit, reuse=reuse, run_id=start.run_id), detach=start.detach)


def _started(
    client: Client, made: Plan, limit: Decimal | None, *, reuse: ReuseChoice | None, run_id: str | None
) -> Job:
    from ftclient.errors import FtclientError

    try:
        with _UploadBar(made) as bar:
            who = _reuse(reuse, client.host, bar)
            return client.train(made, max_cost_usd=limit, run_id=run_id, progress=bar, reuse=who, tell=say)
    except FtclientError:
        raise
    except ValueError as error:
        if run_id is None:
            raise
        raise typer.BadParameter(str(error), param_hint="--run-id") from error


def _show(job: Job, *, detach: bool) -> None:
    from ftclient.cli.watching import finish

    if not detach:
        finish(job)
    if current.as_json:
        show_json(as_object(job.latest))
    else:
        show(job.id)
        say(f"The job goes on by itself. Watch it with: {current.command} watch {job.id}")


def consent(made: Plan, *, yes: bool) -> None:
    """Ask before money is spent; where nobody can be asked, refuse."""
    agree(f"Start this job at {made.host.title}?", host=made.host, what="this job", yes=yes)


def _reuse(wanted: ReuseChoice | None, host: Host, bar: _UploadBar) -> Reuse | None:
    """Return who decides whether a file of the same bytes that somebody else uploaded is used; None never uses one.

    What files are there is asked only of hosts that charge, unless it was said; files of the local backend are free.
    """
    if wanted == "yes":
        return lambda _: True
    if wanted == "no" or (wanted is None and (host.is_local or not is_attended())):
        return None
    if not is_attended():
        raise typer.BadParameter("nobody is here to be asked: say yes or no", param_hint="--reuse")

    def ask(file: FileObject) -> bool:
        bar.stop()
        from ftclient.view.words import printable

        name = printable(file.filename or "a file without a name")
        return typer.confirm(f"{host.title} has these bytes already, as {name} ({file.id}). Use that file?", err=True)

    return ask


class _UploadBar:
    """A bar for large uploads, on a terminal; it stands only while bytes are sent, so that questions can be asked."""

    def __init__(self, made: Plan) -> None:
        data = [made.request.train, made.request.valid]
        self._wanted = err().is_terminal and sum(each.size_bytes for each in data if each) >= _BIG_BYTES
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __call__(self, sent: int, total: int) -> None:
        """Show how many bytes have been sent."""
        if not self._wanted:
            return
        if self._bar is None:
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

            self._bar = Progress(TextColumn("Uploading"), BarColumn(), DownloadColumn(), console=err(), transient=True)
            self._bar.add_task("")
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=sent, total=total)
        if sent >= total:
            self.stop()

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
