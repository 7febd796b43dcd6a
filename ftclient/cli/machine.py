"""`ftclient serve` and `ftclient doctor`."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, NoReturn

import typer

from ftclient.cli.session import connected, current, show, show_json
from ftclient.errors import FtclientError, MissingDependencyError

_LEAST_FREE_BYTES = 100 * 10**6
"""Less than this holds neither a checkpoint of a small model nor the store's own log for long."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="[bold]ftclient serve --port 8000[/bold]\n\n"
        "[bold]ftclient serve --host 0.0.0.0 --token $SECRET[/bold]  for other machines"
    )(serve)
    app.command(epilog="[bold]ftclient doctor[/bold]\n\n[bold]ftclient --backend openai doctor[/bold]")(doctor)


def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")] = 8000,
    engine: Annotated[Literal["torch", "simulated"], typer.Option(help="What trains and answers.")] = "torch",
    alias: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MODEL", help="A further name of a model, such as gpt-4o-mini=smollm2-135m."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="FTCLIENT_SERVER_TOKEN", help="Key that callers must send; needed beyond this machine."),
    ] = None,
    allow_local_paths: Annotated[
        bool, typer.Option("--allow-local-paths", help="Let a model be a folder of this machine.")
    ] = False,
) -> None:
    """Serve the API of OpenAI from this machine, for any program that can call it."""
    from importlib.util import find_spec

    if find_spec("fastapi") is None:
        raise MissingDependencyError('pip install "ftclient[local]"')
    command = [sys.executable, "-m", "local_backend", "serve", "--host", host, "--port", str(port), "--engine", engine]
    for each in alias or []:
        name, _, model = each.partition("=")
        if not (name and model):
            raise typer.BadParameter(f"{each!r} is not written NAME=MODEL", param_hint="--alias")
        command += ["--alias", each]
    if allow_local_paths:
        command.append("--allow-local-paths")
    if current.home:
        command += ["--home", str(current.home)]
    environment = dict(os.environ)
    if token:
        environment["FTCLIENT_SERVER_TOKEN"] = token  # not as an argument: others can read those
    _become(command, environment)


def _become(command: list[str], environment: dict[str, str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, environment)  # noqa: S606 - our own interpreter, no shell


class Finding(NamedTuple):
    """One thing that works or does not."""

    name: str
    ok: bool
    text: str


def _works(name: str, text: str) -> Finding:
    return Finding(name=name, ok=True, text=text)


def _fails(name: str, text: str) -> Finding:
    return Finding(name=name, ok=False, text=text)


def doctor() -> None:
    """Say what works here: versions, home, vocabularies, and the backend with its device and models."""
    findings = list(_findings())
    if current.as_json:
        show_json({each.name: {"ok": each.ok, "text": each.text} for each in findings})
    else:
        _show(findings)
    raise typer.Exit(0 if all(each.ok for each in findings) else 3)


def _findings() -> Iterator[Finding]:
    from ftclient import __version__

    yield _works("ftclient", f"{__version__} on Python {platform.python_version()}, {platform.platform()}")
    yield _home()
    yield _vocabulary()
    yield from _backend()


def _home() -> Finding:
    from ftclient.cost.words import size
    from ftclient.home import default_home, open_home

    home = current.home or default_home()
    try:
        open_home(home)
        free = os.statvfs(home).f_frsize * os.statvfs(home).f_bavail
    except OSError as error:
        return _fails("home", f"{home}: {error.strerror}. Choose another with --home.")
    if free < _LEAST_FREE_BYTES:
        return _fails("home", f"{home}: only {size(free)} are free. Make room, or choose another with --home.")
    return Finding(name="home", ok=os.access(home, os.W_OK), text=f"{home}, {size(free)} free")


def _vocabulary() -> Finding:
    from ftclient.data.tokens import count_example

    try:
        count_example({"messages": [{"role": "user", "content": "hello"}]})
    except LookupError as error:
        return _fails("tokens", str(error))
    return _works("tokens", "the vocabularies of OpenAI's models are at hand")


def _backend() -> Iterator[Finding]:
    try:
        with connected() as client:
            machine = client.machine()
            n_models = len(client.models())
    except MissingDependencyError as error:
        yield _fails("backend", f"the local backend is not installed: {error}")
        return
    except FtclientError as error:
        yield _fails("backend", str(error))
        return
    yield _works("backend", f"{current.backend_name}: {n_models} models")
    if machine:
        yield _works("machine", _machine(machine))


def _machine(found: dict[str, Any]) -> str:
    from ftclient.cost.words import size

    runner = found.get("runner") or {}
    parts = [
        f"{found.get('engine')} on {found['device']}" if found.get("device") else f"{found.get('engine')} engine",
        f"{found.get('precision')} ({found.get('precision_reason')})" if found.get("precision") else "",
        f"torch {found.get('torch')}" if found.get("torch") else "",
        f"{found.get('threads')} threads" if found.get("threads") else "",
        f"{size(found.get('memory_bytes') or 0)} memory",
        f"running {runner.get('job')}" if runner.get("job") else "no job running",
    ]
    return ", ".join(part for part in parts if part)


def _show(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for each in findings:
        mark = Text("ok", style="green") if each.ok else Text("no", style="red")
        table.add_row(mark, each.name, Text(each.text))
    show(table)
