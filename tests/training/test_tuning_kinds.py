"""Every way of tuning: the right weights train, exactly, and what is saved is the model that was trained."""

import pytest
import torch
import transformers

from local_backend.engine import adapters
from local_backend.engine.frozen import FrozenStates, frozen_blocks
from local_backend.engine.tuning import choose_weights, merge_adapters, save_whole
from local_backend.task import JobError
from tests.training.tiny import gradients, network_of, reference_loss, sequence, tiny_model

SEQUENCES = [sequence([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 20]), sequence([5, 6, 7, 8, 9, 10, 11, 12, 13, 30, 31])]


def trained_names(options, shape="llama"):
    network = network_of(tiny_model(shape))
    choose_weights(network.model, options, seed=0)
    return {name for name, _ in network.parameters()}


def test_full_tuning_trains_every_weight():
    assert len(trained_names({"type": "full"})) == len(list(tiny_model("llama").named_parameters()))


def test_the_last_blocks_alone():
    names = trained_names({"type": "last_layers", "n": 2})
    assert {name.split(".")[2] for name in names} == {"1", "2"}
    assert all(".layers." in name for name in names)


def test_the_head_alone_leaves_tied_embeddings_as_they_are():
    assert trained_names({"type": "head"}) == {"lm_head.weight"}


def test_more_blocks_than_there_are():
    with pytest.raises(JobError, match="3 blocks") as caught:
        trained_names({"type": "last_layers", "n": 4})
    assert caught.value.param == "local.tune.n"


def test_targets_by_name():
    names = trained_names({"type": "lora", "targets": ["q_proj", "down_proj"]})
    assert {name.split(".")[-2] for name in names} == {"q_proj", "down_proj"}
    with pytest.raises(JobError, match="no_such") as caught:
        trained_names({"type": "lora", "targets": ["q_proj", "no_such"]})
    assert "o_proj" in caught.value.message


@pytest.mark.parametrize("shape", ["llama", "llama-biased", "gemma3"])
@pytest.mark.parametrize("options", [{"type": "full"}, {"type": "last_layers", "n": 1}, {"type": "head"}])
def test_gradients_equal_the_reference(shape, options):
    network = network_of(tiny_model(shape))
    choose_weights(network.model, options, seed=0)
    reference_loss(network.model, SEQUENCES).backward()
    expected = gradients(network)
    network.model.zero_grad()
    network.train_step(SEQUENCES, max_tokens=1000)
    for name, gradient in gradients(network).items():
        assert torch.allclose(gradient, expected[name], rtol=1e-5, atol=1e-7), name


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("kind", ["lora", "full", "head"])
def test_a_saved_whole_model_is_the_trained_one(kind, tmp_path):
    network = network_of(tiny_model("llama", dtype=torch.float32))
    choose_weights(network.model, {"type": kind}, seed=0)
    optimizer = torch.optim.SGD([parameter for _, parameter in network.parameters()], lr=0.1)
    for _ in range(3):
        network.train_step(SEQUENCES, max_tokens=1000)
        optimizer.step()
    save_whole(network.model, tmp_path, tokenizer_from=tmp_path / "none")
    reloaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.tensor([SEQUENCES[0].ids])
    with torch.no_grad():
        assert torch.allclose(reloaded(ids).logits, network.model(ids).logits, atol=1e-5)
    merge_adapters(network.model)
    assert not list(adapters.adapted_layers(network.model))


@pytest.mark.parametrize("options", [{"type": "last_layers", "n": 1}, {"type": "head"}], ids=lambda o: o["type"])
@pytest.mark.parametrize("shape", ["llama", "gemma3"])
def test_checkpoints_share_the_weights_that_do_not_train(shape, options, tmp_path):
    network = network_of(tiny_model(shape, dtype=torch.float32))
    choose_weights(network.model, options, seed=0)
    optimizer = torch.optim.SGD([parameter for _, parameter in network.parameters()], lr=0.1)
    answers = []
    for name in ("step-1", "step-2"):
        network.train_step(SEQUENCES, max_tokens=1000)
        optimizer.step()
        (tmp_path / name).mkdir()
        save_whole(network.model, tmp_path / name, tokenizer_from=tmp_path / "none", beside=tmp_path)
        reloaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float32)
        ids = torch.tensor([SEQUENCES[0].ids])
        with torch.no_grad():
            answers.append(reloaded(ids).logits)
            assert torch.allclose(answers[-1], network.model(ids).logits, atol=1e-5)
    assert not torch.allclose(*answers, atol=1e-5)
    first, second = (tmp_path / name / "model-00001-of-00002.safetensors" for name in ("step-1", "step-2"))
    assert first.samefile(second)
    assert first.stat().st_size > 2 * (first.parent / "model-00002-of-00002.safetensors").stat().st_size


@pytest.mark.parametrize("options", [{"type": "last_layers", "n": 2}, {"type": "head"}])
@pytest.mark.parametrize("shape", ["llama", "gemma3"])
def test_kept_states_of_frozen_blocks_change_nothing(shape, options, tmp_path):
    network = network_of(tiny_model(shape))
    choose_weights(network.model, options, seed=0)
    plain = network.train_step(SEQUENCES, max_tokens=1000)
    expected = gradients(network)
    network.model.zero_grad()
    for _ in range(2):  # the second time, the file of the first is read
        states = FrozenStates(network.model, SEQUENCES, n_blocks=frozen_blocks(network.model))
        groups = [[one] for one in SEQUENCES]
        states.fill(tmp_path / "frozen", packs=network.packs(groups, max_tokens=20), between=lambda: None)
        network.frozen = states
        kept = network.train_step(SEQUENCES[::-1], max_tokens=1000)
        assert kept.loss == pytest.approx(plain.loss, rel=1e-9)
        for name, gradient in gradients(network).items():
            assert torch.allclose(gradient, expected[name], rtol=1e-7, atol=1e-10), name
        network.model.zero_grad()


def test_below_a_head_only_what_it_reads_is_kept():
    network = network_of(tiny_model("llama"))
    long = sequence(range(5, 45), [0.0] * 38 + [1.0] * 2)
    for options, n_kept in ({"type": "last_layers", "n": 1}, 40), ({"type": "head"}, 2):
        choose_weights(network.model, options, seed=0)
        states = FrozenStates(network.model, [long], n_blocks=frozen_blocks(network.model))
        assert states.n_bytes == n_kept * 48 * 8


def test_what_is_frozen_is_what_lies_below_everything_that_trains():
    def n_frozen(options, shape="llama"):
        model = tiny_model(shape)
        choose_weights(model, options, seed=0)
        return frozen_blocks(model)

    assert n_frozen({"type": "lora"}) == 0
    assert n_frozen({"type": "full"}) == 0
    assert n_frozen({"type": "last_layers", "n": 1}) == 2
    assert n_frozen({"type": "head"}) == 3
