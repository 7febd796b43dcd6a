"""Preference training: the loss and gradient of the paper's formula, and pairs that end up ranked right."""

import copy

import pytest
import tokenizers
import torch

from local_backend.engine import adapters, loop
from local_backend.engine.objective import Preference
from local_backend.engine.rows import Row
from local_backend.engine.training import prepare
from local_backend.task import JobError
from tests.training.tiny import (
    Recording,
    chat,
    gradients,
    network_of,
    sequence,
    task_of,
    tiny_folder,
    tiny_model,
    tiny_tokenizer,
    write_jsonl,
)

BETA = 0.3
CHATML = tiny_tokenizer().chat_template


def pairs():
    """Pairs with prompts of different lengths, two of them sharing one; only answers are trained."""
    torch.manual_seed(4)
    stem = torch.randint(3, 97, (14,)).tolist()
    rows = []
    for line, (n_prompt, n_preferred, n_other) in enumerate([(14, 5, 3), (14, 2, 9), (8, 4, 4), (3, 1, 6)], start=1):
        answers = [torch.randint(3, 97, (n,)).tolist() for n in (n_preferred, n_other)]
        parts = [sequence(stem[:n_prompt] + a, [0.0] * n_prompt + [1.0] * len(a)) for a in answers]
        rows.append(Row(line, tuple(parts)))
    return rows


def answer_logprob(model, one):
    logits = model(input_ids=torch.tensor([one.ids]), use_cache=False).logits[0, :-1]
    logprobs = torch.log_softmax(logits, -1).gather(1, torch.tensor(one.ids[1:])[:, None])[:, 0]
    return (logprobs * torch.tensor(one.weights[1:], dtype=logprobs.dtype)).sum()


def formula(model, reference, rows):
    """-log sigmoid(beta * (log-ratio of the preferred - log-ratio of the other)), mean over pairs."""
    losses = []
    for row in rows:
        with torch.no_grad():
            before = [answer_logprob(reference, part) for part in row.parts]
        now = [answer_logprob(model, part) for part in row.parts]
        margin = BETA * ((now[0] - before[0]) - (now[1] - before[1]))
        losses.append(-torch.nn.functional.logsigmoid(margin))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("shape", ["llama", "qwen3", "gpt-neox"])
@pytest.mark.parametrize("max_tokens", [1, 1000])
def test_loss_and_gradient_equal_the_formula(shape, max_tokens, tmp_path):
    model = tiny_model(shape)
    network = network_of(model)
    adapters.add_adapters(model, {"type": "lora", "rank": 4, "alpha": 8}, seed=3)
    objective = Preference(network, beta=BETA)
    rows = pairs()
    objective.set_reference(rows, file=tmp_path / "reference", max_tokens=1000, between=lambda: None)
    reference = copy.deepcopy(model)
    for _, layer in adapters.adapted_layers(model):
        layer.lora_B.data.normal_(std=0.1)
    expected_loss = formula(model, reference, rows)
    expected_loss.backward()
    expected = gradients(network)
    model.zero_grad()
    sums = objective.train(rows, max_tokens=max_tokens, between=lambda: None)
    assert sums.loss == pytest.approx(float(expected_loss.detach()), rel=1e-5)
    for name, gradient in gradients(network).items():
        assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=1e-8), name
    scored = objective.score(rows, max_tokens=max_tokens, between=lambda: None)
    assert scored.loss == pytest.approx(sums.loss, rel=1e-9)
    assert scored.extra == pytest.approx(sums.extra)


def preference(question, better, worse):
    messages = [{"role": "user", "content": question}]
    answer, other = ([{"role": "assistant", "content": text}] for text in (better, worse))
    return {"input": {"messages": messages}, "preferred_output": answer, "non_preferred_output": other}


def test_a_run_ranks_held_out_pairs_right_and_reports_rewards(tmp_path):
    base = tiny_folder(tmp_path / "base")
    words = ["red", "green", "blue", "black", "white", "pink", "grey", "gold", "teal", "lime", "plum", "sand"]
    examples = [preference(f"Say {word}", word.upper(), word) for word in words]
    training = write_jsonl(tmp_path / "t.jsonl", examples[:9])
    validation = write_jsonl(tmp_path / "v.jsonl", examples[9:])
    task = task_of(tmp_path / "job", training, validation=validation, method="dpo", n_epochs=8, batch_size=3, beta=0.5)
    recorder = Recording()
    outcome = loop.train(prepare(task, base=base), recorder)
    first, last = recorder.reports[0], recorder.reports[-1]
    assert first.train_loss == pytest.approx(0.6931, abs=1e-3)
    assert first.extra["rewards_margin"] == pytest.approx(0.0, abs=1e-4)
    assert last.full_valid_loss < 0.4
    assert last.extra["rewards_margin"] > 1.0
    assert last.extra["rewards_accuracy"] == 1.0
    assert (outcome.model_dir / "adapter_model.safetensors").is_file()


def test_the_reference_survives_a_resume(tmp_path):
    """The reference is the model before the first step, not the one that a resume point holds."""
    base = tiny_folder(tmp_path / "base")
    training = write_jsonl(tmp_path / "t.jsonl", [preference(f"Say {n}", str(n), "no") for n in range(11)])
    whole, stopped = Recording(), Recording()
    loop.train(prepare(task_of(tmp_path / "whole", training, method="dpo"), base=base), whole)
    task = task_of(tmp_path / "stopped", training, method="dpo")

    def interrupted(**_):
        raise KeyboardInterrupt

    first = Recording()
    first.checkpoint = interrupted
    with pytest.raises(KeyboardInterrupt):
        loop.train(prepare(task, base=base), first)
    loop.train(prepare(task, base=base), stopped)
    assert [r.train_loss for r in stopped.reports] == [r.train_loss for r in whole.reports][-len(stopped.reports) :]


def test_chat_examples_are_no_preference_pairs(tmp_path):
    training = write_jsonl(tmp_path / "t.jsonl", [chat("a", "b")])
    with pytest.raises(JobError, match="Line 1: 'input' is missing"):
        prepare(task_of(tmp_path / "job", training, method="dpo"), base=tiny_folder(tmp_path / "base"))


def test_a_pair_whose_answers_are_written_alike_is_named_by_its_line(tmp_path):
    base = tiny_folder(tmp_path / "base")
    trimming = CHATML.replace("message.content", "message.content | trim")
    tiny_tokenizer(trimming).save_pretrained(base.path)
    lines = [preference("Say red", "RED", "red"), preference("Say blue", "BLUE", "BLUE\n")]
    task = task_of(tmp_path / "job", write_jsonl(tmp_path / "t.jsonl", lines), method="dpo", batch_size=1)
    with pytest.raises(JobError, match=r"Line 2: The model's chat template writes both answers of this pair alike"):
        prepare(task, base=base)


def test_a_pair_whose_answers_are_the_same_tokens_is_named_by_its_line(tmp_path):
    """Tokenizers that compose letters read both ways of writing one."""
    base, composing = tiny_folder(tmp_path / "base"), tiny_tokenizer()
    composing.backend_tokenizer.normalizer = tokenizers.normalizers.NFC()
    composing.save_pretrained(base.path)
    lines = [preference("Say red", "RED", "red"), preference("Say when", "nin\u0303o", "ni\u00f1o")]
    task = task_of(tmp_path / "job", write_jsonl(tmp_path / "t.jsonl", lines), method="dpo", batch_size=1)
    with pytest.raises(JobError, match=r"Line 2: Both answers of this pair are the same tokens"):
        prepare(task, base=base)
