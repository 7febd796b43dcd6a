"""The root of the `ftclient` command: all commands, and what errors mean for the shell."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from ftclient.cli import (
    ask,
    compare,
    demo,
    evaluate,
    feedback,
    job_list,
    jobs,
    keep,
    launch,
    machine,
    plan,
    prepare,
    stock,
    watching,
)
from ftclient.cli import check as check_command
from ftclient.cli.session import BackendOption, HomeOption, JsonOption, current, say, with_globals
from ftclient.errors import (
    BackendError,
    DataError,
    FtclientError,
    JobFailedError,
    JobNotFoundError,
    MissingDependencyError,
    UnsupportedError,
)

FAILED, USAGE, REFUSED = 1, 2, 3
"""Exit codes: data, job or budget; the command line; the backend."""
LEFT = 130
_COLLECTED_AT = (50_000, 20, 50)
"""Python looks for garbage after so many new objects. By its own numbers it would do so hundreds of times while PyTorch
loads, where there is none, for more than a second."""

app = typer.Typer(
    name="ftclient",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Fine-tune language models: on this machine, at OpenAI, or at any host that speaks its API.",
    epilog="Try it: [bold]ftclient demo[/bold]   Your own data: [bold]ftclient check FILE[/bold], then "
    "[bold]ftclient train FILE --model smollm2-135m[/bold]",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        from ftclient import __version__

        typer.echo(f"ftclient {__version__}")
        raise typer.Exit


VersionOption = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]


@app.callback()
def root(
    *,
    backend: BackendOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    version: VersionOption = False,  # noqa: ARG001 - its callback does it
) -> None:
    """Take the options that stand before the command."""
    current.backend, current.home, current.as_json = backend, home, as_json


def _register_all() -> None:
    for module in (
        demo,
        check_command,
        prepare,
        plan,
        launch,
        job_list,
        watching,
        jobs,
        stock,
        ask,
        evaluate,
        compare,
        feedback,
        machine,
        keep,
    ):
        module.register(app)
    for info in app.registered_commands:
        if info.callback:
            info.callback = with_globals(info.callback)


_register_all()


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    gc.set_threshold(*_COLLECTED_AT)
    atexit.register(_leave_garbage)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # no terminal's encoding may end a command
    try:
        app(prog_name="ftclient")
    except FtclientError as error:
        _explain(error)
        _leave(exit_code(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains once more
        _leave(FAILED)
    except KeyboardInterrupt:
        _leave(LEFT)
    except Exception as error:
        if os.environ.get("FTCLIENT_DEBUG"):
            raise
        say(f"Error: {_first_words(error)}\nSet FTCLIENT_DEBUG=1 to see where it comes from.")
        _leave(FAILED)
    _leave(0)


def exit_code(error: FtclientError) -> int:
    """Return what the shell is told about an error."""
    if isinstance(error, JobFailedError):
        return FAILED
    refusals = (BackendError, JobNotFoundError, UnsupportedError, MissingDependencyError)
    return REFUSED if isinstance(error, refusals) else FAILED


def _explain(error: FtclientError) -> None:
    if isinstance(error, DataError) and error.report is not None:
        say(error.report)
    if isinstance(error, MissingDependencyError):
        say(f"This needs further packages. Install them with: {error}")
    else:
        say(f"Error: {current.retell(str(error))}")


def _first_words(error: Exception) -> str:
    text = " ".join(str(error).split())
    words = text if len(text) <= 300 else text[:300] + " ..."  # noqa: PLR2004 - about four lines
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _leave_garbage() -> None:
    """Let the interpreter end without looking through all there is, for which it takes a second with PyTorch loaded."""
    gc.disable()
    gc.freeze()


def _leave(code: int) -> NoReturn:
    sys.exit(code)


__all__: list[Any] = ["app", "exit_code", "main"]
