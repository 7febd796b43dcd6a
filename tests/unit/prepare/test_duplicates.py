"""Near-duplicates by MinHash: nothing alike is missed, nothing unlike is joined."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys

from ftclient.data.duplicates import NearIndex, fingerprint, groups, jaccard, same_key, words


def text(rng: random.Random, n_words: int) -> list[str]:
    return ["".join(rng.choices("abcdefghijklmnop", k=5)) for _ in range(n_words)]


def exact(one: str, other: str) -> float:
    """The Jaccard index as the module's docstring defines it, without hashing."""
    sets = [{*words(t), *itertools.pairwise(words(t))} for t in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_similarity_is_the_jaccard_index_of_words_and_pairs():
    rng = random.Random(3)
    for _ in range(50):
        one = text(rng, 30)
        other = [word if rng.random() > 0.15 else "new" for word in one]
        a, b = " ".join(one), " ".join(other)
        assert jaccard(fingerprint(a), fingerprint(b)) == exact(a, b)


def test_pairs_above_the_threshold_are_joined_and_others_are_not():
    """2,000 texts of 8 to 80 words and a changed copy of each; every pair is judged by the exact index."""
    rng = random.Random(1)
    originals = [text(rng, rng.randint(8, 80)) for _ in range(2000)]
    copies = [[word if rng.random() > 0.06 else "new" for word in one] for one in originals]
    texts = [" ".join(one) for one in [*originals, *copies]]
    group_of = {at: number for number, group in enumerate(groups([fingerprint(t) for t in texts])) for at in group}
    alike = [exact(texts[at], texts[2000 + at]) >= 0.8 for at in range(2000)]
    joined = [group_of[at] == group_of[2000 + at] for at in range(2000)]
    assert 500 < sum(alike) < 1900
    assert sum(alike) - sum(a and j for a, j in zip(alike, joined, strict=True)) <= 1
    assert not any(j and not a for a, j in zip(alike, joined, strict=True))


def test_texts_from_one_template_are_no_copies():
    rng = random.Random(2)
    prints = [
        fingerprint(
            f"Dear team, order {rng.randrange(10**6)} of {' '.join(text(rng, 4))} came late, thanks, {text(rng, 1)}"
        )
        for _ in range(500)
    ]
    assert len(groups(prints)) == 500


def test_the_index_finds_the_most_similar_first():
    rng = random.Random(4)
    base = text(rng, 60)
    index = NearIndex(fingerprint(" ".join(text(rng, 60))) for _ in range(100))
    close = index.add(fingerprint(" ".join([*base[:-1], "end"])))
    closer = index.add(fingerprint(" ".join(base)))
    found = index.similar(fingerprint(" ".join(base)))
    assert [position for position, _ in found] == [closer, close]
    assert found[0][1] == 1.0


def test_case_width_and_punctuation_make_no_difference_and_numbers_do():
    assert same_key("Ｈｅｌｌｏ,  ﾜｰﾙﾄﾞ！") == same_key("hello ワールド")
    assert same_key("order 12") != same_key("order 13")
    assert same_key("2 + 3") != same_key("2 * 3")


def test_texts_without_words_are_compared_by_their_signs():
    assert jaccard(fingerprint("!!! ???"), fingerprint("!!! ???")) == 1.0
    assert jaccard(fingerprint("!!!"), fingerprint("???")) == 0.0
    assert len(groups([fingerprint(""), fingerprint(""), fingerprint("a")])) == 2


def test_fingerprints_are_the_same_in_every_process():
    """Python salts its hashes of strings; a split must not depend on that."""
    code = "from ftclient.data.duplicates import fingerprint as f; p = f('one two three'); print(p.members, p.bands)"
    run = [sys.executable, "-c", code]
    outputs = {subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(outputs) == 1
