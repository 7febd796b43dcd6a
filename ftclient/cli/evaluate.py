"""`ftclient evaluate`: models on a held-out file, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftclient.cli.asking_bar import AskingBar
from ftclient.cli.downloads import fetch_model
from ftclient.cli.options import FileArgument, PageOptions, with_groups
from ftclient.cli.plan import PricesOption, lay_prices, usd
from ftclient.cli.session import connected, current, say, show, show_json

if TYPE_CHECKING:
    from ftclient.approaches import Outcomes
    from ftclient.client import Client
    from ftclient.evaluate.compare import Comparison


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="[bold]ftclient evaluate test.jsonl --models smollm2-135m,ft:smollm2-135m:personal::a1b2c3d4[/bold]\n\n"
        "[bold]ftclient evaluate test.jsonl --models gpt-4.1-mini,ft:gpt-4.1-mini:acme::a1b2c3d4"
        " --max-cost 2 --html page.html[/bold]"
    )(with_groups(evaluate))


def evaluate(  # noqa: PLR0913 - an argument an option
    file: FileArgument,
    *,
    models: Annotated[str, typer.Option("--models", metavar="A,B", help="Models to compare, with commas between.")],
    grader: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A grader as JSON, in OpenAI's form; models are compared by its rewards."),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A model that says whose answers are better.")
    ] = None,
    page: PageOptions,
    max_cost: Annotated[str | None, typer.Option(metavar="USD", help="Refuse if it may cost more.")] = None,
    prices: PricesOption = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer.")] = None,
    perplexity: Annotated[
        bool | None, typer.Option(help="How likely models find the expected answers. (default: for free text)")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Questions under way at once.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask again what was asked before.")] = False,
) -> None:
    """Ask models the questions of a held-out file and compare their answers with the expected ones.

    Answers are kept as they come: the same call after Ctrl-C, an error, or a crash asks only for the rest.
    """
    from ftclient.data import Dataset

    names = [name.strip() for name in models.split(",") if name.strip()]
    if not names:
        raise typer.BadParameter("name at least one model", param_hint="--models")
    if judge and len(set(names)) == 1:
        raise typer.BadParameter("it compares answers: name two models or more", param_hint="--judge")
    wishes: dict[str, Any] = {
        "judge": judge,
        "max_cost_usd": usd(max_cost),
        "max_tokens": max_tokens,
        "perplexity": perplexity,
    }
    wishes |= {"fresh": fresh, "workers": workers, "grader": _read_grader(grader) if grader else None}
    with connected() as client:
        lay_prices(client, prices)
        for name in [*names, *([judge] if judge else [])]:
            fetch_model(client, name)
        comparison = with_bar(client, Dataset.read(file), names, **wishes)
    write_page(comparison, page, title=file.name)
    show_json(comparison.to_json()) if current.as_json else show(comparison)


def write_page(found: Comparison | Outcomes, page: PageOptions, *, title: str) -> None:
    """Write the page that was asked for, if one was."""
    if page.html is not None:
        found.to_html(page.html, title=title, lang=page.lang)
        say(f"Wrote {page.html}")


def with_bar(client: Client, data: Any, models: list[str], **wishes: Any) -> Comparison:
    """Return the comparison of `models` on `data`, with what it may cost before, and a bar while they answer."""
    with AskingBar() as bar:
        bar.start()
        return client.evaluate(
            data,
            models=models,
            progress=bar.tell,
            announce=lambda spending: say(spending.text),
            tell=say,
            **wishes,
        )


def _read_grader(path: Path) -> Any:
    from ftclient.errors import DataError
    from ftclient.evaluate.graders import read_grader

    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}.") from error
    return read_grader(value.get("grader", value) if isinstance(value, dict) else value, source=str(path))
