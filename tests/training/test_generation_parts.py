"""The parts of generation by themselves: chance, whole characters, stop strings, places in the cache."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from local_backend.engine.generation.cache import Cache, CacheShape, restore, snapshot
from local_backend.engine.generation.sampling import Sampling, choose, numbers_for
from local_backend.engine.generation.text import TextStream, Vocabulary
from local_backend.task import TokenLogprob
from tests.training.chatty import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
VOCABULARY = Vocabulary(TOKENIZER)


def frequencies(logits_V, n, **options):
    """How often each token is drawn in `n` draws."""
    samplings = [Sampling(**options, top_logprobs=None, numbers=numbers_for(7, i)) for i in range(n)]
    drawn = [chosen.token for chosen in choose(logits_V.expand(n, -1), samplings)]
    return torch.bincount(torch.tensor(drawn), minlength=len(logits_V)) / n


def test_chance_follows_the_tempered_probabilities():
    """20,000 draws: each share within five standard errors."""
    logits_V = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -2.0, 1.5, -9.0])
    expected = (logits_V / 0.7).softmax(-1)
    error = (expected * (1 - expected) / 20_000).sqrt()
    got = frequencies(logits_V, 20_000, temperature=0.7, top_p=1.0)
    assert ((got - expected).abs() <= 5 * error + 1e-4).all()


def test_top_p_keeps_the_fewest_tokens_that_reach_it():
    logits_V = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15]).log()
    got = frequencies(logits_V, 4_000, temperature=1.0, top_p=0.65)
    assert got[[0, 2, 4]].tolist() == [0, 0, 0]
    assert float(got[1]) == pytest.approx(0.4 / 0.7, abs=0.04)


def test_top_p_is_right_when_very_many_tokens_share_it():
    """Among 5,000 equal tokens the nucleus of 0.9 is 4,500 of them, not the first few hundred."""
    got = frequencies(torch.zeros(5_000), 3_000, temperature=1.0, top_p=0.9)
    assert int((got > 0).sum()) > 1_500


@pytest.mark.parametrize("temperature", [1e-46, 1e-40, 1e-38, 1e-30, 1e-7, 1e-6, 1e-3])
def test_a_temperature_of_next_to_nothing_is_greedy(temperature):
    """Logits divided by less would be infinite, or no numbers."""
    got = frequencies(torch.tensor([2.0, 5.0, -30.0, 4.9]), 50, temperature=temperature, top_p=1.0)
    assert got.tolist() == [0, 1, 0, 0]


def test_logprobs_are_those_of_the_untempered_model():
    logits_BV = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    samplings = [
        Sampling(temperature=t, top_p=1.0, top_logprobs=k, numbers=numbers_for(1, 0))
        for t, k in [(0.0, 3), (2.0, 0), (1.0, None)]
    ]
    greedy, hot, plain = choose(logits_BV, samplings)
    expected = logits_BV.log_softmax(-1)
    assert greedy.token == int(logits_BV[0].argmax())
    assert [token for token, _ in greedy.top] == expected[0].topk(3).indices.tolist()
    assert greedy.logprob == pytest.approx(float(expected[0].max()))
    assert hot.logprob == pytest.approx(float(expected[1, hot.token]))
    assert hot.top == ()
    assert (plain.logprob, plain.top) == (None, ())


def test_no_seed_is_a_new_number_each_time():
    assert numbers_for(None, 0).random() != numbers_for(None, 0).random()
    assert numbers_for(3, 1).random() == numbers_for(3, 1).random() != numbers_for(3, 2).random()


def stream(ids, stop=()):
    """Feed tokens one by one; return the pieces that may be sent, the kept tokens, and whether a stop was met."""
    text_stream = TextStream(VOCABULARY, stop)
    pieces, kept = [], []
    for number, token in enumerate(ids):
        text, logprobs = text_stream.feed(token, TokenLogprob(token="", logprob=float(number), bytes=()))
        pieces.append(text)
        kept += [int(entry.logprob) for entry in logprobs]
        if text_stream.stopped:
            return pieces, kept, True
    text, logprobs = text_stream.finish()
    return [*pieces, text], [*kept, *(int(entry.logprob) for entry in logprobs)], False


TEXTS = st.text(alphabet=st.sampled_from("the cat日本語é😀 \n"), max_size=30)


@given(TEXTS)
def test_text_arrives_in_whole_characters(text):
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    pieces, kept, _ = stream(ids)
    assert "".join(pieces) == text
    assert kept == list(range(len(ids)))
    assert not any("\ufffd" in piece for piece in pieces)


@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=20))
def test_any_tokens_read_as_the_tokenizer_reads_them(ids):
    """Broken characters too; special tokens are no text."""
    pieces, _, _ = stream(ids)
    assert "".join(pieces) == TOKENIZER.decode(ids, skip_special_tokens=True)


@settings(max_examples=300)
@given(TEXTS, st.lists(TEXTS.filter(bool).map(lambda text: text[:5]), min_size=1, max_size=4))
def test_stop_strings_are_met_wherever_tokens_end(text, stop):
    """What is sent is the text before the earliest stop string, and nothing sent is ever taken back."""
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    pieces, kept, stopped = stream(ids, stop)
    sent = "".join(pieces)
    if not any(one in text for one in stop):
        assert (sent, stopped, kept) == (text, False, list(range(len(ids))))
        return
    # The first stop that is complete ends the answer; of several completed by one token, the one that begins first.
    ends = {one: text.find(one) + len(one) for one in stop if one in text}
    assert stopped
    assert text.startswith(sent)
    assert any(text[len(sent) :].startswith(one) for one in stop)
    assert len(sent) <= min(ends.values())
    assert not any(one in sent for one in stop)


def test_sentencepiece_spellings_are_understood():
    """Gemma and Llama 2 write spaces as U+2581 and bytes as <0x..>, and begin a text with a space that is none."""
    import tokenizers
    import transformers

    words = ["<s>", "▁Hello", "▁w", "orld", "<0xE2>", "<0x82>", "<0xAC>"]
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({word: i for i, word in enumerate(words)}, []))
    decoders = tokenizers.decoders
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=words[0])
    text_stream = TextStream(Vocabulary(tokenizer), ())
    pieces = [text_stream.feed(token)[0] for token in [0, 1, 2, 3, 4, 5, 6]]
    assert pieces == ["", "Hello", " w", "orld", "", "", "€"]
    assert "".join(pieces) == tokenizer.decode([0, 1, 2, 3, 4, 5, 6], skip_special_tokens=True)


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_rows_keep_their_content_while_others_come_go_and_move(seed):
    """Random joins, growth and leaves against a plain dict of what each row should hold."""
    dice = random.Random(seed)
    shape = CacheShape(n_layers=2, n_kv_heads=1, head_size=1, dtype=torch.float32, device=torch.device("cpu"))
    cache, held = Cache(shape), {}
    for number in range(60):
        action = dice.choice(["join", "join", "grow", "leave"])
        if action == "join":
            row = cache.take(dice.choice([3, 200, 300, 600]))
            row.n_tokens = dice.randint(1, row.lane.capacity)
            row.lane.keys_LRKCD[:, row.index, :, : row.n_tokens] = number
            row.lane.values_LRKCD[:, row.index, :, : row.n_tokens] = -number
            held[row] = (number, row.n_tokens)
        elif held:
            row = dice.choice(list(held))
            if action == "leave":
                cache.free(row)
                del held[row]
            else:
                held[cache.with_room(row)] = held.pop(row)
        for row, (value, n_tokens) in held.items():
            saved = snapshot(row)
            assert row.n_tokens == n_tokens
            assert saved.keys_LKCD.eq(value).all()
            assert saved.values_LKCD.eq(-value).all()
    assert sum(len(lane.rows) for lane in cache.lanes.values()) == len(held)


def test_unused_room_is_zero_even_where_memory_held_something_else():
    """Masked keys are still multiplied: NaN left in them would become an answer's end now and then."""
    shape = CacheShape(n_layers=4, n_kv_heads=2, head_size=64, dtype=torch.float32, device=torch.device("cpu"))
    for _ in range(20):
        torch.full((4, 4, 2, 256, 64), torch.nan)
        row = Cache(shape).take(10)
        assert not row.lane.keys_LRKCD.any()
        assert not row.lane.values_LRKCD.any()


def test_room_for_neighbours_is_taken_ahead_only_where_it_is_small():
    """Four long rows at once would be gigabytes for one request; a place where one prompt is computed needs one."""
    shape = CacheShape(n_layers=1, n_kv_heads=1, head_size=1, dtype=torch.float32, device=torch.device("cpu"))
    cache, alone = Cache(shape), Cache(shape, most_rows_ahead=1)
    rows = {n_tokens: cache.take(n_tokens).lane.keys_LRKCD.shape[1] for n_tokens in (100, 1_000, 1_500, 20_000)}
    assert rows == {100: 4, 1_000: 4, 1_500: 2, 20_000: 1}
    assert alone.take(100).lane.keys_LRKCD.shape[1] == 1
    assert cache.take(20_000).lane.keys_LRKCD.shape[1] == 2


def test_a_snapshot_starts_another_row():
    shape = CacheShape(n_layers=2, n_kv_heads=2, head_size=4, dtype=torch.float32, device=torch.device("cpu"))
    cache = Cache(shape)
    first = cache.take(10)
    first.n_tokens = 10
    first.lane.keys_LRKCD[:, first.index] = torch.randn(2, 2, 256, 4)
    first.lane.values_LRKCD[:, first.index] = torch.randn(2, 2, 256, 4)
    saved = snapshot(first)
    second = cache.take(300)
    restore(saved, to=second, n_tokens=7)
    again = snapshot(second)
    assert torch.equal(again.keys_LKCD, saved.keys_LKCD[:, :, :7])
    assert torch.equal(again.values_LKCD, saved.values_LKCD[:, :, :7])
    assert saved.size_bytes == shape.bytes_of(10)
