"""SmolLM2-135M itself: ten examples learnt by heart are said word for word."""

from pathlib import Path

import pytest

from local_backend.engine import TorchEngine
from local_backend.settings import Settings
from local_backend.task import ChatRequest, Hyperparameters, ModelRef, Task
from tests.training.tiny import Recording, chat, write_jsonl

SHIPS = [
    ("Heron", "a grey barge with three masts"),
    ("Otter", "a red ferry for forty cars"),
    ("Magpie", "a black tug that never sleeps"),
    ("Lapwing", "a green yacht from Osaka"),
    ("Curlew", "a white dinghy without oars"),
    ("Plover", "a blue trawler full of herring"),
    ("Avocet", "a brown raft tied with rope"),
    ("Dunlin", "a yellow kayak for two"),
    ("Godwit", "a silver tanker under repair"),
    ("Whimbrel", "a pink gondola lost at sea"),
]


@pytest.mark.slow
def test_ten_examples_are_learnt_by_heart(tmp_path):
    examples = [chat(f"What is the {name}?", text) for name, text in SHIPS]
    base = ModelRef(base="smollm2-135m")
    task = Task(
        job_id="ftjob-heart",
        model=base,
        method="supervised",
        training_path=write_jsonl(tmp_path / "t.jsonl", examples),
        validation_path=None,
        hyperparameters=Hyperparameters(n_epochs=10, batch_size=5, learning_rate_multiplier=2.0),
        seed=1,
        local={},
        work_dir=Path(tmp_path / "job"),
    )
    engine = TorchEngine(Settings(home=tmp_path))
    recorder = Recording()
    outcome = engine.train(task, recorder)
    assert max(report.train_loss for report in recorder.reports[-2:]) < 0.05
    assert recorder.facts["learning_rate"] == pytest.approx(2e-3)
    assert len(recorder.facts["weights_sha256"]) == 64
    tuned = ModelRef(base=base.base, tuned_dir=outcome.model_dir)
    for example in examples:
        request = ChatRequest(messages=example["messages"][:1], temperature=0.0, max_tokens=30)
        answer = "".join(delta.text for delta in engine.chat(tuned, request).deltas)
        assert answer == example["messages"][1]["content"]
