"""One function, three places to train: OpenAI, a server of your own, or this machine.

    python examples/02_swap_backends.py                                  here
    python examples/02_swap_backends.py http://127.0.0.1:8000            where `ftclient serve` runs
    python examples/02_swap_backends.py openai                           at OpenAI; costs money

The code keeps OpenAI's name of the model. The local backend takes it for another, which the alias names; for a server
of your own it is set there: `ftclient serve --alias gpt-4.1-mini-2025-04-14=smollm2-135m`.
"""

import sys
from pathlib import Path

from ftclient import Client, Dataset, Supervised

MODEL = "gpt-4.1-mini-2025-04-14"


def connect(where: str) -> Client:
    """Return a client; this is all that differs between the places."""
    if where == "openai":
        return Client.openai()
    if where == "local":
        return Client.local(aliases={MODEL: "smollm2-135m"})
    return Client.at(where)


def tune(client: Client, data: Dataset) -> str:
    """Train on `data` and return the tuned model's name."""
    plan = client.plan(data, model=MODEL, method=Supervised(n_epochs=2, batch_size=4), seed=1)
    return client.train(plan, max_cost_usd=1).wait().model


if __name__ == "__main__":
    data = Dataset.read(Path(__file__).with_name("data") / "support.jsonl")
    with connect(sys.argv[1] if len(sys.argv) > 1 else "local") as client:
        model = tune(client, data)
        print("Tuned model:", model)
        print("It answers:", client.chat(model, "The lid of my kettle no longer closes.", temperature=0))
