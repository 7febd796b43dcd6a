"""`ftclient feedback`: what users said to answers, and the training data that it makes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ftclient.cli.session import current, say, show_json, show_table, with_globals

if TYPE_CHECKING:
    from ftclient.feedback import FeedbackStore

_CHARS = 60
_SHOWN_MODELS = 10


def register(app: typer.Typer) -> None:
    """Add the commands."""
    feedback = typer.Typer(no_args_is_help=True, help="Keep what users say to answers, and train on it.")
    feedback.command(
        epilog='[bold]ftclient feedback add --model ft:... --prompt "My lamp flickers." --answer "Buy a new one."'
        ' --correction "Tighten the bulb."[/bold]'
    )(with_globals(add))
    feedback.command("list", epilog="[bold]ftclient feedback list[/bold]")(with_globals(list_feedback))
    feedback.command(
        epilog="[bold]ftclient feedback export --to next.jsonl --with train.jsonl[/bold]\n\n"
        "[bold]ftclient feedback export --kind preferences --to pairs.jsonl[/bold]"
    )(with_globals(export))
    app.add_typer(feedback, name="feedback")


def add(
    *,
    model: Annotated[str, typer.Option(help="Who answered.")],
    prompt: Annotated[str, typer.Option(help="What was asked.")],
    answer: Annotated[str, typer.Option(help="What was answered.")],
    system: Annotated[str | None, typer.Option(help="The system message before it.")] = None,
    verdict: Annotated[Literal["good", "bad"] | None, typer.Option(help="A thumb up or down.")] = None,
    correction: Annotated[str | None, typer.Option(help="What should have been answered.")] = None,
    note: Annotated[str | None, typer.Option(help="Anything else.")] = None,
) -> None:
    """Keep what somebody said to an answer. Personal data are replaced by placeholders first."""
    before = [{"role": "system", "content": system}] if system else []
    kept = _store().add(
        model=model,
        messages=[*before, {"role": "user", "content": prompt}],
        answer=answer,
        verdict=verdict,
        correction=correction,
        note=note,
    )
    if current.as_json:
        show_json(kept.to_json())
        return
    redacted = f"; {kept.n_redacted} pieces of personal data were replaced" if kept.n_redacted else ""
    say(f"{kept.id} kept{redacted}.")


def list_feedback(*, model: Annotated[str | None, typer.Option(help="Only of this model's answers.")] = None) -> None:
    """List what was said, oldest first."""
    found = _store().all(model=model)
    if not found:
        say(_none(model))
    if current.as_json:
        show_json([each.to_json() for each in found])
    elif found:
        rows = [
            (each.id, each.verdict or "", "yes" if each.correction else "", each.model, each.answer[:_CHARS])
            for each in found
        ]
        show_table(("feedback", "verdict", "corrected", "model", "answer"), rows, is_prose=True)


def _none(model: str | None) -> str:
    """Return in words that there is no feedback, and whom there is some for."""
    others = _store().models() if model else {}
    if not others:
        return "There is no feedback yet."
    shown = ", ".join(f"{name} ({n})" for name, n in list(others.items())[:_SHOWN_MODELS])
    more = f", and {len(others) - _SHOWN_MODELS} more" if len(others) > _SHOWN_MODELS else ""
    return f"There is no feedback on answers of {model}. Models that have some: {shown}{more}."


def export(
    *,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The file to write: .jsonl or .jsonl.gz.")],
    kind: Annotated[
        Literal["supervised", "preferences"], typer.Option(help="What should be said; or better and worse, for DPO.")
    ] = "supervised",
    base: Annotated[
        Path | None,
        typer.Option(
            "--with", metavar="FILE", help="Examples that go in too.", exists=True, dir_okay=False, show_default=False
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only feedback to this model.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of this name.")] = False,
) -> None:
    """Make training data of feedback: of two things said to the same answer, the last one counts."""
    from ftclient.errors import DataError
    from ftclient.feedback.merge import write

    found = _store().all(model=model)
    if not found:
        raise DataError(_none(model))
    merged = write(_home(), found, kind=kind, to=to, base=base, overwrite=overwrite)
    if current.as_json:
        show_json(merged.to_json())
        return
    replaced = f", {merged.n_replaced} old ones replaced" if merged.n_replaced else ""
    say(f"{to}: {merged.n_examples} examples, {merged.n_new} from feedback{replaced}.")


def _home() -> Path:
    from ftclient.home import default_home

    return current.home or default_home()


def _store() -> FeedbackStore:
    from ftclient.feedback import FeedbackStore

    return FeedbackStore(_home())
