"""An account at a server that plays the host, with tuned models of all kinds."""

from __future__ import annotations

from pathlib import Path

from ftclient import DPO, Client, Dataset, Supervised, hosts
from tests.e2e.serving import HOSTED_MODEL

CANARY = "The heron keeps its key under the third stone"
KEY = "sk-canary-5f2d8c"


def examples(name: str, n: int = 12) -> Dataset:
    return Dataset(
        {"messages": [{"role": "user", "content": f"{name} {i}?"}, {"role": "assistant", "content": f"{CANARY} {i}"}]}
        for i in range(n)
    )


def pairs(n: int = 12) -> Dataset:
    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    return Dataset(
        {
            "input": {"messages": [{"role": "user", "content": f"pair {i}?"}]},
            "preferred_output": said(f"yes {i}"),
            "non_preferred_output": said(f"no {i}"),
        }
        for i in range(n)
    )


class Account:
    """Tuned models: one whole, one without files, one that refuses, and two tuned by the same preferences."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        self.client = Client.at(url, host=hosts.OPENAI, api_key=KEY, home=home)
        tune = self._tune
        self.whole = tune(examples("whole"), valid=examples("valid", 5), method=Supervised(n_epochs=2), suffix="whole")
        self.fileless = tune(examples("fileless"))
        self.refusing = tune(examples("refusing"))
        self.preferring = tune(pairs(), method=DPO(n_epochs=1, beta=0.3))
        self.alike = tune(pairs(), method=DPO(n_epochs=1, beta=0.1))
        self.client.delete_file(self.fileless.job.training_file)
        self.client.delete_model(self.refusing.model)

    def _tune(self, data: Dataset, **more):
        more.setdefault("method", Supervised(n_epochs=1))
        return self.client.train(self.client.plan(data, model=HOSTED_MODEL, seed=5, **more)).wait(timeout_s=60)
