"""An application that fine-tunes: it learns to sort letters and then sorts them."""

import json
from pathlib import Path

from ftclient import Client, Dataset, Supervised

MODEL = "gpt-4.1-mini-2025-04-14"


def learn(client: Client, path: Path) -> str:
    """Train on the letters in a file; return the name of the model that sorts."""
    plan = client.plan(Dataset.read(path), model=MODEL, method=Supervised(n_epochs=1), suffix="triage")
    return client.train(plan, max_cost_usd=5).wait().model


def queue_of(client: Client, model: str, letter: str) -> str:
    """Return the queue that a letter goes to; `DESK` is where people look at what the model could not sort."""
    answer = client.chat(model, letter, temperature=0)
    try:
        return str(json.loads(answer)["queue"])
    except (ValueError, KeyError, TypeError):
        return "DESK"
