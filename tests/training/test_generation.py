"""Generation equals transformers' own forward pass, one text at a time, whatever is batched, cached or routed."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
import transformers

from local_backend.engine.generation import serving
from local_backend.engine.generation.cache import Cache
from local_backend.engine.generation.load import load
from local_backend.engine.generation.serving import Deltas, Speaker
from local_backend.settings import Settings
from local_backend.task import ChatRequest, ModelRef, UserError
from tests.training.chatty import OTHER_SHAPES, SHAPES, write_adapter, write_tiny

QUESTIONS = [
    "the cat",
    "日本語の文字は三つのバイトから、日本語の文字は三つのバイトから",
    "the dog sat on the log and the cat sat on the mat " * 4,
    "naïve café 😀",
]


def messages(text, *, system=None):
    return [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": text}]


def tokens_of(answer):
    """All tokens that an answer consists of (as bytes), and its finish reason."""
    pieces = list(answer.deltas)
    return [bytes(entry.bytes) for piece in pieces for entry in piece.logprobs], pieces[-1].finish_reason


def text_of(answer):
    return "".join(piece.text for piece in answer.deltas)


def wait_until(is_so):
    deadline = time.monotonic() + 20
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_so()


def reference(model, tokenizer, text, *, n, system=None):
    """Greedy tokens (as ids) and their log-probabilities by full forward passes without any cache."""
    ids = tokenizer.apply_chat_template(messages(text, system=system), add_generation_prompt=True, return_dict=False)
    chosen, logprobs = [], []
    for _ in range(n):
        with torch.no_grad():
            last = model(input_ids=torch.tensor([ids + chosen]), use_cache=False).logits[0, -1].log_softmax(-1)
        token = int(last.argmax())
        if token == tokenizer.eos_token_id:
            break
        chosen.append(token)
        logprobs.append(float(last[token]))
    return chosen, logprobs


@pytest.fixture
def speaker(tmp_path):
    speaker = Speaker(Settings(home=tmp_path / "home", cache=tmp_path / "cache", allow_local_paths=True))
    yield speaker
    speaker.close()


def greedy(text, *, n=24, system=None, **more):
    options = {"temperature": 0.0, "max_tokens": n, "top_logprobs": 0} | more
    return ChatRequest(messages=messages(text, system=system), **options)


@pytest.mark.parametrize("shape", SHAPES)
def test_concurrent_answers_equal_the_plain_forward_pass(shape, tmp_path, speaker):
    """Texts of different lengths in one batch; Mistral and Gemma look through windows shorter than the texts."""
    folder = write_tiny(tmp_path / "model", shape)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    answers = [speaker.chat(ModelRef(base=str(folder)), greedy(text)) for text in QUESTIONS]
    for text, answer in zip(QUESTIONS, answers, strict=True):
        pieces = list(answer.deltas)
        got = [entry for piece in pieces for entry in piece.logprobs]
        ids, logprobs = reference(model, tokenizer, text, n=24)
        assert "".join(piece.text for piece in pieces) == tokenizer.decode(ids, skip_special_tokens=True)
        assert [entry.logprob for entry in got] == pytest.approx(logprobs, abs=2e-4)
        assert sum(piece.n_tokens for piece in pieces) == len(ids)


def test_a_shared_beginning_is_reused_and_changes_nothing(tmp_path, speaker):
    folder = write_tiny(tmp_path / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    system = "the cat sat on the mat and the dog sat on the log. " * 12
    for text in QUESTIONS * 2:
        answer = speaker.chat(ModelRef(base=str(folder)), greedy(text, system=system, n=8))
        ids, _ = reference(model, tokenizer, text, system=system, n=8)
        assert text_of(answer) == tokenizer.decode(ids, skip_special_tokens=True)
    (voice,) = speaker._voices.values()
    known = tokenizer.apply_chat_template(messages("the cow", system=system), return_dict=False)
    _, n_reused = voice._batch._prefixes.longest(known, adapter=None)
    assert n_reused > 150
    assert voice._batch._prefixes.longest(known, adapter="another") == (None, 0)


def test_long_texts_move_to_wider_lanes(tmp_path, speaker):
    """A prompt of several chunks, and an answer that outgrows the smallest lane, beside a short one."""
    folder = write_tiny(tmp_path / "model", seed=3)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    long, medium = "the log " * 220, "the mat " * 90
    texts = [long, medium, "the dog"]
    answers = [speaker.chat(ModelRef(base=str(folder)), greedy(text, n=120)) for text in texts]
    assert answers[0].n_prompt_tokens > 512
    for text, answer in zip(texts, answers, strict=True):
        ids, _ = reference(model, tokenizer, text, n=120)
        assert text_of(answer) == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
def test_base_and_adapters_answer_in_one_batch(tmp_path, speaker):
    """LoRA, rsLoRA and DoRA adapters that peft wrote, and the base model itself, all at once."""
    import peft

    folder = write_tiny(tmp_path / "model", seed=1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    kinds = {"lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}}
    dirs = {
        name: write_adapter(tmp_path / name, folder, seed=number, **options)
        for number, (name, options) in enumerate(kinds.items())
    }
    refs = [ModelRef(base=str(folder)), *(ModelRef(base=str(folder), tuned_dir=path) for path in dirs.values())]
    answers = [[speaker.chat(ref, greedy(text, n=16)) for text in QUESTIONS] for ref in refs]
    texts = [[text_of(answer) for answer in row] for row in answers]
    for ref, row in zip(refs, texts, strict=True):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        if ref.tuned_dir:
            model = peft.PeftModel.from_pretrained(model, ref.tuned_dir).eval()
        assert row == [
            tokenizer.decode(reference(model, tokenizer, text, n=16)[0], skip_special_tokens=True) for text in QUESTIONS
        ]
    assert len({tuple(row) for row in texts}) == len(refs)


def test_a_seed_gives_the_same_answer_alone_and_in_company(tmp_path, speaker):
    ref = ModelRef(base=str(write_tiny(tmp_path / "model")))

    def ask(seed, n=1, top_p=1.0):
        request = ChatRequest(messages=messages("the cat"), temperature=1.3, top_p=top_p, seed=seed, n=n, max_tokens=20)
        texts = [""] * n
        for piece in speaker.chat(ref, request).deltas:
            texts[piece.index] += piece.text
        return texts

    alone = [ask(seed, top_p=top_p) for seed in range(4) for top_p in (1.0, 0.7)]
    with ThreadPoolExecutor(8) as pool:
        together = [pool.submit(ask, seed, 1, top_p) for seed in range(4) for top_p in (1.0, 0.7)]
        assert [future.result() for future in together] == alone
    three = ask(1, n=3)
    assert three[0] == ask(1)[0]
    assert len(set(three)) == 3


def test_closing_an_answer_frees_its_place_at_once(tmp_path, speaker):
    ref = ModelRef(base=str(write_tiny(tmp_path / "model")))
    answer = speaker.chat(ref, greedy("the cat", n=900, top_logprobs=None))
    unread = speaker.chat(ref, greedy("the dog", n=900, top_logprobs=None))
    next(answer.deltas)
    (voice,) = speaker._voices.values()
    answer.deltas.close()
    del unread
    assert wait_until(lambda: voice._batch.is_idle)
    assert list(answer.deltas) == []
    assert voice._batch._cache.lanes == {}


@pytest.mark.parametrize("place", ["_prefill_cache", "_cache"])
def test_a_request_that_memory_cannot_hold_ends_with_an_error_and_the_next_is_answered(place, tmp_path, speaker):
    """The keys of its prompt, or of its answer, would take more than any machine addresses: torch itself says no."""
    ref = ModelRef(base=str(write_tiny(tmp_path / "model")))
    expected = text_of(speaker.chat(ref, greedy("the cat")))
    (voice,) = speaker._voices.values()
    kept = voice._batch._cache, voice._batch._prefill_cache
    setattr(voice._batch, place, Cache(replace(kept[0].shape, n_layers=2**40)))
    with ThreadPoolExecutor(1) as pool:
        answer = speaker.chat(ref, greedy("the cat"))
        reading = pool.submit(text_of, answer)
        try:
            assert "memory" in str(reading.exception(timeout=20))
        finally:
            answer.deltas.close()
    voice._batch._cache, voice._batch._prefill_cache = kept
    assert text_of(speaker.chat(ref, greedy("the cat"))) == expected


def test_closing_wakes_who_waits_for_the_next_piece():
    waiting = Deltas(n_choices=1)
    with ThreadPoolExecutor(1) as pool:
        pulled = pool.submit(next, waiting, "ended")
        time.sleep(0.05)
        waiting.close()
        assert pulled.result(timeout=10) == "ended"


def test_idle_models_are_let_go_and_come_back(tmp_path):
    ref = ModelRef(base=str(write_tiny(tmp_path / "model")))
    settings = Settings(home=tmp_path / "home", cache=tmp_path / "cache", allow_local_paths=True)
    speaker = Speaker(settings, idle_s=0.05)
    first = text_of(speaker.chat(ref, greedy("the cat")))
    assert wait_until(lambda: speaker.loaded() == [])
    assert text_of(speaker.chat(ref, greedy("the cat"))) == first


def test_an_idle_model_is_let_go_while_another_loads(tmp_path, speaker, monkeypatch):
    """Found but no longer there, it would be asked again and again until the other has been loaded."""
    first, second = (ModelRef(base=str(write_tiny(tmp_path / name))) for name in ("first", "second"))
    expected = text_of(speaker.chat(first, greedy("the cat")))
    (voice,) = speaker._voices.values()
    loads, may_load = threading.Event(), threading.Event()

    def load_later(folder, **options):
        loads.set()
        assert may_load.wait(20)
        return load(folder, **options)

    monkeypatch.setattr(serving, "load", load_later)
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(speaker.chat, second, greedy("the cat"))
        assert loads.wait(20)
        voice.retire()
        try:
            assert wait_until(lambda: speaker.loaded() == [])
            again = pool.submit(speaker.chat, first, greedy("the cat"))
        finally:
            may_load.set()
        assert text_of(again.result(20)) == text_of(other.result(20)) == expected


def test_weights_that_are_written_anew_answer_at_once_and_the_old_ones_are_let_go(tmp_path, speaker):
    """As when training writes into a folder again; an answer that is being written is written to its end."""
    folder, other = write_tiny(tmp_path / "model"), write_tiny(tmp_path / "other", seed=5)
    ref = ModelRef(base=str(folder))
    expected = {path: text_of(speaker.chat(ModelRef(base=str(path)), greedy("the cat"))) for path in (folder, other)}
    assert expected[folder] != expected[other]
    old = next(iter(speaker._voices.values()))
    under_way = speaker.chat(ref, greedy("the cat", n=200))
    next(under_way.deltas)
    for file in ("model.safetensors", "chat_template.jinja"):
        (folder / file).rename(tmp_path / file)
        shutil.copyfile(other / file, folder / file)
    assert text_of(speaker.chat(ref, greedy("the cat"))) == expected[other]
    assert [piece.finish_reason for piece in under_way.deltas][-1] in ("stop", "length")
    assert wait_until(lambda: not old.is_alive())
    assert sorted(speaker.loaded()) == sorted([str(folder), str(other)])


def test_a_chat_template_that_is_written_anew_is_the_one_that_prompts(tmp_path, speaker):
    folder = write_tiny(tmp_path / "model")
    ref = ModelRef(base=str(folder))
    (folder / "gone.json").symlink_to("nowhere")  # a file that is taken away while the folder is looked at
    before = speaker.chat(ref, greedy("the cat", n=1))
    template = folder / "chat_template.jinja"
    template.write_text("{{ 'the mat ' * 9 }}" + template.read_text())
    assert speaker.chat(ref, greedy("the cat", n=1)).n_prompt_tokens > before.n_prompt_tokens


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
def test_an_adapter_that_is_written_anew_is_neither_the_old_one_nor_a_mixture(tmp_path, speaker):
    """A prompt long enough that its beginning is remembered for each adapter."""
    folder = write_tiny(tmp_path / "model")
    first, second = (write_adapter(tmp_path / f"{seed}", folder, seed=seed) for seed in (1, 2))
    refs = [ModelRef(base=str(folder), tuned_dir=path) for path in (first, second)]
    request = greedy("the cat sat on the mat " * 12)
    expected = [text_of(speaker.chat(ref, request)) for ref in refs]
    assert expected[0] != expected[1]
    assert [text_of(speaker.chat(ref, request)) for ref in refs] == expected
    (voice,) = speaker._voices.values()
    assert len(voice._adapters) == 2
    in_memory = [layer for adapter in voice._adapters.values() for layer in adapter.layers.values()]
    copies = [(layer.a_RI.clone(), layer.b_OR.clone()) for layer in in_memory]
    shutil.copytree(second, first, dirs_exist_ok=True)
    assert text_of(speaker.chat(refs[0], request)) == expected[1]
    for layer, (a_RI, b_OR) in zip(in_memory, copies, strict=True):
        assert torch.equal(layer.a_RI, a_RI)
        assert torch.equal(layer.b_OR, b_OR)
    assert list(speaker._voices.values()) == [voice]


def test_many_threads_share_one_model(tmp_path, speaker):
    ref = ModelRef(base=str(write_tiny(tmp_path / "model")))
    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(lambda text: text_of(speaker.chat(ref, greedy(text, n=10))), QUESTIONS * 10))
    assert texts == texts[: len(QUESTIONS)] * 10
    assert len(speaker.loaded()) == 1
    assert sum(thread.name == "ftclient-voice" for thread in threading.enumerate()) >= 1


def test_the_context_limits_prompt_and_answer(tmp_path, speaker):
    ref = ModelRef(base=str(write_tiny(tmp_path / "model")))
    with pytest.raises(UserError, match="1024") as caught:
        speaker.chat(ref, greedy("the 😀 log " * 400))
    assert caught.value.code == "context_length_exceeded"
    answer = speaker.chat(ref, greedy("the cat " * 300, n=None))
    tokens, reason = tokens_of(answer)
    assert reason == "stop" or answer.n_prompt_tokens + len(tokens) == 1024


@pytest.mark.parametrize("shape", OTHER_SHAPES)
def test_other_architectures_take_the_plain_path(shape, tmp_path, speaker):
    """Capped scores, parallel blocks, and a state instead of attention: by transformers' own cache."""
    folder = write_tiny(tmp_path / "model", shape)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    answers = [speaker.chat(ModelRef(base=str(folder)), greedy(text, n=10)) for text in QUESTIONS]
    for text, answer in zip(QUESTIONS, answers, strict=True):
        ids, _ = reference(model, tokenizer, text, n=10)
        assert text_of(answer) == tokenizer.decode(ids, skip_special_tokens=True)


def test_whole_tuned_weights_speak_with_their_base_models_tokenizer(tmp_path, speaker):
    base, tuned = write_tiny(tmp_path / "base"), write_tiny(tmp_path / "tuned", seed=9)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tuned / file).unlink()
    texts = [
        text_of(speaker.chat(ModelRef(base=str(base), tuned_dir=dir_), greedy("the cat"))) for dir_ in (None, tuned)
    ]
    model = transformers.AutoModelForCausalLM.from_pretrained(tuned).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    assert texts[1] == tokenizer.decode(reference(model, tokenizer, "the cat", n=24)[0], skip_special_tokens=True)
    assert texts[0] != texts[1]


def test_deleted_weights_are_named_as_the_reason(tmp_path, speaker):
    base = write_tiny(tmp_path / "base")
    with pytest.raises(UserError, match="no longer there"):
        speaker.chat(ModelRef(base=str(base), tuned_dir=tmp_path / "gone"), greedy("the cat"))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
def test_an_adapter_for_another_model_is_refused(tmp_path, speaker):
    base, other = write_tiny(tmp_path / "base"), write_tiny(tmp_path / "other", "gpt-neox")
    adapter = write_adapter(tmp_path / "tuned", base, seed=0)
    with pytest.raises(UserError, match="can't be used with its base model"):
        speaker.chat(ModelRef(base=str(other), tuned_dir=adapter), greedy("the cat"))
