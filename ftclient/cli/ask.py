"""`ftclient chat`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftclient.cli.downloads import fetch_model
from ftclient.cli.session import connected, current, err, say, show_json

if TYPE_CHECKING:
    from ftclient.client import Client


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog='[bold]ftclient chat smollm2-135m "What is the capital of France?"[/bold]\n\n'
        "[bold]ftclient chat MODEL < question.txt[/bold]"
    )(chat)


def chat(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A base or tuned model.")],
    prompt: Annotated[str | None, typer.Argument(metavar="[PROMPT]", help="What to say; without it, a talk.")] = None,
    *,
    system: Annotated[str | None, typer.Option(help="A system message before it.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="0 gives always the same answer.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the answer repeatable.")] = None,
) -> None:
    """Talk to a model: one question, what comes in by a pipe, or line by line."""
    given = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    options = {name: value for name, value in given.items() if value is not None}
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
    if prompt is not None and not prompt.strip():
        raise typer.BadParameter("there is nothing in it to be answered", param_hint="PROMPT")
    with connected() as client:
        fetch_model(client, model)
        if prompt is None:
            _talk(client, model, system, options)
        elif current.as_json:
            show_json({"model": model, "content": client.chat(model, prompt, system=system, **options)})
        else:
            _print_answer(client, model, [{"role": "user", "content": prompt}], system, options)


def _talk(client: Client, model: str, system: str | None, options: dict[str, Any]) -> None:
    say("An empty line ends the talk.")
    messages: list[dict[str, str]] = []
    while True:
        err().print("> ", end="")
        said = sys.stdin.readline().strip()
        if not said:
            return
        messages.append({"role": "user", "content": said})
        answer = _print_answer(client, model, messages, system, options)
        messages.append({"role": "assistant", "content": answer})


def _print_answer(
    client: Client, model: str, messages: list[dict[str, str]], system: str | None, options: dict[str, Any]
) -> str:
    pieces = []
    for piece in client.chat_stream(model, messages, system=system, **options):
        pieces.append(piece)
        typer.echo(_visible(piece), nl=False)
    typer.echo()
    return "".join(pieces)


def _visible(text: str) -> str:
    """Return a model's text without what could move a terminal's cursor."""
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in text)
