"""Fetching a base model before it is needed, with a bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftclient.cli.session import err, say
from ftclient.jobs.local import base_models

if TYPE_CHECKING:
    from ftclient.client import Client


def fetch_model(client: Client, model: str) -> None:
    """Have the local backend download `model` unless it has it; hosted models, tuned ones and tests need nothing."""
    if not client.host.is_local or model.startswith("ft:"):
        return
    stock = base_models(client.openai, client.host)
    at_hand = {each["name"] for each in stock.get("models", []) if each.get("cached")}
    if stock.get("engine") == "torch" and model not in at_hand:
        _pull(client, model)


def _pull(client: Client, model: str) -> None:
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    say(f"Fetching {model}; this happens once.")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err(), transient=True, disable=not err().is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def tell(file: str, done_bytes: int, total_bytes: int | None) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(escape(file))
            is_there = total_bytes is not None and done_bytes >= total_bytes
            text = f"{file}, getting it ready" if is_there else file
            bar.update(tasks[file], completed=done_bytes, total=total_bytes, description=escape(text))

        client.pull(model, progress=tell)
