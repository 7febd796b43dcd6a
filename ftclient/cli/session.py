"""What the global options say, and where output goes: data to stdout, everything else to stderr."""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ftclient.client import Client
    from ftclient.hosts import Host

BackendOption = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME|URL",
        help="local, openai, azure, nebius, crusoe, or the address of a server. (else $FTCLIENT_BACKEND, else local)",
        rich_help_panel="Global options",
    ),
]
HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="Where jobs, files and models are kept. (else $FTCLIENT_HOME, else your data folder)",
        rich_help_panel="Global options",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print data as JSON on stdout.", rich_help_panel="Global options"),
]
_PIPE_COLUMNS = 250
_LAST_COLUMNS = 20
"""A last column narrower than this is hard to read."""
_GLOBALS = {"backend": (BackendOption, None), "home": (HomeOption, None), "as_json": (JsonOption, False)}


@dataclass
class Session:
    """The global options of this call."""

    backend: str | None = None
    home: Path | None = None
    as_json: bool = False

    def take(self, given: dict[str, Any]) -> None:
        """Take over options that were given; those after the command win."""
        for name, value in given.items():
            if value:
                setattr(self, name, value)

    @property
    def backend_name(self) -> str:
        """The backend that was named, here or in the environment."""
        return self.backend or os.environ.get("FTCLIENT_BACKEND") or "local"

    @property
    def names_backend(self) -> bool:
        """Whether anybody has named a backend, so that it is not just the default."""
        return bool(self.backend or os.environ.get("FTCLIENT_BACKEND"))

    @property
    def command(self) -> str:
        """What to type for another command at the same backend: options of this call have to be repeated."""
        given = {"--backend": self.backend, "--home": self.home}
        options = [part for name, value in given.items() if value for part in (name, str(value))]
        return shlex.join(["ftclient", *options])

    def retell(self, text: str) -> str:
        """Return a text of the library with the commands that it names as they are typed for this backend."""
        return re.sub(r"`ftclient (?=(?:jobs|watch|resume|train|keep)\b)", lambda _: f"`{self.command} ", text)

    @property
    def host(self) -> Host:
        """The host that was named; nothing is connected.

        Raises:
            typer.BadParameter: There is no such backend.
        """
        from ftclient import hosts

        try:
            return (
                hosts.host_at(self.backend_name) if "://" in self.backend_name else hosts.host_named(self.backend_name)
            )
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--backend") from error


current = Session()
"""The session of this process."""


@contextmanager
def connected(*, keyless: bool = False) -> Iterator[Client]:
    """Give a client for the chosen backend, and close it in the end.

    Args:
        keyless: Go on without an API key; what needs one then fails at the host.
    """
    from ftclient.client import Client
    from ftclient.errors import AuthError, FtclientError

    assert current.host  # noqa: S101 - an unknown backend is a mistake on the command line
    try:
        if current.backend is None:
            client = Client.from_env(home=current.home)
        else:
            client = Client.named(current.backend, home=current.home)
    except AuthError:
        if not keyless:
            raise
        client = Client.named(current.backend_name, home=current.home, api_key="none")
    except FtclientError:
        raise
    except ValueError as error:  # the address of a host is not set
        raise typer.BadParameter(str(error), param_hint="--backend") from error
    with client:
        yield client


def is_attended() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agree(question: str, *, host: Host, what: str, yes: bool) -> None:
    """Ask before money is spent at `host`; `what` is what it charges for, and `yes` the answer given beforehand.

    Raises:
        BudgetError: Nobody can be asked.
        typer.Exit: The answer was no.
    """
    from ftclient.errors import BudgetError

    if host.is_local or yes:
        return
    if not is_attended():
        raise BudgetError(f"{host.title} charges for {what}, and nobody is here to agree. Pass --yes.")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def with_globals(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the global options too, beside its own."""
    signature = inspect.signature(command, eval_str=True)
    missing = {name: option for name, option in _GLOBALS.items() if name not in signature.parameters}

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        current.take({name: given.pop(name) for name in missing})
        current.take({name: given[name] for name in _GLOBALS if name in given})
        command(**given)

    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in missing.items()
    ]
    wrapped.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *more])  # type: ignore[attr-defined]  # functools.wraps hides that functions take attributes
    return wrapped


def show_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    text = json.dumps(value, indent=2, ensure_ascii=encoding != "utf8", default=str)
    typer.echo(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def show(*renderables: Any) -> None:
    """Print something on stdout by rich; plain strings are not read as markup."""
    for each in renderables:
        _print(out(), each)


def say(text: Any) -> None:
    """Tell people something, on stderr."""
    _print(err(), text)


def _print(console: Console, each: Any) -> None:
    if isinstance(each, str):
        console.print(each, markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(each, highlight=False)


@functools.lru_cache(maxsize=1)
def err() -> Console:
    """Return the console behind stderr."""
    from rich.console import Console

    return Console(stderr=True)


@functools.lru_cache(maxsize=1)
def out() -> Console:
    """Return the console behind stdout; in a pipe, lines are long enough that no id is broken."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_PIPE_COLUMNS)


def show_table(names: Sequence[str], rows: Iterable[Sequence[str]], *, is_prose: bool = False) -> None:
    """Print columns on stdout; all but the last stay whole, so that ids can be copied.

    Args:
        names: Of the columns.
        rows: A cell for each column.
        is_prose: The last column is text to read: where there is no room for it, it goes on lines of its own.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ftclient.view.words import printable

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name != names[-1])
    cells = [[Text(printable(cell)) for cell in row] for row in rows]
    for row in cells:
        table.add_row(*row)
    widths = [max(len(name), *(row[at].cell_len for row in cells), 0) for at, name in enumerate(names)]
    before, last = sum(widths[:-1]) + 2 * (len(names) - 1), widths[-1]
    if out().width - before >= min(last, _LAST_COLUMNS):
        out().print(table)
    elif is_prose:
        _show_above_prose(cells, widths[:-1])
    else:
        Console(width=before + last).print(table)  # lines that a narrow terminal wraps are better than ids cut short


def _show_above_prose(rows: Sequence[Sequence[Text]], widths: Sequence[int]) -> None:
    """Print the last cell of each row under the others, as wide as the terminal is."""
    from rich.padding import Padding

    for *before, prose in rows:
        padded = [f"{cell.plain}{' ' * (width - cell.cell_len)}" for cell, width in zip(before, widths, strict=True)]
        show("  ".join(padded).rstrip(), Padding(prose, (0, 0, 0, 4)))


def as_object(model: Any) -> dict[str, Any]:
    """Return an object of the API as it came, with the fields that the official client does not know."""
    found: dict[str, Any] = model.to_dict(mode="json")
    return found
