"""`ftclient demo`: the main job end to end, on a shipped dataset and a real open model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftclient.cli.downloads import fetch_model
from ftclient.cli.job_options import tell_measuring
from ftclient.cli.session import as_object, connected, current, err, say, show, show_json
from ftclient.demo import Language

if TYPE_CHECKING:
    from ftclient.client import Client
    from ftclient.cost.plan import Plan
    from ftclient.data import Dataset

MODEL = "smollm2-135m"
EPOCHS, BATCH_SIZE = 4, 8
"""Tried: enough to learn the tickets, short enough to wait for."""
SEED = 7

_FIVE_LINES = (
    "from ftclient import Client, Dataset, Supervised",
    "client = Client.local()",
    'train, valid, test = Dataset.read("{path}").split(0.8, 0.1, 0.1)',
    'result = client.train(client.plan(train, valid=valid, model="{model}", method={method})).wait()',
    'print(client.evaluate(test, models=["{model}", result.model]).scores)',
)

_WORDS = {
    "en": (
        "Harubo sells household devices. Every letter to its support must become a ticket in the company's own codes,\n"
        "which no base model can know. We teach them to a small open model, on this machine."
    ),
    "ja": (
        "The letters are Japanese. SmolLM2 was trained on English and knows little Japanese, so expect it to learn\n"
        "the form of the tickets sooner than what the letters mean, and fewer exact matches than with --lang en."
    ),
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="[bold]ftclient demo[/bold]\n\n[bold]ftclient demo --lang ja[/bold]")(demo)


def demo(
    *,
    lang: Annotated[Language, typer.Option(help="Language of the questions.")] = "en",
    model: Annotated[str, typer.Option(help="Another model to tune.")] = MODEL,
    epochs: Annotated[int, typer.Option(min=1, max=50, help="Passes over the data.")] = EPOCHS,
) -> None:
    """Check, split, plan, train, and compare base and tuned model, all in a few minutes.

    Runs at the local backend unless --backend names another. The first run downloads the model (270 MB).
    """
    from ftclient.data import Dataset
    from ftclient.demo import dataset_path

    data = Dataset.read(dataset_path(lang))
    with connected() as client:
        say(_WORDS[lang])
        _step(1, "Check", f"{data.name}")
        report = client.check(data)
        say(report)
        _step(2, "Split", "80 / 10 / 10")
        train, valid, test = data.split(0.8, 0.1, 0.1, seed=SEED)
        say(f"{len(train)} to learn from, {len(valid)} to look at while training, {len(test)} kept for the test")
        _step(3, "Plan", "")
        plan = _plan(client, train, valid, model, epochs)
        say(plan)
        _step(4, "Train", "Ctrl-C leaves the view, the job goes on")
        tuned, ended = _train(client, plan)
        _step(5, "Test", f"{len(test)} questions that neither model has seen")
        comparison = _compare(client, test, [plan.model, tuned])
        _close(data, plan.model, epochs, comparison, ended)


def _step(number: int, name: str, text: str) -> None:
    from rich.text import Text

    say(Text.assemble("\n", (f"{number}  {name}", "bold"), f"  {text}"))


def _plan(client: Client, train: Dataset, valid: Dataset, model: str, epochs: int) -> Plan:
    from ftclient.jobs.methods import Supervised

    method = Supervised(n_epochs=epochs, batch_size=BATCH_SIZE)
    fetch_model(client, model)
    with err().status("Counting, and timing a few steps ...") as status:
        tell = tell_measuring(status)
        return client.plan(train, valid=valid, model=model, method=method, suffix="demo", seed=SEED, measuring=tell)


def _train(client: Client, plan: Plan) -> tuple[str, dict[str, Any]]:
    from ftclient.cli.launch import consent
    from ftclient.jobs.job import failure
    from ftclient.view.watch import watch

    consent(plan, yes=False)
    started = time.monotonic()
    ended = watch(client.train(plan), console=err(), command=current.command)
    if ended.status != "succeeded" or not ended.fine_tuned_model:
        raise failure(ended)
    say(f"Trained in {time.monotonic() - started:.0f} s.")
    return ended.fine_tuned_model, as_object(ended)


def _compare(client: Client, test: Dataset, models: list[str]) -> Any:
    from ftclient.cli.evaluate import with_bar

    started = time.monotonic()
    comparison = with_bar(client, test, models)
    say(f"Asked both models in {time.monotonic() - started:.0f} s.")
    return comparison


def _close(data: Dataset, model: str, epochs: int, comparison: Any, ended: dict[str, Any]) -> None:
    if current.as_json:
        show_json({"job": ended, "comparison": comparison.to_json()})
        return
    show(comparison)
    _step(6, "The same in Python", "")
    method = f"Supervised(n_epochs={epochs}, batch_size={BATCH_SIZE})"
    for line in _FIVE_LINES:
        show(line.format(path=data.path, model=model, method=method))
