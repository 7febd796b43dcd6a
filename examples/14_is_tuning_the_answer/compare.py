"""Three tasks, three verdicts: tune, look it up, or leave it as it is.

    python examples/14_is_tuning_the_answer/compare.py tickets
    python examples/14_is_tuning_the_answer/compare.py handbook
    python examples/14_is_tuning_the_answer/compare.py feelings

README.md beside this file shows what comes out.
"""

import sys
import tempfile
from pathlib import Path

from rich import print as show

from ftclient import Client, Dataset
from ftclient.approaches import Audience, Wishes, compare
from ftclient.demo import dataset_path

DATA = Path(__file__).parents[1] / "data"


def tickets(folder: Path) -> tuple[Dataset, Dataset, Wishes]:
    """Letters become tickets in codes of the company's own, which no base model can know."""
    train, _, test = Dataset.read(dataset_path("en")).split(0.8, 0.1, 0.1, seed=7)
    return train.write(folder / "train.jsonl"), test.write(folder / "test.jsonl"), Wishes(n_epochs=4, batch_size=8)


def handbook(_folder: Path) -> tuple[Dataset, Dataset, Wishes]:
    """Questions about a handbook; those of the test are about other pages than those of the training data."""
    train, test = (Dataset.read(DATA / f"handbook_{part}.jsonl") for part in ("train", "test"))
    wishes = Wishes(docs=DATA / "handbook", n_shots=5, n_passages=1, n_epochs=4)
    return train, test, wishes


def feelings(_folder: Path) -> tuple[Dataset, Dataset, Wishes]:
    """Letters are happy, sad, or angry, and say so; the prompt in use has six examples in it already."""
    train, test = (Dataset.read(DATA / f"feelings_{part}.jsonl") for part in ("train", "test"))
    return train, test, Wishes(n_epochs=3)


def main() -> None:
    """Compare all approaches on the task that was named."""
    task = {"tickets": tickets, "handbook": handbook, "feelings": feelings}[sys.argv[1]]
    (model,) = sys.argv[2:] or ["smollm2-135m"]
    with tempfile.TemporaryDirectory() as folder, Client.from_env() as client:
        train, test, wishes = task(Path(folder))
        show(compare(client, train, test, model=model, wishes=wishes, audience=Audience(tell=print)))


if __name__ == "__main__":
    main()
