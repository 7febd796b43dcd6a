"""Cutting a dataset into parts that do not know each other, and finding what two files have in common.

What belongs together stays together: the same prompt, near-duplicates of a prompt, and the turns of one conversation
that were unrolled into several examples. Where answers are labels, every part gets its share of every label.
The parts depend on the seed and on the set of examples, not on the order of lines.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ftclient.data.duplicates import SIMILARITY, Fingerprint, NearIndex, Union, fingerprint, groups, same_key
from ftclient.data.prompts import digest, example_digest, exchange_of, message_text, role_of

GroupKey = Callable[[Mapping[str, Any]], Any]

LABEL_CHARS = 64
_LABEL_REPEATS = 0.9
_GREETING_COUNT = 50
_GREETING_SHARE = 0.05
_SHARES_SUM_TOLERANCE = 1e-6


class Leak(NamedTuple):
    """An example of one dataset that the other knows already. Lines count from 0, as positions do."""

    index_a: int
    index_b: int
    kind: Literal["same_example", "same_prompt", "same_conversation", "near_duplicate"]
    similarity: float
    """Jaccard index of the prompts; 1.0 for all kinds but `near_duplicate`."""


class _Sketch(NamedTuple):
    """What splitting needs to know of an example; the example itself is let go."""

    content: int
    prompt: int
    turns: tuple[int, ...]
    """Fingerprints of the conversation up to each earlier message of the user."""
    print: Fingerprint
    answer: str | None
    group: int | None


def split_examples(
    examples: Iterable[Any],
    shares: Sequence[float],
    *,
    seed: int,
    group_by: GroupKey | str | None = None,
    label_by: GroupKey | str | None = None,
    similarity: float = SIMILARITY,
) -> list[list[int]]:
    """Split examples into parts.

    Args:
        examples: Examples of any format; read once, not kept.
        shares: The size of each part, as shares that add up to 1.
        seed: Another seed gives another split; the same one always the same.
        group_by: Key of an example, or function of it, whose value must not be in two parts (a customer, a document),
            beside what is kept together anyway.
        label_by: Key or function that gives the label to balance; without it the answers are taken, if they are labels.
        similarity: Prompts that are this much alike (Jaccard index, see `duplicates`) count as the same.

    Returns:
        For each share the positions of its examples, ascending. Every position is in exactly one part.

    Raises:
        ValueError: The shares are not positive or do not add up to 1.
    """
    _check_shares(shares)
    label_of = _reader(label_by)
    sketches, labels = [], []
    for example in examples:
        sketches.append(_sketch(example, _reader(group_by)))
        labels.append(None if label_of is None else str(label_of(example)))
    if label_of is None:
        labels = labels_of([sketch.answer for sketch in sketches])
    return _assign(_together(sketches, similarity), sketches, labels, shares, seed)


def find_leaks(
    a: Iterable[Any],
    b: Iterable[Any],
    *,
    similarity: float = SIMILARITY,
) -> list[Leak]:
    """Find the examples of `a` whose prompt `b` has, too: word for word, nearly, or as part of a conversation.

    Args:
        a: Examples, such as those to test on; read once.
        b: Examples, such as those to train on; read once, about 1 kB of memory each.
        similarity: From this Jaccard index on two prompts count as nearly the same.

    Returns:
        At most one leak for each example of `a`, the plainest one, in the order of `a`.
    """
    known = [_sketch(example, None) for example in b]
    by_content = _first_by(sketch.content for sketch in known)
    by_prompt = _first_by(sketch.prompt for sketch in known)
    by_turn = _first_by_turn(known)
    index = NearIndex(sketch.print for sketch in known)
    leaks = []
    for position, example in enumerate(a):
        one = _sketch(example, None)
        found = _exact_leak(position, one, by_content, by_prompt, by_turn)
        if found is None and (near := index.similar(one.print, similarity=similarity)):
            found = Leak(position, near[0][0], "near_duplicate", round(near[0][1], 3))
        if found is not None:
            leaks.append(found)
    return leaks


def labels_of(answers: Sequence[str | None]) -> list[str | None]:
    """The answers as labels, or all None if they are no labels.

    Labels are short (64 characters on one line), at least two different ones, and nine of ten occur more than once,
    however they are spelt.
    """
    spellings = Counter(answers)
    nothing: list[str | None] = [None] * len(answers)
    if not all(map(_is_short, spellings)):
        return nothing
    known: Counter[str] = Counter()
    for spelling, count in spellings.items():
        known[_label_key(spelling or "")] += count
    n_repeated = sum(count for count in known.values() if count > 1)
    is_labelled = len(known) > 1 and n_repeated >= _LABEL_REPEATS * len(answers)
    return list(answers) if is_labelled else nothing


def label_variants(counts: Mapping[str, int]) -> list[list[str]]:
    """Labels that differ in case, width, spaces, hyphens or underscores only, put together, the most frequent first."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        by_key[_label_key(label)].append(label)
    return list(by_key.values())


def _label_key(label: str) -> str:
    return same_key(label.replace("_", " ").replace("-", " "))


def _is_short(answer: str | None) -> bool:
    return answer is not None and 0 < len(answer) <= LABEL_CHARS and "\n" not in answer


def _check_shares(shares: Sequence[float]) -> None:
    if not shares or min(shares) < 0 or abs(sum(shares) - 1) > _SHARES_SUM_TOLERANCE:
        raise ValueError(f"Shares must not be negative and must add up to 1, such as 0.8, 0.1, 0.1; got {list(shares)}")


def _reader(key: GroupKey | str | None) -> GroupKey | None:
    if isinstance(key, str):
        return lambda example: example.get(key) if isinstance(example, Mapping) else None
    return key


def _sketch(example: Any, group_of: GroupKey | None) -> _Sketch:
    exchange = exchange_of(example)
    text = exchange.prompt_text
    *turns, prompt = _turns(exchange.prompt) if same_key(text) else [digest(_whole(exchange.answer_text, example))]
    group = None if group_of is None else group_of(example)
    return _Sketch(
        content=example_digest(example),
        prompt=prompt,
        turns=tuple(turns),
        print=fingerprint(text if same_key(text) else _whole(exchange.answer_text, example)),
        answer=exchange.answer_text.strip() if len(exchange.answers) == 1 else None,
        group=None if group is None else digest(repr(group)),
    )


def _whole(answer: str, example: Any) -> str:
    """What stands for an example that asks nothing: its answer, else all of it."""
    return answer if same_key(answer) else f"{example_digest(example):x}"


def _turns(prompt: Iterable[Any]) -> list[int]:
    """Fingerprints of a conversation after each message that is not the assistant's, and at its end."""
    so_far, found, is_open = 0, [], False
    for message in prompt:
        so_far = digest(f"{so_far:x} {role_of(message)} {same_key(message_text(message))}")
        is_open = role_of(message) == "assistant"
        if not is_open:
            found.append(so_far)
    return [*found, so_far] if is_open else found


def _together(sketches: Sequence[_Sketch], similarity: float) -> list[list[int]]:
    """Groups of positions that must stay in one part, in an order that the order of lines does not change."""
    order = sorted(range(len(sketches)), key=lambda position: sketches[position].content)
    ordered = [sketches[position] for position in order]
    union = Union(len(ordered))
    for group in groups([sketch.print for sketch in ordered], similarity=similarity):
        for member in group:
            union.join(group[0], member)
    _join_conversations(ordered, union)
    return [[order[member] for member in group] for group in union.groups()]


def _join_conversations(sketches: Sequence[_Sketch], union: Union) -> None:
    by_prompt: dict[int, int] = {}
    by_group: dict[int, int] = {}
    for position, sketch in enumerate(sketches):
        union.join(by_prompt.setdefault(sketch.prompt, position), position)
        if sketch.group is not None:
            union.join(by_group.setdefault(sketch.group, position), position)
    n_using = Counter(turn for sketch in sketches for turn in sketch.turns)
    # "Hello" opens many conversations and makes them none the more the same.
    most = max(_GREETING_COUNT, _GREETING_SHARE * len(sketches))
    for position, sketch in enumerate(sketches):
        for turn in sketch.turns:
            if turn in by_prompt and n_using[turn] <= most:
                union.join(by_prompt[turn], position)


def _assign(
    together: Sequence[Sequence[int]],
    sketches: Sequence[_Sketch],
    labels: Sequence[str | None],
    shares: Sequence[float],
    seed: int,
) -> list[list[int]]:
    strata = _strata(together, sketches, labels, seed)
    parts: list[list[Sequence[int]]] = [[] for _ in shares]
    owed = [0.0] * len(shares)
    for stratum in strata:
        # What a small label could not give each part is owed to it by the next.
        n_members = sum(map(len, stratum))
        owed = [debt + share * n_members for debt, share in zip(owed, shares, strict=True)]
        main = max(range(len(shares)), key=lambda part: shares[part])
        for rank, group in enumerate(stratum):
            # No label is only tested and never trained on: the largest part gets the first of each.
            part = main if rank == 0 else max(range(len(shares)), key=lambda part: (owed[part], shares[part]))
            parts[part].append(group)
            owed[part] -= len(group)
    _fill_empty(parts, shares)
    return [sorted(position for group in part for position in group) for part in parts]


def _strata(
    together: Sequence[Sequence[int]], sketches: Sequence[_Sketch], labels: Sequence[str | None], seed: int
) -> list[list[Sequence[int]]]:
    """Groups by their most frequent label, shuffled by the seed, large groups first."""
    by_label: dict[str, list[tuple[int, int, Sequence[int]]]] = defaultdict(list)
    for group in together:
        counts = Counter(labels[position] or "" for position in group)
        label = min(counts, key=lambda name: (-counts[name], name))
        key = min(sketches[position].content for position in group)
        by_label[label].append((-len(group), _shuffled(key, seed), group))
    ordered = sorted(by_label, key=lambda label: _shuffled(digest(label), seed))
    return [[group for _, _, group in sorted(by_label[label])] for label in ordered]


def _shuffled(key: int, seed: int) -> int:
    return random.Random(f"{seed} {key}").getrandbits(64)  # noqa: S311  repeatable, not secret


def _fill_empty(parts: list[list[Sequence[int]]], shares: Sequence[float]) -> None:
    """Give a part that was to have something the smallest group of the fullest part, while that leaves it some."""
    for part, share in zip(parts, shares, strict=True):
        fullest = max(parts, key=len)
        if share > 0 and not part and len(fullest) > 1:
            smallest = min(range(len(fullest)), key=lambda at: (len(fullest[at]), -at))
            part.append(fullest.pop(smallest))


def _first_by(keys: Iterable[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for position, key in enumerate(keys):
        found.setdefault(key, position)
    return found


def _first_by_turn(sketches: Sequence[_Sketch]) -> dict[int, int]:
    n_using = Counter(turn for sketch in sketches for turn in sketch.turns)
    most = max(_GREETING_COUNT, _GREETING_SHARE * len(sketches))
    found: dict[int, int] = {}
    for position, sketch in enumerate(sketches):
        for turn in sketch.turns:
            if n_using[turn] <= most:
                found.setdefault(turn, position)
    return found


def _exact_leak(
    position: int, one: _Sketch, by_content: dict[int, int], by_prompt: dict[int, int], by_turn: dict[int, int]
) -> Leak | None:
    if one.content in by_content:
        return Leak(position, by_content[one.content], "same_example", 1.0)
    if one.prompt in by_prompt:
        return Leak(position, by_prompt[one.prompt], "same_prompt", 1.0)
    if one.prompt in by_turn:
        return Leak(position, by_turn[one.prompt], "same_conversation", 1.0)
    later = next((turn for turn in reversed(one.turns) if turn in by_prompt), None)
    return None if later is None else Leak(position, by_prompt[later], "same_conversation", 1.0)
