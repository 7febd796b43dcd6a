"""Splitting: shares, labels, and nothing that one part knows of another."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from ftclient.data import Dataset
from ftclient.data.prompts import exchange_of
from ftclient.data.split import find_leaks, labels_of, split_examples
from ftclient.data.split_files import leaks_between, split_file
from ftclient.errors import DataError

LABELS = ("refund", "delivery", "account", "other")


def chat(*turns: str, system: str | None = None) -> dict:
    roles = ("user", "assistant")
    messages = [{"role": "system", "content": system}] if system else []
    return {"messages": messages + [{"role": roles[at % 2], "content": text} for at, text in enumerate(turns)]}


def sentence(seed: int, n_words: int = 12) -> str:
    """A sentence of made-up words that shares next to nothing with those of other seeds."""
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(n_words))


def labelled(n: int) -> list[dict]:
    weights = (50, 30, 15, 5)
    rng = random.Random(1)
    return [chat(sentence(at), rng.choices(LABELS, weights)[0]) for at in range(n)]


def answers(examples: list[dict], positions: list[int]) -> Counter[str]:
    return Counter(exchange_of(examples[at]).answer_text for at in positions)


def test_parts_have_the_shares_that_were_asked_for():
    parts = split_examples(labelled(1000), (0.8, 0.1, 0.1), seed=7)
    assert [len(part) for part in parts] == [800, 100, 100]
    assert sorted(at for part in parts for at in part) == list(range(1000))


def test_every_part_has_its_share_of_every_label():
    examples = labelled(1000)
    everything = answers(examples, list(range(1000)))
    for share, part in zip((0.8, 0.1, 0.1), split_examples(examples, (0.8, 0.1, 0.1), seed=3), strict=True):
        found = answers(examples, part)
        for label in LABELS:
            assert abs(found[label] - share * everything[label]) <= 1.5, label


def test_no_label_is_tested_that_was_never_trained_on():
    """Seventy labels of two examples each: the first of each goes to the largest part."""
    examples = [chat(sentence(at), f"label {at % 70}") for at in range(140)]
    train, _, test = split_examples(examples, (0.8, 0.1, 0.1), seed=11)
    assert answers(examples, train).keys() >= answers(examples, test).keys()
    assert len(test) == 14


@pytest.mark.parametrize("seed", range(12))
def test_a_label_of_a_single_example_is_trained_on(seed):
    names = [f"label {at % 45}" for at in range(90)] + [f"single {at}" for at in range(8)]
    examples = [chat(sentence(at), name) for at, name in enumerate(names)]
    train, *others = split_examples(examples, (0.6, 0.2, 0.2), seed=seed)
    for part in others:
        assert answers(examples, train).keys() >= answers(examples, part).keys()


def test_the_order_of_lines_makes_no_difference():
    examples = labelled(300)
    order = list(range(300))
    random.Random(5).shuffle(order)
    expected = [{examples[at]["messages"][0]["content"] for at in part} for part in split(examples)]
    shuffled = [examples[at] for at in order]
    assert [{shuffled[at]["messages"][0]["content"] for at in part} for part in split(shuffled)] == expected


def split(examples: list[dict], seed: int = 7) -> list[list[int]]:
    return split_examples(examples, (0.8, 0.1, 0.1), seed=seed)


def test_another_seed_gives_another_split_and_the_same_seed_the_same():
    examples = labelled(200)
    assert split(examples, seed=1) == split(examples, seed=1)
    assert split(examples, seed=1) != split(examples, seed=2)


@pytest.mark.parametrize(
    "copy",
    [
        pytest.param(str.upper, id="capitals"),
        pytest.param(lambda text: f"  {text} !!", id="spaces and punctuation"),
        pytest.param(lambda text: text.replace(text.split()[4], "changed"), id="one word of twenty"),
        pytest.param(lambda text: "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in text), id="full width"),
    ],
)
def test_near_duplicates_stay_together(copy):
    examples = [chat(sentence(at, 20), "a") for at in range(50)]
    examples += [chat(copy(example["messages"][0]["content"]), "b") for example in examples]
    parts = split_examples(examples, (0.5, 0.5), seed=1)
    part_of = {at: number for number, part in enumerate(parts) for at in part}
    assert [part_of[at] for at in range(50)] == [part_of[at + 50] for at in range(50)]


def test_japanese_near_duplicates_stay_together():
    text = "注文した煎茶がまだ届きません。追跡番号を入れても受付のままです。いつごろ届くか教えてください。"
    examples = [chat(text, "a"), chat(text.replace("ください。", "ください！").replace("、", ","), "b")]
    examples += [chat(sentence(at), "c") for at in range(30)]
    parts = split_examples(examples, (0.5, 0.5), seed=1)
    assert any({0, 1} <= set(part) for part in parts)


def test_turns_of_one_conversation_stay_together():
    """A conversation that was unrolled turn by turn into three examples, forty times."""
    examples = []
    for at in range(40):
        turns = [sentence(10 * at + turn) for turn in range(6)]
        examples += [chat(*turns[:2]), chat(*turns[:4]), chat(*turns)]
    parts = split_examples(examples, (0.6, 0.2, 0.2), seed=2)
    for part in parts:
        assert Counter(at // 3 for at in part).keys() == {at // 3 for at in part if at % 3 == 0}
        assert all(n == 3 for n in Counter(at // 3 for at in part).values())


def test_a_greeting_does_not_tie_conversations_together():
    examples = [chat("Hello", "Hello! How can I help?")]
    examples += [chat("Hello", "Hello! How can I help?", sentence(at), sentence(1000 + at)) for at in range(200)]
    assert [len(part) for part in split(examples)] == pytest.approx([160, 20, 20], abs=2)


def test_a_shared_system_prompt_does_not_make_examples_alike():
    system = sentence(99, 400)
    examples = [chat(sentence(at, 6), "yes", system=system) for at in range(100)]
    assert [len(part) for part in split(examples)] == [80, 10, 10]


def test_group_by_a_key_or_a_function():
    examples = [{**chat(sentence(at), "yes"), "customer": at % 20} for at in range(200)]
    for key in ("customer", lambda example: example["customer"]):
        parts = split_examples(examples, (0.8, 0.2), seed=1, group_by=key)
        customers = [{examples[at]["customer"] for at in part} for part in parts]
        assert not customers[0] & customers[1]


def test_label_by_a_key_balances_it():
    examples = [{**chat(sentence(at), sentence(1000 + at)), "topic": "ab"[at % 2]} for at in range(100)]
    _, test = split_examples(examples, (0.8, 0.2), seed=1, label_by="topic")
    assert Counter(examples[at]["topic"] for at in test) == {"a": 10, "b": 10}


def test_no_part_is_empty_while_there_are_groups_for_it():
    same = [chat(sentence(1), "yes")] * 20
    parts = split_examples([*same, *[chat(sentence(at), "no") for at in (2, 3)]], (0.8, 0.1, 0.1), seed=1)
    assert all(parts)


@pytest.mark.parametrize("shares", [(0.5, 0.4), (), (1.2, -0.2)])
def test_shares_that_do_not_add_up_are_refused(shares):
    with pytest.raises(ValueError, match="add up to 1"):
        split_examples([], shares, seed=1)


def test_free_answers_are_no_labels():
    assert labels_of([sentence(at) for at in range(50)]) == [None] * 50
    assert labels_of(["yes", "no"] * 10)[:2] == ["yes", "no"]
    assert labels_of(["yes"] * 10) == [None] * 10


def test_leaks_are_found_by_kind():
    known = [chat(sentence(at, 20), "yes") for at in range(5)]
    known.append(chat(*[sentence(50 + turn) for turn in range(4)]))
    first = known[0]["messages"][0]["content"]
    asked = [
        known[1],
        chat(known[2]["messages"][0]["content"].upper(), "no"),
        chat(sentence(50), "something else"),
        chat(first.replace(first.split()[3], "other"), "yes"),
        chat(sentence(400), "yes"),
    ]
    found = [(leak.index_a, leak.index_b, leak.kind) for leak in find_leaks(asked, known)]
    assert found == [
        (0, 1, "same_example"),
        (1, 2, "same_prompt"),
        (2, 5, "same_conversation"),
        (3, 0, "near_duplicate"),
    ]


def test_files_are_split_line_by_line_as_they_are(tmp_path: Path):
    source = tmp_path / "mails.jsonl"
    Dataset(labelled(50)).write(source)
    lines = source.read_bytes().splitlines()
    # Spaces that a JSON library would not write show that lines are copied, not written anew.
    lines[3] = lines[3].replace(b'{"messages":', b'{ "messages" :')
    source.write_bytes(b"\xef\xbb\xbf" + b"\r\n\r\n".join(lines))
    parts = split_file(source, (0.8, 0.2))
    assert [part.path.name for part in parts] == ["mails.train.jsonl", "mails.test.jsonl"]
    written = [line for part in parts for line in part.path.read_bytes().splitlines()]
    assert sorted(written) == sorted(lines)
    assert parts[0].lines == sorted(parts[0].lines)
    assert sum((part.labels for part in parts), Counter()).total() == 50


def test_a_split_replaces_no_file_unasked(tmp_path: Path):
    source = tmp_path / "mails.jsonl"
    Dataset(labelled(20)).write(source)
    split_file(source)
    before = (tmp_path / "mails.train.jsonl").read_bytes()
    with pytest.raises(DataError, match="exists already"):
        split_file(source, seed=8)
    assert (tmp_path / "mails.train.jsonl").read_bytes() == before
    split_file(source, seed=8, overwrite=True)
    assert (tmp_path / "mails.train.jsonl").read_bytes() != before
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_line_that_cannot_be_split_is_named(tmp_path: Path):
    source = tmp_path / "mails.jsonl"
    source.write_text('{"messages": []}\n\nnot json\n')
    with pytest.raises(DataError, match=r"mails\.jsonl, line 3: .*clean --fix"):
        split_file(source)


def test_leaks_between_files_name_physical_lines(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('\n{"messages": [{"role": "user", "content": "Where is my parcel"}]}\n')
    (tmp_path / "b.jsonl").write_text(
        '{"messages": []}\n\n{"messages": [{"role": "user", "content": "WHERE is my parcel?"}]}'
    )
    (leak,) = leaks_between(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert (leak.line_a, leak.line_b, leak.kind) == (2, 3, "same_prompt")
