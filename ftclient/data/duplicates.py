"""Near-duplicates: texts that share most of their words, found without comparing every pair.

A text becomes the set of its words and of its pairs of neighbouring words (each character counts as a word in
Chinese, Japanese and Thai, which put no spaces). How alike two texts are is the Jaccard index of their sets:
what they share over what they have together. Candidates come from MinHash (one hash per member, the lowest in each of
128 bins, empty bins filled from others; Shrivastava, "Optimal Densification for Fast and Accurate Minwise Hashing",
2017) cut into 25 bands of 5: a pair that is 0.8 alike shares at least one band in more than 99.9 % of cases.
Every candidate is then compared exactly, so nothing unlike is ever called a duplicate.

Case, width (NFKC), punctuation and white space make no difference; numbers do.
"""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

SIMILARITY = 0.8
"""From here on two texts count as near-duplicates: about one word in fifteen may differ."""

_N_BINS = 128
_BAND_SIZE = 5
_N_BANDS = _N_BINS // _BAND_SIZE
_MASK = 0xFFFF_FFFF
_NEIGHBOURS = 4
"""In a crowded band each text is compared with this many that sort next to it."""
_CROWD = 8
_MAX_IN_BUCKET = 64
_MAX_COMPARED = 16

_UNSPACED = (
    "\u0e00-\u0eff"  # Thai and Lao
    "\u3040-\u30ff\u31f0-\u31ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # ideographs
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[+*/=<>%^|~$€£¥#]|-(?=\d)")


class Fingerprint(NamedTuple):
    """A text as the set of its members (sorted 32-bit hashes) and the bands of its MinHash."""

    members: array[int]
    bands: array[int]


def words(text: str) -> list[str]:
    """The words of a text as comparison sees them: lower case, one width, without punctuation.

    A text without any word (emoji, punctuation) gives its characters.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return _WORD.findall(plain) or plain.split()


def same_key(text: str) -> str:
    """Equal for two texts that differ in case, width, punctuation and white space only."""
    return " ".join(words(text))


def fingerprint(text: str) -> Fingerprint:
    """The fingerprint by which `jaccard` and `groups` compare a text; about 10 bytes a word."""
    hashes = [_HASHES[word] for word in words(text)]
    pairs = ((a * 0x85EB_CA6B + b * 0xC2B2_AE35 + 0x27D4_EB2F) & _MASK for a, b in zip(hashes, islice(hashes, 1, None)))  # noqa: B905  the second is shorter by one
    members = array("I", sorted({*hashes, *pairs}))
    return Fingerprint(members, _bands(members))


def jaccard(one: Fingerprint, other: Fingerprint) -> float:
    """How alike two texts are: 0.0 share nothing, 1.0 have the same words and pairs of words."""
    n_one, n_other = len(one.members), len(other.members)
    n_shared = len(set(one.members).intersection(other.members))
    return n_shared / max(1, n_one + n_other - n_shared) if n_one and n_other else float(n_one == n_other)


def groups(prints: Sequence[Fingerprint], *, similarity: float = SIMILARITY) -> list[list[int]]:
    """Put near-duplicates together.

    Args:
        prints: One fingerprint a text. Which texts end together may depend on their order where a crowd of
            thousands is alike; give them in an order of their content to be independent of it.
        similarity: Lowest Jaccard index that joins two texts. Joining is transitive.

    Returns:
        Positions in `prints`, each exactly once, grouped; texts that are alone too.
    """
    union = Union(len(prints))
    distinct = _join_equal(prints, union)
    for band in range(_N_BANDS):
        for crowd in _crowds(prints, distinct, band):
            for one, other in _pairs(crowd):
                if union.find(one) != union.find(other) and _is_near(prints[one], prints[other], similarity):
                    union.join(one, other)
    return union.groups()


class Union:
    """Disjoint sets over the numbers below `size`; the smallest number stands for its set."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, item: int) -> int:
        """The number that stands for the set of `item`."""
        parent = self._parent
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def join(self, one: int, other: int) -> None:
        """Make the sets of two numbers one."""
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low

    def groups(self) -> list[list[int]]:
        """All sets, ordered by their smallest number."""
        found: dict[int, list[int]] = defaultdict(list)
        for item in range(len(self._parent)):
            found[self.find(item)].append(item)
        return list(found.values())


class NearIndex:
    """Texts, added one by one, that can be asked for those that are most like another."""

    def __init__(self, prints: Iterable[Fingerprint] = ()) -> None:
        self._prints: list[Fingerprint] = []
        self._by_band: list[dict[int, list[int]]] = [defaultdict(list) for _ in range(_N_BANDS)]
        for one in prints:
            self.add(one)

    def add(self, one: Fingerprint) -> int:
        """Keep a text; returns its position, counted from 0."""
        position = len(self._prints)
        self._prints.append(one)
        for band, value in zip(self._by_band, one.bands, strict=True):
            if len(band[value]) < _MAX_IN_BUCKET:
                band[value].append(position)
        return position

    def similar(self, one: Fingerprint, *, similarity: float = SIMILARITY) -> list[tuple[int, float]]:
        """Positions and similarities of texts that reach `similarity`, the most similar first, at most 16."""
        found = Counter[int]()
        for band, value in zip(self._by_band, one.bands, strict=True):
            found.update(band.get(value, ()))
        likeness = (
            (position, jaccard(one, self._prints[position])) for position, _ in found.most_common(_MAX_COMPARED)
        )
        reached = [(position, value) for position, value in likeness if value >= similarity]
        return sorted(reached, key=lambda pair: (-pair[1], pair[0]))


class _WordHashes(dict[str, int]):
    """32-bit hashes of words, remembered; emptied when a corpus has more different words than fit."""

    def __missing__(self, word: str) -> int:
        if len(self) > 500_000:  # noqa: PLR2004  about 60 MB
            self.clear()
        raw = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=4).digest()
        self[word] = found = int.from_bytes(raw, "little")
        return found


_HASHES = _WordHashes()


def _donors() -> list[list[int]]:
    """For each bin the order in which it looks for a bin to copy when it is empty; itself comes first."""
    orders = []
    for position in range(_N_BINS):
        others = [other for other in range(_N_BINS) if other != position]
        random.Random(position).shuffle(others)  # noqa: S311  must be the same everywhere, not secret
        orders.append([position, *others])
    return orders


_DONORS = _donors()


def _bands(members: array[int]) -> array[int]:
    if not members:
        return array("q", [0] * _N_BANDS)
    # From high to low, so that the lowest member of a bin is what stays.
    lowest = {member % _N_BINS: member for member in reversed(members)}
    bins = [lowest[next(filter(lowest.__contains__, order))] for order in _DONORS[: _N_BANDS * _BAND_SIZE]]
    return array("q", [hash(tuple(bins[at : at + _BAND_SIZE])) for at in range(0, len(bins), _BAND_SIZE)])


def _join_equal(prints: Sequence[Fingerprint], union: Union) -> list[int]:
    """Join texts with the same members; return one of each."""
    first: dict[bytes, int] = {}
    for position, one in enumerate(prints):
        union.join(first.setdefault(one.members.tobytes(), position), position)
    return list(first.values())


def _crowds(prints: Sequence[Fingerprint], positions: Iterable[int], band: int) -> Iterator[list[int]]:
    """The positions that share a value of this band, where there are two or more."""
    buckets: dict[int, list[int]] = defaultdict(list)
    for position in positions:
        buckets[prints[position].bands[band]].append(position)
    for bucket in buckets.values():
        if len(bucket) > _CROWD:
            bucket.sort(key=lambda position: prints[position].bands[band + 1 :] or prints[position].bands)
        if len(bucket) > 1:
            yield bucket


def _pairs(crowd: list[int]) -> Iterator[tuple[int, int]]:
    """All pairs of a small crowd; of a large one each with its neighbours."""
    reach = len(crowd) if len(crowd) <= _CROWD else _NEIGHBOURS
    for at, one in enumerate(crowd):
        for other in islice(crowd, at + 1, at + 1 + reach):
            yield one, other


def _is_near(one: Fingerprint, other: Fingerprint, similarity: float) -> bool:
    n_one, n_other = len(one.members), len(other.members)
    # The index cannot exceed the ratio of sizes, which costs nothing to know.
    return min(n_one, n_other) >= similarity * max(n_one, n_other) and jaccard(one, other) >= similarity
