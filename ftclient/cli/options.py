"""Arguments and options that several commands share."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from ftclient.data.limits import Method


def _job_id(text: str) -> str:
    """Refuse the empty text that an unset variable of the shell leaves."""
    if not text.strip():
        raise typer.BadParameter("it is empty; `ftclient jobs` lists the ids")
    return text


def _job_ids(given: list[str]) -> list[str]:
    return [_job_id(each) for each in given]


def _positive(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value:g} is no number above 0")
    return value


def in_a_folder(path: Path | None) -> Path | None:
    """Refuse a file to write whose folder is not there, before anything is asked or paid for it."""
    if path is not None and (not path.parent.is_dir() or path.is_dir()):
        raise typer.BadParameter(f"{path.parent} is no folder" if not path.is_dir() else f"{path} is a folder")
    return path


FileArgument = Annotated[
    Path,
    typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, help="A .jsonl file (or .gz, .zst)."),
]
FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where things are kept; made if need be.")]
MethodOption = Annotated[Method, typer.Option(help="What the examples are for.")]
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", callback=_job_id, help="A job's id, as `ftclient jobs` shows it.")
]
JobsArgument = Annotated[
    list[str],
    typer.Argument(metavar="JOB...", callback=_job_ids, help="Ids of jobs, as `ftclient jobs` shows them."),
]
RateOption = Annotated[
    float | None,
    typer.Option(
        "--learning-rate", callback=_positive, help="Absolute rate (local backend, and hosts that read it so)."
    ),
]
MultiplierOption = Annotated[
    float | None, typer.Option("--rate-multiplier", callback=_positive, help="Times the host's own rate.")
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", min=1, max=50, help="Passes over the training data.")]
BatchSizeOption = Annotated[
    int | None, typer.Option("--batch-size", min=1, max=256, help="Examples an optimizer step.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PageOptions:
    """A page of the answers."""

    html: Annotated[
        Path | None, typer.Option(metavar="FILE", callback=in_a_folder, help="Write a page with all answers.")
    ] = None
    lang: Annotated[Literal["en", "ja"], typer.Option(help="Language of that page.")] = "en"


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose parameters that are dataclasses have become options, one for each field.

    Commands that take the same options then share the class, and get an instance of it.
    """
    signature = inspect.signature(command, eval_str=True)
    given = signature.parameters.values()
    groups: dict[str, Any] = {each.name: each.annotation for each in given if dataclasses.is_dataclass(each.annotation)}
    names = {name: [field.name for field in dataclasses.fields(group)] for name, group in groups.items()}

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        made = {name: group(**{each: values.pop(each) for each in names[name]}) for name, group in groups.items()}
        command(**values, **made)

    flat = [each for one in given for each in (_options_of(groups[one.name]) if one.name in groups else (one,))]
    wrapped.__signature__ = signature.replace(parameters=flat)  # type: ignore[attr-defined]  # functools.wraps hides that functions take attributes
    return wrapped


def _options_of(group: type[Any]) -> Iterator[inspect.Parameter]:
    """Yield a keyword-only parameter for each field; those without a default come first, as in the class."""
    hints = get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
        )
