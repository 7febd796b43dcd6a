"""`ftclient files` and `ftclient models`: what is kept, and a way to let it go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ftclient.cli.session import as_object, connected, current, err, say, show, show_json, show_table
from ftclient.jobs.export import ExportFormat
from ftclient.jobs.local import base_models

if TYPE_CHECKING:
    from ftclient.client import Client

DeleteOption = Annotated[str | None, typer.Option("--delete", metavar="ID", help="Delete this one, for good.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="[bold]ftclient files[/bold]\n\n[bold]ftclient files --delete file-abc123[/bold]")(files)
    app.command(
        epilog="[bold]ftclient models[/bold]\n\n"
        "[bold]ftclient models --tree[/bold]\n\n"
        "[bold]ftclient models --delete ft:smollm2-135m:personal::a1b2c3d4[/bold]\n\n"
        "[bold]ftclient models --delete smollm2-135m[/bold]    frees its room; it is fetched again when next used"
    )(models)
    app.command(epilog="[bold]ftclient export ft:smollm2-135m:personal::a1b2c3d4 --format gguf --to my-model[/bold]")(
        export
    )


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A tuned model, or a base model.")],
    *,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="A new folder.")],
    form: Annotated[ExportFormat, typer.Option("--format", help="For PEFT; whole weights; for llama.cpp.")] = "adapter",
    quantisation: Annotated[Literal["f16", "q8_0", "q4_0"], typer.Option(help="Of a gguf.")] = "q8_0",
) -> None:
    """Take a tuned model away from the local backend, in a form that other programs read."""
    with connected() as client, err().status("Writing the model ..."):
        try:
            files = client.export(model, to=to, form=form, quantisation=quantisation)
        except FileExistsError as error:
            raise typer.BadParameter(str(error), param_hint="--to") from error
    if current.as_json:
        show_json({"model": model, "format": form, "files": [str(file) for file in files]})
    else:
        show(*map(str, files))


def files(*, delete: DeleteOption = None) -> None:
    """List the files that are kept, newest first, or delete one."""
    with connected() as client:
        if delete:
            client.delete_file(delete)
            _deleted(delete)
            return
        found = client.files()
    if current.as_json:
        show_json([as_object(file) for file in found])
    elif not found:
        say("There are no files.")
    else:
        from ftclient.cost.words import size

        show_table(
            ("file", "size", "purpose", "name"),
            [(file.id, size(file.bytes), file.purpose, file.filename) for file in found],
        )
        say(f"{size(sum(file.bytes for file in found))} in all")


def models(
    *,
    delete: DeleteOption = None,
    tree: Annotated[
        bool, typer.Option("--tree", help="Show what was tuned from what, on which data, to which scores.")
    ] = False,
) -> None:
    """List the models that can be used; delete a tuned one, or the downloaded weights of a base model."""
    if tree and delete:
        raise typer.BadParameter("show the tree, or delete: not both", param_hint="--tree")
    with connected() as client:
        if tree:
            _show_tree(client)
            return
        if delete:
            client.delete_model(delete)
            _deleted(delete)
            return
        found = client.models()
        sizes = _sizes(client) if client.host.is_local and not current.as_json else {}
    if current.as_json:
        show_json([as_object(model) for model in found])
    else:
        rows = [(sizes.get(model.id, ""), model.owned_by, model.id) for model in found]
        show_table(("on this machine", "owner", "model"), rows)


def _show_tree(client: Client) -> None:
    from ftclient.lineage.view import render

    found = client.family()
    if current.as_json:
        show_json([node.to_json() for node in found])
    elif not found:
        say("Nothing has been tuned here yet.")
    else:
        show(render(found))


def _sizes(client: Client) -> dict[str, str]:
    from ftclient.cost.words import size

    stock = base_models(client.openai, client.host)
    kept = [model for model in stock.get("models", []) if model.get("cached")]
    return {model["name"]: size(model.get("size_bytes") or 0) for model in kept}


def _deleted(name: str) -> None:
    if current.as_json:
        show_json({"id": name, "deleted": True})
    else:
        show(f"{name}  deleted")
