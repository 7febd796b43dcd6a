"""`ftclient convert`, `clean`, `split` and `report`: data before it is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from ftclient.cli.options import FileArgument, MethodOption
from ftclient.cli.session import connected, current, err, say, show, show_json
from ftclient.data.limits import Limits, Method

if TYPE_CHECKING:
    from ftclient.data import Report
    from ftclient.data.clean import CleanedFile
    from ftclient.data.convert import Columns, Conversion
    from ftclient.data.convert.recognise import Kind
    from ftclient.data.describe import Description, Render
    from ftclient.data.split_files import FileLeak, Part

_TABLES = frozenset({".csv", ".tsv", ".parquet"})
_SHOWN_SKIPPED = 10
_SHOWN_LABELS = 8
_PERCENT = 100

ToOption = Annotated[Path | None, typer.Option("--to", metavar="FILE", help="The new file.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="[bold]ftclient convert mails.csv[/bold]  shows what would come out\n\n"
        '[bold]ftclient convert mails.xlsx --prompt "{subject}: {body}" --answer category --to mails.jsonl[/bold]\n\n'
        "[bold]ftclient convert photos/ --shrink 512 --to photos.jsonl[/bold]  images, one folder a class\n\n"
        "[bold]ftclient convert mails.jsonl --to mails.parquet[/bold]  goes the other way"
    )(convert)
    app.command(
        epilog="[bold]ftclient clean mails.jsonl --fix[/bold]\n\n"
        "[bold]ftclient clean mails.jsonl --step width,redact,near_duplicates --to clean.jsonl[/bold]"
    )(clean)
    app.command(
        epilog="[bold]ftclient split mails.jsonl --shares 80,10,10 --seed 7[/bold]\n\n"
        "[bold]ftclient split test.jsonl --leaks train.jsonl[/bold]  compares two files and writes nothing"
    )(split)
    app.command(
        epilog="[bold]ftclient report mails.jsonl --model gpt-4.1-mini --html mails.html[/bold]\n\n"
        "[bold]ftclient report mails.jsonl --lang ja[/bold]"
    )(report)


def convert(  # noqa: PLR0913  each is an option of the command line
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="CSV, TSV, Excel, Parquet, JSON, JSONL, ChatGPT's export, a folder of images by class, hf:owner/name.",
        ),
    ],
    *,
    to: ToOption = None,
    prompt: Annotated[str | None, typer.Option(help='Column that asks, or a template such as "{a}: {b}".')] = None,
    answer: Annotated[str | None, typer.Option(help="Column that answers, or a template.")] = None,
    answer_json: Annotated[str | None, typer.Option(help="Columns that make the answer a JSON object: a,b,c.")] = None,
    label_separator: Annotated[str | None, typer.Option(help="What separates several labels in the answer.")] = None,
    image: Annotated[str | None, typer.Option(help="Column with an image file (below the table) or address.")] = None,
    shrink: Annotated[int | None, typer.Option(min=16, metavar="PX", help="Longest side of images.")] = None,
    system: Annotated[str | None, typer.Option(help="Instructions: a text, a column or a template.")] = None,
    kind: Annotated[str | None, typer.Option(help="What the source is, where its name misleads.")] = None,
    sheet: Annotated[str | None, typer.Option(help="Sheet of a workbook, by name or number from 0.")] = None,
    split: Annotated[str, typer.Option(help="Split of a Hugging Face dataset.")] = "train",
    overwrite: OverwriteOption = False,
) -> None:
    r"""Turn tables, collections and exports into training examples, and examples into tables.

    Says what the source is and why. Without --to nothing is written and the first examples are shown.
    """
    if to is not None and to.suffix in _TABLES:
        _export(source, to, overwrite=overwrite)
        return
    from ftclient.data.convert import KINDS, Columns, convert_file, preview, recognise

    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"one of {', '.join(KINDS)}", param_hint="--kind")
    if not source.startswith("hf:") and not Path(source).exists():
        raise typer.BadParameter(f"There is no file {source}.", param_hint="SOURCE")
    place: Any = int(sheet) if sheet and sheet.isdecimal() else sheet or 0
    recognition = recognise(source, kind=cast("Kind | None", kind), sheet=place, split=split)
    say(str(recognition))
    names = tuple(name.strip() for name in answer_json.split(",")) if answer_json else ()
    columns = Columns(
        prompt=_unescaped(prompt),
        answer=_unescaped(answer),
        answer_json=names,
        system=_unescaped(system),
        image=image,
        label_separator=label_separator,
        shrink_px=shrink,
    )
    if to is None:
        _show_conversion(preview(source, columns=columns, recognition=recognition))
        return
    with _counting("records read") as progress:
        done = convert_file(
            source, to=to, columns=columns, recognition=recognition, overwrite=overwrite, progress=progress
        )
    _show_conversion(done)
    raise typer.Exit(0 if done.n_written else 1)


def clean(  # noqa: PLR0913  each is an option of the command line
    file: FileArgument,
    *,
    to: ToOption = None,
    step: Annotated[
        list[str] | None,
        typer.Option(
            help="Further steps, several with commas or by repeating: html, width, white_space, labels, redact, "
            "duplicates, near_duplicates, too_long."
        ),
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what `check` finds; set aside what cannot be mended.")
    ] = False,
    safe: Annotated[bool, typer.Option(help="The steps unicode, controls, line_ends, roles and keys.")] = True,
    model: Annotated[str | None, typer.Option(help="The model whose context the step too_long keeps to.")] = None,
    method: MethodOption = "supervised",
    too_long: Annotated[
        Literal["cut", "drop"], typer.Option(help="What becomes of examples that are too long.")
    ] = "cut",
    similarity: Annotated[float, typer.Option(min=0.1, max=1, help="From here on two examples are near.")] = 0.8,
    presidio: Annotated[bool, typer.Option("--presidio", help="Find names and places, too (extra presidio).")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Clean a file into a new one, with a list of every change: line, path, before and after.

    Steps that keep the meaning are done always, others by --step. Exit code 1: with --fix, errors are left.
    """
    from ftclient.data.clean import SAFE_STEPS, STEPS, clean_file

    steps = [name.strip() for given in step or () for name in given.split(",")]
    for name in steps:
        if name not in STEPS:
            raise typer.BadParameter(
                f"There is no step {name!r}; the steps are {', '.join(STEPS)}.", param_hint="--step"
            )
    options: dict[str, Any] = {"method": method, "too_long": too_long, "similarity": similarity}
    options |= _length_options(model, method) if "too_long" in steps else {"limits": _limits(model)}
    if presidio:
        from ftclient.data.redact import presidio_finder

        options["finder"] = presidio_finder()
    target = to or file.with_name(f"{file.name.partition('.jsonl')[0]}.clean.jsonl")
    chosen = [*(SAFE_STEPS if safe else ()), *steps]
    done = clean_file(file, to=target, steps=chosen, fix=fix, overwrite=overwrite, **options)
    left = _check(target, method, options["limits"]) if fix else None
    _show_cleaned(done, left)
    raise typer.Exit(0 if left is None or left.ok else 1)


def split(
    file: FileArgument,
    *,
    shares: Annotated[str, typer.Option(help="Sizes of the parts in percent.")] = "80,10,10",
    seed: Annotated[int, typer.Option(help="Another seed gives another split.")] = 7,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", file_okay=False, help="Folder of the parts.")
    ] = None,
    group_by: Annotated[str | None, typer.Option(help="Key whose values must not be in two parts.")] = None,
    label_by: Annotated[str | None, typer.Option(help="Key to balance, instead of the answers.")] = None,
    leaks: Annotated[
        Path | None, typer.Option("--leaks", exists=True, metavar="OTHER", help="Find shared prompts.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Split a file so that no part knows another, or find what two files share.

    The parts have the same mix of labels; near-duplicates and turns of one conversation stay together. With --leaks
    nothing is written, and exit code 1 means that there are leaks.
    """
    from ftclient.data.split_files import leaks_between, split_file

    if leaks is not None:
        found = leaks_between(file, leaks)
        _show_leaks(found, leaks)
        raise typer.Exit(1 if found else 0)
    parts = split_file(
        file, _shares(shares), to=to, seed=seed, group_by=group_by, label_by=label_by, overwrite=overwrite
    )
    _show_parts(parts)


def report(
    file: FileArgument,
    *,
    model: Annotated[str | None, typer.Option(help="The model to be tuned: how tokens are counted and shown.")] = None,
    method: MethodOption = "supervised",
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one page with plots, too.")] = None,
    lang: Annotated[Literal["en", "ja"], typer.Option(help="Language of the report.")] = "en",
) -> None:
    """Say what a dataset is like and what to mend first: here, as JSON, or as one HTML page."""
    description = _described(file, model, method)
    if html is not None:
        description.write_html(html, lang=lang)
        say(f"Written: {html}")
    if current.as_json:
        show_json(description.to_json())
        return
    from ftclient.data.describe.terminal import render

    show(render(description, lang=lang))


def _export(source: str, to: Path, *, overwrite: bool) -> None:
    from ftclient.data.convert import export_table

    n_rows = export_table(source, to=to, overwrite=overwrite)
    if current.as_json:
        show_json({"to": str(to), "n_rows": n_rows})
    else:
        show(f"{n_rows:,} rows written to {to}")


def _unescaped(template: str | None) -> str | None:
    r"""A template as it was meant: shells have no easy way to write a line end but `\n`."""
    return None if template is None else template.replace("\\n", "\n").replace("\\t", "\t")


def _show_conversion(done: Conversion) -> None:
    if current.as_json:
        show_json(done.to_json())
        return
    _say_mapping(done.columns)
    for example in done.examples:
        show(_rendered(example))
    for skipped in done.skipped[:_SHOWN_SKIPPED]:
        say(f"line {skipped.line} left out: {skipped.reason}")
    hidden = len(done.skipped) - _SHOWN_SKIPPED
    if hidden > 0:
        say(f"... and {hidden:,} more; --json has all of them")
    if done.to is None:
        say("Nothing is written yet: add --to FILE.")
    else:
        show(f"{done.n_written:,} examples written to {done.to}, {len(done.skipped):,} records left out")


def _say_mapping(columns: Columns | None) -> None:
    if columns is None:
        return
    answer = f"JSON of {', '.join(columns.answer_json)}" if columns.answer_json else columns.answer
    system = f", instructions: {columns.system!r}" if columns.system else ""
    image = f", image: {columns.image!r}" if columns.image else ""
    say(f"prompt: {columns.prompt!r}{image}, answer: {answer!r}{system}".replace("\\n", "↵"))


def _rendered(example: dict[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    from ftclient.data.prompts import message_text, messages_of, role_of
    from ftclient.view.words import printable

    table = Table.grid(padding=(0, 1))
    for message in messages_of(example):
        text = message_text(message)
        table.add_row(Text(role_of(message), style="bold"), Text(printable(text[:300])))
    table.add_row("", "")
    return table


def _limits(model: str | None) -> Limits:
    from ftclient import hosts

    host = current.host if current.names_backend else hosts.OPENAI
    return host.limits.for_model(model)


def _length_options(model: str | None, method: Method) -> dict[str, Any]:
    from ftclient.data.tokens import count_example, encoding_for

    encoding, limits = encoding_for(model), _limits(model)
    if model is None or encoding is None or limits.context_tokens is None:
        raise typer.BadParameter("The step too_long needs an OpenAI model, such as gpt-4.1-mini.", param_hint="--model")
    return {
        "limits": limits,
        "count_tokens": lambda example: count_example(example, encoding, method=method).total,
    }


def _check(path: Path, method: Method, limits: Limits) -> Report:
    from ftclient.data import check_file

    return check_file(path, method=method, limits=limits, encoding=None)


def _show_cleaned(done: CleanedFile, left: Report | None) -> None:
    if current.as_json:
        outcome = None if left is None else {"ok": left.ok, "n_errors": left.n_errors, "n_warnings": left.n_warnings}
        show_json({**done.to_json(), "check": outcome})
        return
    show(done)
    show(f"written to {done.to}")
    if done.rejected_path is not None:
        say(f"{done.n_rejected:,} lines could not be mended; they are in {done.rejected_path} with their errors.")
    if left is not None and left.issues:
        show(left)


def _shares(text: str) -> list[float]:
    try:
        given = [float(part) for part in text.replace("%", "").split(",")]
    except ValueError:
        raise typer.BadParameter("Give percentages such as 80,10,10.", param_hint="--shares") from None
    whole = _PERCENT if sum(given) > 1.5 else 1  # noqa: PLR2004  nobody means one and a half percent
    if abs(sum(given) - whole) > 1e-6 * whole or min(given) < 0:
        raise typer.BadParameter(f"They add up to {sum(given):g}, not to {whole}.", param_hint="--shares")
    return [part / whole for part in given]


def _show_leaks(found: Sequence[FileLeak], other: Path) -> None:
    if current.as_json:
        show_json({"n_leaks": len(found), "leaks": [leak.to_json() for leak in found]})
        return
    for leak in found:
        likeness = f" ({leak.similarity:.0%} alike)" if leak.kind == "near_duplicate" else ""
        show(f"line {leak.line_a} is line {leak.line_b} of {other.name}: {leak.kind.replace('_', ' ')}{likeness}")
    show(f"{len(found):,} leaks" if found else "no leaks: the files share no prompt")


def _show_parts(parts: Sequence[Part]) -> None:
    if current.as_json:
        show_json({"parts": [part.to_json() for part in parts]})
        return
    from rich.table import Table

    n_all = max(1, sum(len(part.lines) for part in parts))
    table = Table(box=None, pad_edge=False)
    for name in ("file", "examples", "share"):
        table.add_column(name, justify="left" if name == "file" else "right", overflow="fold")
    labels = sorted({label for part in parts for label in part.labels})
    names = labels if len(labels) <= _SHOWN_LABELS else ["labels"]
    for name in names:
        table.add_column(name[:20], justify="right", style="dim")
    for part in parts:
        counts = [part.labels[label] for label in labels] if names is labels else [len(part.labels)]
        share = f"{len(part.lines) / n_all:.1%}"
        table.add_row(str(part.path), f"{len(part.lines):,}", share, *[f"{count:,}" for count in counts])
    show(table)


def _described(file: Path, model: str | None, method: Method) -> Description:
    from ftclient.data.describe import describe
    from ftclient.data.tokens import encoding_for

    if model is None or encoding_for(model) is not None or not current.host.is_local:
        with _counting("examples looked at") as progress:
            return describe(file, model=model, method=method, limits=_limits(model), progress=progress)
    from ftclient.data import Dataset

    with connected() as client:  # only the backend has this model's tokenizer
        checked = client.check(Dataset.read(file), model=model, method=method)
        render = _local_render(client, model, method)
        return describe(file, model=model, method=method, limits=current.host.limits, report=checked, render=render)


@contextmanager
def _counting(what: str) -> Iterator[Callable[[int], None]]:
    """A running count on stderr, where somebody watches."""
    console = err()
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status(what) as status:
        yield lambda n: status.update(f"{n:,} {what}")


def _local_render(client: Any, model: str, method: Method) -> Render:
    from ftclient.data.describe import Token

    def render(example: Any) -> list[Token]:
        body = {"model": model, "example": example, "method": method}
        answer: Any = client.openai.post("/local/render", body=body, cast_to=object)
        return [Token(token["text"], float(token["weight"])) for token in answer["tokens"]]

    return render
