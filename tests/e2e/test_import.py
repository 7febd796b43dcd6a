"""A model that was tuned and exported in one home is used and tuned further in another."""

from dataclasses import replace

import openai
import pytest

from ftclient import Client, Dataset
from local_backend.engine import TorchEngine
from local_backend.engine.exports.export import export
from local_backend.settings import Settings
from local_backend.task import ChatRequest, ModelRef
from tests.training.chatty import write_tiny
from tests.training.tiny import Recording, chat, task_of, write_jsonl

WORDS = ["red", "green", "blue", "black", "white", "pink", "grey", "gold", "teal", "lime"]
EXAMPLES = [chat(f"Say {word}", word.upper()) for word in WORDS]


def tuned(home, folder):
    """A model tuned on the tiny one, in a home of its own, and what it answers."""
    engine = TorchEngine(Settings(home=home, allow_local_paths=True))
    base = ModelRef(base=str(write_tiny(folder / "base")))
    options = {"learning_rate": 1e-3}
    task = task_of(folder / "job", write_jsonl(folder / "t.jsonl", EXAMPLES), n_epochs=2, batch_size=5, local=options)
    outcome = engine.train(replace(task, model=base), Recording())
    model = replace(base, tuned_dir=outcome.model_dir)
    requests = [ChatRequest(messages=one["messages"][:1], temperature=0.0, max_tokens=8) for one in EXAMPLES]
    return model, ["".join(delta.text for delta in engine.chat(model, one).deltas) for one in requests]


def answers(client, model):
    return [client.chat(model, f"Say {word}", temperature=0, max_tokens=8) for word in WORDS]


@pytest.mark.slow
def test_an_exported_model_goes_on_living_in_another_home(tmp_path):
    """By the name of an alias and by its folder; an adapter stays one, on the base model that it names."""
    model, expected = tuned(tmp_path / "one", tmp_path)
    assert len(set(expected)) > 3, expected
    for form in ("adapter", "merged"):
        export(model, Settings(home=tmp_path / "one", allow_local_paths=True), form=form, to=tmp_path / form, name="x")
        note = (tmp_path / form / "HOW_TO_USE.md").read_text(encoding="utf-8")
        assert 'ftclient serve --allow-local-paths --alias "x=$PWD"' in note
    aliases = {"sayer": str(tmp_path / "adapter"), "sayer-whole": str(tmp_path / "merged")}
    with Client.local(home=tmp_path / "other", allow_local_paths=True, aliases=aliases) as other:
        assert {"sayer", "sayer-whole"} <= {found.id for found in other.openai.models.list()}
        for name in (*aliases, *aliases.values()):
            assert answers(other, name) == expected, name
        with pytest.raises(openai.BadRequestError, match="delete it where it lies"):
            other.openai.models.delete("sayer")
        job = other.openai.fine_tuning.jobs.create(
            model="sayer",
            training_file=other.upload(Dataset(EXAMPLES)),
            hyperparameters={"n_epochs": 1, "batch_size": 5},
            extra_body={"local": {"learning_rate": 1e-7}},
        )
        further = other.job(job.id).wait().model
        assert further.startswith(f"ft:{model.base}:")
        assert answers(other, further) == expected
        other.export(further, format="adapter", to=tmp_path / "further")
    assert (tmp_path / "further" / "adapter_model.safetensors").is_file()
