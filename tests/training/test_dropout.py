"""Dropout acts in the steps that train and nowhere else: what is measured is the whole model's, the same each time."""

import pytest
import torch
from safetensors.torch import load_file

from local_backend.engine import adapters
from local_backend.engine.classify import loop as classify_loop
from local_backend.engine.classify.routing import training_kind
from local_backend.engine.classify.run import prepare as prepare_classifier
from local_backend.engine.network import load_network
from local_backend.engine.objective import Preference
from local_backend.engine.rows import Row
from local_backend.engine.training import prepare
from tests.training import tiny_classifier
from tests.training.tiny import chat, network_of, sequence, task_of, tiny_folder, tiny_model, write_jsonl

ROWS = [
    Row(1, (sequence([5, 6, 7, 8, 9, 10, 11]), sequence([5, 6, 7, 30, 31, 32]))),
    Row(2, (sequence([40, 41, 42, 43]), sequence([40, 41, 50, 51, 52]))),
]


def dropping(shape, dropout):
    """A network whose adapters say something, and drop a share of what they read."""
    network = network_of(tiny_model(shape).train())
    adapters.add_adapters(network.model, {"rank": 4, "alpha": 8, "dropout": dropout}, seed=3)
    generator = torch.Generator().manual_seed(5)
    for _, layer in adapters.adapted_layers(network.model):
        layer.lora_B.data.copy_(torch.randn(layer.lora_B.shape, generator=generator, dtype=torch.float64) * 0.1)
    return network


def modes(model):
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("shape", ["llama", "gpt-neox"])
def test_a_score_is_that_of_the_model_without_dropout(shape):
    sequences = [part for row in ROWS for part in row.parts]
    network = dropping(shape, 0.4)
    before = modes(network.model)
    scores = [network.score(sequences, max_tokens=100).nll for _ in range(2)]
    assert scores[0] == scores[1]
    assert scores[0] == pytest.approx(dropping(shape, 0.0).score(sequences, max_tokens=100).nll, rel=1e-9)
    assert modes(network.model) == before
    steps = [network.train_step(sequences, max_tokens=100).nll for _ in range(2)]
    assert steps[0] != steps[1]


def test_the_reference_and_the_score_of_pairs_are_those_without_dropout(tmp_path):
    found = []
    for dropout in (0.4, 0.0):
        network = dropping("llama", dropout)
        objective = Preference(network, beta=0.3)
        folder = tmp_path / str(dropout)
        objective.set_reference(ROWS, file=folder, max_tokens=100, between=lambda: None)
        for _, layer in adapters.adapted_layers(network.model):
            layer.lora_B.data.mul_(2.0)
        sums = objective.score(ROWS, max_tokens=100, between=lambda: None)
        found.append((load_file(folder / "reference.safetensors")["logprobs"], sums.nll))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-9, atol=0)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-9)


def test_a_model_whose_configuration_drops_attention_is_packed_and_told_of(tmp_path):
    base = tiny_folder(tmp_path / "base", attention_dropout=0.5)
    training = write_jsonl(tmp_path / "train.jsonl", [chat("What?", "That.")])
    run = prepare(task_of(tmp_path / "job", training), base=base)
    assert run.network.is_packed
    assert "drops 50% of the attention weights" in run.facts()["dropout_note"]
    assert (
        "dropout_note"
        not in prepare(task_of(tmp_path / "other", training), base=tiny_folder(tmp_path / "plain")).facts()
    )


def test_a_model_on_the_plain_path_that_drops_is_compared_without(tmp_path):
    """Two draws of dropout differ by more than any rounding: compared in training mode it would be refused."""
    model = tiny_model("gpt-neox", dtype=torch.float32)
    model.config.hidden_dropout = model.config.attention_dropout = 0.5
    model.save_pretrained(tmp_path)
    network = load_network(tmp_path, network_of(model).machine)
    assert any(
        module.training and module.p for module in network.model.modules() if isinstance(module, torch.nn.Dropout)
    )
    assert network.notes() == {}


def test_classifiers_are_measured_without_dropout_too(tmp_path):
    encoder = tiny_classifier.write_encoder(tmp_path / "encoder")
    training = tiny_classifier.write_examples(tmp_path / "train.jsonl", tiny_classifier.sentences(12))
    local = {"tune": {"type": "lora", "dropout": 0.4}, "classify": {"warm_start": False}}
    task = tiny_classifier.task_of(tmp_path / "job", training, encoder, local=local)
    kind = training_kind(task.model, encoder, task="classify")
    run = prepare_classifier(task, base=tiny_classifier.base_of(encoder), kind=kind, between=lambda: None)
    with torch.no_grad():
        run.classifier.head.weight.normal_(std=0.3)
        for _, layer in adapters.adapted_layers(run.classifier.body.model):
            layer.lora_B.normal_(std=0.1)
    before = modes(run.classifier.body.model)
    first, second = (classify_loop.score(run, run.data.train, lambda: None) for _ in range(2))
    assert torch.equal(first.logits_NL, second.logits_NL)
    assert modes(run.classifier.body.model) == before
    assert any(before)
