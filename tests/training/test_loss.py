"""The output layer in chunks of rows and blocks of the vocabulary, however they are cut, equals the whole."""

import pytest
import torch

from local_backend.engine import loss
from local_backend.engine.tuning import choose_weights
from tests.training.tiny import gradients, network_of, reference_loss, sequence, tiny_model

SEQUENCES = [
    sequence([(i * j * j + 5 * j + 3) % 97 for j in range(20)], [0.0, *([1.0, 0.25] * 9), 1.0]) for i in range(1, 4)
]


@pytest.mark.parametrize("shape", ["llama", "gemma2"])
@pytest.mark.parametrize("options", [{"type": "full"}, {"type": "head"}, {"type": "lora", "rank": 4, "alpha": 8}])
@pytest.mark.parametrize(("block", "chunk_rows"), [(10, 16), (97, 20), (4096, 1000)])
def test_gradients_however_it_is_cut(shape, options, block, chunk_rows, monkeypatch):
    monkeypatch.setattr(loss, "BLOCK_TOKENS", block)
    monkeypatch.setattr(loss, "CHUNK_BYTES", chunk_rows * 4 * 97)
    network = network_of(tiny_model(shape))
    choose_weights(network.model, options, seed=0)
    expected_loss = reference_loss(network.model, SEQUENCES)
    expected_loss.backward()
    expected = gradients(network)
    for _ in range(2):  # the second time, the gradients of the first are cleared
        network.clear_gradients()
        sums = network.train_step(SEQUENCES, max_tokens=40)
        assert sums.loss == pytest.approx(expected_loss.item(), rel=1e-6)
        for name, gradient in gradients(network).items():
            assert torch.allclose(gradient, expected[name], rtol=1e-5, atol=1e-7), name


def test_scores_are_those_of_the_whole_softmax(monkeypatch):
    monkeypatch.setattr(loss, "BLOCK_TOKENS", 10)
    torch.manual_seed(0)
    hidden, weight = 3 * torch.randn(40, 8, dtype=torch.float64), 3 * torch.randn(97, 8, dtype=torch.float64)
    logits = hidden @ weight.t()
    targets = torch.cat([logits.argmax(-1)[:20], torch.arange(20)])
    rows = loss.score(hidden, targets, head=loss.Head(weight))
    expected = torch.log_softmax(logits, -1).gather(1, targets[:, None])[:, 0]
    assert torch.allclose(rows.logprobs_R, expected, rtol=1e-12)
    assert torch.equal(rows.hits_R, logits.argmax(-1) == targets)
    assert rows.hits_R[:20].all()
    assert not rows.hits_R[20:].all()


def test_a_pack_without_trained_tokens_scores_nothing():
    rows = loss.score(torch.zeros(0, 8), torch.zeros(0, dtype=torch.long), head=loss.Head(torch.zeros(97, 8)))
    assert rows.logprobs_R.shape == rows.hits_R.shape == (0,)
