"""Splits are disjoint, complete, repeatable, and leak nothing."""

from __future__ import annotations

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from ftclient.data.duplicates import SIMILARITY, fingerprint, groups, jaccard, same_key
from ftclient.data.prompts import example_digest, exchange_of
from ftclient.data.split import find_leaks, split_examples
from tests.property.prepare.strategies import EXAMPLE_LIKE, JSON, chats

WORDS = st.sampled_from("tea pot cup late cold broken send back money order mail wrong right blue green".split())  # noqa: SIM905
FEW_WORDS = st.lists(WORDS, min_size=1, max_size=12).map(" ".join)
"""Texts of few words, so that equal and nearly equal ones are frequent."""

SHARES = st.lists(st.integers(1, 10), min_size=1, max_size=4).map(lambda parts: [part / sum(parts) for part in parts])
ANYTHING = st.lists(chats() | chats(FEW_WORDS) | EXAMPLE_LIKE | JSON, max_size=20)


@given(ANYTHING, SHARES, st.integers(0, 1000))
def test_parts_are_disjoint_and_complete(examples, shares, seed):
    parts = split_examples(examples, shares, seed=seed)
    assert len(parts) == len(shares)
    assert sorted(itertools.chain(*parts)) == list(range(len(examples)))
    assert all(part == sorted(part) for part in parts)


@given(ANYTHING, SHARES, st.integers(0, 1000), st.integers(0, 1000))
def test_the_order_of_lines_does_not_matter(examples, shares, seed, order_seed):
    order = list(range(len(examples)))
    random.Random(order_seed).shuffle(order)
    parts = split_examples(examples, shares, seed=seed)
    shuffled = split_examples([examples[at] for at in order], shares, seed=seed)

    def contents(chosen, of):
        return sorted(example_digest(of[at]) for at in chosen)

    for part, other in zip(parts, shuffled, strict=True):
        assert contents(part, examples) == contents(other, [examples[at] for at in order])


@given(st.lists(chats(FEW_WORDS), max_size=25), SHARES, st.integers(0, 100))
def test_no_two_parts_have_prompts_that_are_the_same_or_nearly(examples, shares, seed):
    parts = split_examples(examples, shares, seed=seed)
    prompts = [exchange_of(example).prompt_text for example in examples]
    for part, other in itertools.combinations(parts, 2):
        for one, two in itertools.product(part, other):
            assert jaccard(fingerprint(prompts[one]), fingerprint(prompts[two])) < SIMILARITY


@given(st.lists(chats(FEW_WORDS), max_size=15), SHARES, st.integers(0, 100))
def test_the_parts_of_a_split_have_no_leaks(examples, shares, seed):
    parts = [[examples[at] for at in part] for part in split_examples(examples, shares, seed=seed)]
    for part, other in itertools.permutations(parts, 2):
        assert find_leaks(part, other) == []


@given(st.lists(chats(FEW_WORDS), min_size=1, max_size=15))
def test_a_copy_is_always_a_leak(examples):
    leaks = find_leaks(examples, examples)
    assert [leak.index_a for leak in leaks] == list(range(len(examples)))
    assert {leak.kind for leak in leaks} == {"same_example"}


@settings(max_examples=50)
@given(st.lists(st.lists(WORDS, max_size=10).map(" ".join), max_size=30))
def test_groups_hold_every_text_once_and_equal_texts_together(texts):
    found = groups([fingerprint(text) for text in texts])
    assert sorted(itertools.chain(*found)) == list(range(len(texts)))
    group_of = {at: number for number, group in enumerate(found) for at in group}
    for one, other in itertools.combinations(range(len(texts)), 2):
        if same_key(texts[one]) == same_key(texts[other]):
            assert group_of[one] == group_of[other]
