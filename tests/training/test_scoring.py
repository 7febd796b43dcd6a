"""How likely an answer is: what transformers' own forward pass says, also beside running answers and with adapters."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import transformers

from local_backend.engine.generation.serving import Speaker
from local_backend.engine.template import Template
from local_backend.settings import Settings
from local_backend.task import ChatRequest, ModelRef, UserError
from tests.training.chatty import OTHER_SHAPES, SHAPES, write_adapter, write_tiny

EXAMPLES = [
    {"messages": [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat on the mat"}]},
    {
        "messages": [
            {"role": "system", "content": "Answer the dog."},
            {"role": "user", "content": "the log " * 20},
            {"role": "assistant", "content": "the first answer is not scored"},
            {"role": "user", "content": "日本語"},
            {"role": "assistant", "content": "日本語の文字は三つのバイトから"},
        ]
    },
]


@pytest.fixture
def speaker(tmp_path):
    speaker = Speaker(Settings(home=tmp_path / "home", cache=tmp_path / "cache", allow_local_paths=True))
    yield speaker
    speaker.close()


def reference(model, template, example):
    """Log-probability and number of tokens of the last answer, by one plain forward pass."""
    messages = [{**message, "weight": 0} for message in example["messages"]]
    messages[-1]["weight"] = 1
    (rendered,) = template.render({"messages": messages})
    with torch.no_grad():
        logprobs_TV = model(input_ids=torch.tensor([rendered.ids]), use_cache=False).logits[0].float().log_softmax(-1)
    at = [position for position, weight in enumerate(rendered.weights) if weight > 0]
    return sum(float(logprobs_TV[position - 1, rendered.ids[position]]) for position in at), len(at)


def check(found, model, folder):
    for one, example in zip(found, EXAMPLES, strict=True):
        logprob, n_tokens = reference(model, Template.of(folder), example)
        assert one.n_tokens == n_tokens > 3
        assert one.logprob == pytest.approx(logprob, rel=1e-4)


@pytest.mark.parametrize("shape", [*SHAPES, *OTHER_SHAPES])
def test_a_score_is_the_plain_forward_passes(shape, tmp_path, speaker):
    folder = write_tiny(tmp_path / "model", shape)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    check(speaker.score(ModelRef(base=str(folder)), EXAMPLES), model, folder)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
def test_base_and_tuned_models_are_scored_while_others_answer(tmp_path, speaker):
    """Adapters, answers and scores do not disturb each other."""
    import peft

    folder = write_tiny(tmp_path / "model", "llama")
    tuned_dir = write_adapter(tmp_path / "tuned", folder, seed=1)
    base = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    refs = {None: ModelRef(base=str(folder)), tuned_dir: ModelRef(base=str(folder), tuned_dir=tuned_dir)}
    request = ChatRequest(messages=EXAMPLES[0]["messages"][:1], temperature=0.0, max_tokens=40)
    alone = "".join(piece.text for piece in speaker.chat(refs[None], request).deltas)
    with ThreadPoolExecutor(8) as pool:
        answers = [speaker.chat(refs[None], request) for _ in range(3)]
        scores = {key: [pool.submit(speaker.score, ref, EXAMPLES) for _ in range(2)] for key, ref in refs.items()}
        texts = ["".join(piece.text for piece in answer.deltas) for answer in answers]
        found = {key: [each.result() for each in futures] for key, futures in scores.items()}
    assert texts == [alone] * 3
    for one in found[None]:
        check(one, base, folder)
    tuned = peft.PeftModel.from_pretrained(base, tuned_dir).eval()
    for one in found[tuned_dir]:
        check(one, tuned, folder)


def test_an_example_beyond_the_context_is_refused(tmp_path, speaker):
    folder = write_tiny(tmp_path / "model", "llama")
    long = {"messages": [{"role": "user", "content": "the cat " * 5000}, {"role": "assistant", "content": "x"}]}
    with pytest.raises(UserError, match="reads at most") as raised:
        speaker.score(ModelRef(base=str(folder)), [long])
    assert raised.value.code == "context_length_exceeded"
