"""`python -m local_backend serve` answers HTTP; `python -m local_backend run` works on the jobs of a home.

The second is started by whoever creates a job; nobody needs to type it.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from local_backend.settings import Settings, default_cache, default_home

TOKEN_VARIABLE = "FTCLIENT_SERVER_TOKEN"  # noqa: S105 - the name of a variable
"""Holds the token where it is not to stand in the command line, which other users of the machine can read."""

USAGE_ERROR, FAILED = 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the two commands; return its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    from local_backend.store import StoreError

    try:
        command: int = options.command(options)
    except StoreError as error:
        return _say(str(error), FAILED)
    except OSError as error:
        return _say(f"{error.filename or 'The server'}: {error.strerror}", FAILED)
    return command


def serve(options: argparse.Namespace) -> int:
    """Answer HTTP until Ctrl-C or SIGTERM."""
    settings = _settings(options)
    if not is_loopback(options.host) and settings.token is None:
        text = (
            f"{options.host} can be reached from other machines: give a token (--token, or {TOKEN_VARIABLE}) "
            "that requests must carry, or listen on 127.0.0.1."
        )
        return _say(text, USAGE_ERROR)
    trouble = _wrong_alias(settings)
    if trouble:
        return _say(trouble, USAGE_ERROR)
    try:
        listener = _listen(options.host, options.port)
    except OSError as error:
        text = f"Port {options.port} of {options.host} cannot be used ({error.strerror}). Choose another with --port."
        return _say(text, FAILED)
    with listener:
        return _serve(settings, listener, options.host)


def run(options: argparse.Namespace) -> int:
    """Work on the jobs of a home until none is left."""
    from local_backend.runner import Engines, Runner
    from local_backend.start import start_process
    from local_backend.store.database import Store

    settings = _settings(options)
    store = Store(settings.server_dir)

    def make_way() -> None:
        start_process(settings)
        os._exit(FAILED)  # threads of an engine that hangs would keep a milder end waiting

    try:
        runner = Runner(settings, store, Engines(settings), make_way=make_way)
        signal.signal(signal.SIGTERM, lambda *_: runner.stop.set())
        runner.run()
    finally:
        store.close()
    return 0


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _serve(settings: Settings, listener: socket.socket, host: str) -> int:
    import uvicorn

    from local_backend.app import create_app

    app = create_app(settings)
    port = listener.getsockname()[1]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an end like Ctrl-C, with its farewell
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn shuts down in order, then hands the signal on
        print(f"Serving {settings.server_dir} at {_url(host, port)} (Ctrl-C ends it)", file=sys.stderr, flush=True)  # noqa: T201
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=5)
        uvicorn.Server(config).run(sockets=[listener])
    backend = app.state.backend
    going_on = [row.id for row in backend.jobs.unfinished()]
    backend.close()
    print(_farewell(settings, going_on), file=sys.stderr, flush=True)  # noqa: T201
    return 0


def _farewell(settings: Settings, going_on: Sequence[str]) -> str:
    if not going_on:
        return "Stopped. No job is unfinished."
    jobs = ", ".join(going_on)
    if settings.runner == "thread":
        return f"Stopped. When this home is next opened, these jobs go on: {jobs}"
    return f"Stopped. These jobs go on without the server: {jobs}"


def _wrong_alias(settings: Settings) -> str | None:
    """Say which alias leads to no model: at the start, and not when the first job asks for it."""
    from local_backend.models.names import resolve
    from local_backend.task import UserError

    aliases = sorted(settings.aliases.items(), key=lambda pair: pair[1] in settings.aliases)  # ends of chains first
    name = target = ""
    try:
        for name, target in aliases:  # noqa: B007 - told below
            resolve(target, settings=settings)
    except UserError as error:
        return f"--alias {name}={target}: {error.message}"
    return None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    return listener


def _url(host: str, port: int) -> str:
    name = f"[{host.strip('[]')}]" if ":" in host else host
    return f"http://{name}:{port}/v1"


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
    return code


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        home=options.home,
        cache=options.cache,
        engine=options.engine,
        runner=getattr(options, "runner", "process"),
        aliases=dict(getattr(options, "alias", [])),
        token=getattr(options, "token", None),
        allow_local_paths=options.allow_local_paths,
    )


def _alias(text: str) -> tuple[str, str]:
    name, equals, target = text.partition("=")
    if not (name and equals and target):
        raise argparse.ArgumentTypeError("an alias is written NAME=MODEL")
    return name, target


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local_backend", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="serve|run")
    both: dict[str, Any] = {"parents": [_shared_options()]}
    server = commands.add_parser("serve", help="answer HTTP", **both)
    server.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    server.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (%(default)s)")
    server.add_argument("--token", default=os.environ.get(TOKEN_VARIABLE), help=f"required key (or {TOKEN_VARIABLE})")
    server.add_argument("--alias", type=_alias, action="append", default=[], metavar="NAME=MODEL")
    server.add_argument("--runner", choices=("process", "thread"), default="process", help="where jobs run")
    server.set_defaults(command=serve)
    runner = commands.add_parser("run", help="work on the jobs of a home until none is left", **both)
    runner.set_defaults(command=run)
    return parser


def _shared_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--home", type=Path, default=default_home(), help="where everything is kept (%(default)s)")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="downloaded base models (%(default)s)")
    parser.add_argument("--engine", choices=("torch", "simulated"), default="torch", help="what trains (%(default)s)")
    parser.add_argument("--allow-local-paths", action="store_true", help="let `model` be a folder of this machine")
    return parser


if __name__ == "__main__":
    sys.exit(main())
