"""Near-duplicates over 100,000 examples: in less than a minute, with none missed.

A fifth of the examples are copies in which one word of forty was changed. They are looked for in the two ways that the
commands use: all at once (split, report), and line by line against what was kept (clean). One process does it, so its
processor time is the wall time of a machine that does nothing else.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterator

from ftclient.data.duplicates import SIMILARITY, Fingerprint, NearIndex, fingerprint, groups, jaccard
from tests.benchmarks.runner import Options, Result

N_EXAMPLES = 100_000
MAX_S = 60.0
COPIES = 0.2
_FILES = ("banking77_train.jsonl", "gsm8k.jsonl", "jcommonsenseqa_ja.jsonl")


def run(options: Options) -> Iterator[Result]:
    """Measure both ways on the same texts."""
    n_examples = int(N_EXAMPLES * options.scale)
    texts, pairs = _texts(options, n_examples)
    start = time.process_time()
    prints = [fingerprint(text) for text in texts]
    prints_s = time.process_time() - start
    alike = [(one, other) for one, other in pairs if jaccard(prints[one], prints[other]) >= SIMILARITY]

    start = time.process_time()
    group_of = {at: number for number, group in enumerate(groups(prints)) for at in group}
    grouping_s = prints_s + time.process_time() - start
    missed = sum(group_of[one] != group_of[other] for one, other in alike)
    yield _time("all at once", grouping_s, n_examples)
    yield _missed("all at once", missed, len(alike))

    start = time.process_time()
    near = _line_by_line(prints)
    yield _time("line by line", prints_s + time.process_time() - start, n_examples)
    # A copy of an example that was itself let go is compared with what was kept instead.
    kept = [other in near for one, other in alike if one not in near]
    yield _missed("line by line", kept.count(False), len(kept))


def _line_by_line(prints: list[Fingerprint]) -> set[int]:
    index = NearIndex()
    near = set()
    for at, one in enumerate(prints):
        if index.similar(one):
            near.add(at)
        else:
            index.add(one)
    return near


def _texts(options: Options, n_examples: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Texts, and which of them is a copy of which."""
    rng = random.Random(1)
    n_originals = int(n_examples * (1 - COPIES))
    sources = _real(options) or _made_up(rng)
    originals = [" ".join(words) for words in itertools.islice(_varied(sources, rng), n_originals)]
    texts = list(originals)
    pairs = []
    for copy in range(n_examples - n_originals):
        words = originals[copy].split(" ")
        for _ in range(max(1, len(words) // 40)):
            words[rng.randrange(len(words))] = "other"
        pairs.append((copy, len(texts)))
        texts.append(" ".join(words))
    return texts, pairs


def _real(options: Options) -> list[list[str]]:
    """The prompts of real files, as words; nothing without a folder."""
    if options.data is None:
        return []
    lines = [line for name in _FILES for line in (options.data / name).read_text(encoding="utf-8").splitlines()]
    return [json.loads(line)["messages"][-2]["content"].split(" ") for line in lines]


def _made_up(rng: random.Random) -> list[list[str]]:
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(20_000)]
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(20_000)))
    return [rng.choices(vocabulary, cum_weights=weights, k=rng.randint(8, 200)) for _ in range(2_000)]


def _varied(sources: list[list[str]], rng: random.Random) -> Iterator[list[str]]:
    """Endless texts: two halves of different sources each, with a number that none of the others has."""
    for number in itertools.count():
        one, other = rng.choice(sources), rng.choice(sources)
        yield [*one[: len(one) // 2], f"{number}", *other[len(other) // 2 :], f"{rng.random():.6f}"]


def _time(way: str, seconds: float, n_examples: int) -> Result:
    return Result(
        name=f"near-duplicates, {way}",
        value=seconds,
        unit="CPU s",
        reach=f"< {MAX_S:.0f}",
        ok=seconds < MAX_S,
        details={"n_examples": n_examples},
    )


def _missed(way: str, n_missed: int, n_pairs: int) -> Result:
    share = n_missed / max(1, n_pairs)
    details = {"n_missed": n_missed, "n_pairs": n_pairs}
    return Result(name=f"missed, {way}", value=100 * share, unit="%", reach="< 1", ok=share < 0.01, details=details)
