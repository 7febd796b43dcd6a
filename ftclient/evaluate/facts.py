"""Short facts as answers: whether an answer, however long, contains the one that is expected.

This is the field's "answer inclusion" (`has_answer` of open-domain question answering, Chen et al. 2017; Mallen et al.
2023): the expected words, one behind the other, within the answer. Words are compared as SQuAD does it, without case,
signs and articles, and numbers as VQA does it, in figures. A number is one word: 18 is not in 180, nor in 1.18. Where a
script has no spaces, letters take the place of words. Underscores part words as spaces do, but what they join is a
name, and no answer is found in a part of one: card_not_working is not in virtual_card_not_working.

What it cannot know: other words for the same thing (figures in kanji are some), that an answer denies what it contains,
and where words of letters end (the letters of Kyoto are in those of Tokyo-to).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ftclient.evaluate.graders.similarity import UNSPACED
from ftclient.evaluate.questions import Answer, Question

Words = tuple[str, ...]

MOST_WORDS = 5
"""Longest short answer: the line that Natural Questions' open variant draws (Lee et al. 2019), in words."""
_LETTERS_A_WORD = 2
"""A Japanese word has about two letters."""

_LETTER = re.compile(f"[{UNSPACED}]")
_NUMBER = r"(?:(?<![\w)])-)?\d+(?:[.,:]\d+)*(?:st|nd|rd|th)?"
_PART = rf"(?:(?![{UNSPACED}])[^\W_])"
_WORD = re.compile(rf"{_NUMBER}|[{UNSPACED}]|(?!\d){_PART}+")
_UNDERSCORES = re.compile(r"_+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ZEROS = re.compile(r"^(-?)0+(?=\d)|\.0+$")
"""Zeros that change no number: those of 08:00 and of 640.00."""
_ARTICLE = re.compile(r"\b(?:an?|the|An|The)\s+(?=\w)|(?:^|(?<=[.!?]\s))A\s+(?=\w)", re.MULTILINE)
"""A large A within a sentence is a name: hall A is not hall."""
_UP_TO_TEN = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_FIGURES = {word: str(number) for number, word in enumerate(_UP_TO_TEN)}
_SENTENCE = re.compile(
    r"^(?:it|that|this|he|she|they)(?:['\u2019]s| is| was| are| were) |(?:です|でした|である|でございます)[。.!]*$",
    re.IGNORECASE,
)
"""What makes a sentence of a fact and is no part of it: It's ..., ...です."""
_BETWEEN_CHOICES = re.compile(r"[、;/|\n]|[,:](?!\d)|\bor\b|\(?\b[A-Ha-h1-8][).]\s", re.IGNORECASE)
"""What stands between choices in a question; (A) and 1. do."""
_MOST_WRONG_CHOICES = 1
_PLACES = frozenset({"at", "in", "on"})
"""In front of a place or time they say nothing: Niigata answers as well as in Niigata."""


@dataclass(frozen=True)
class _Text:
    """Words, and which of them an underscore joins to the one before: card_not_working is a name of three words."""

    words: Words
    joined: frozenset[int]

    def part(self, at: int, n: int) -> Words | None:
        """Some words from a place on; None where they begin or end within a name."""
        return None if {at, at + n} & self.joined else self.words[at : at + n]

    def contains(self, wanted: Words) -> bool:
        """Whether the wanted words are here, one behind the other, and are no mere part of a name."""
        n = len(wanted)
        return any(self.part(at, n) == wanted for at in range(len(self.words) - n + 1))


def plain_words(text: str) -> Words:
    """Return a text's words as they are compared: no case, width, signs and articles, and numbers in figures."""
    return _plain(text).words


def core(expected: str) -> Words:
    """Return the words that an answer has to contain: the expected answer's, without what only frames them."""
    return _core(expected).words


def n_core_words(expected: str) -> float:
    """Return how long the core is in words; a name whose parts are joined by underscores is one."""
    text = _core(expected)
    return n_words(text.words) - len(text.joined)


def is_fact(expected: str) -> bool:
    """Whether an expected answer looks like a fact and not like a phrase: a number, a name, or a single thing.

    Names are seen by their capitals; where a text has none at all, it may be one.
    """
    text = _core(expected)
    if len(text.words) - len(text.joined) == 1 or any(char.isdigit() for word in text.words for char in word):
        return True
    capitals = [word[0].isupper() for word in re.findall(r"[^\W\d_]+", expected)]
    return any(capitals[1:]) or not any(capitals)


def n_words(words: Words) -> float:
    """Return how long an answer is in words; letters of scripts without spaces are half a word."""
    return sum(1 / _LETTERS_A_WORD if _LETTER.fullmatch(word) else 1 for word in words)


def contains(words: Sequence[str], wanted: Words) -> bool:
    """Whether the wanted words are among the others, one behind the other."""
    n = len(wanted)
    return any(tuple(words[at : at + n]) == wanted for at in range(len(words) - n + 1))


class ContainsAnswer:
    """Gives 1 for an answer that contains the expected one, and does not list answers to other questions as well.

    An answer that lists all there is to be said contains the right answer too. So one that names answers expected to
    other questions, more than one of them and more than a twentieth of all, is not right: who always gives the same
    list gets no more than about a twentieth of the questions right. What stands in the question may be repeated, but
    where it offers choices, an answer that names more than one of the wrong ones has not chosen.

    Args:
        expected: The expected answers to all questions.
    """

    def __init__(self, expected: Iterable[str]) -> None:
        self._cores = {core(text) for text in expected} - {()}
        self._lengths = sorted({len(words) for words in self._cores}, reverse=True)
        self._most_others = max(1, len(self._cores) // 20)

    def __call__(self, question: Question, answer: Answer) -> float:
        """Return 1.0 or 0.0."""
        text, wanted = _plain(answer.text), core(question.expected)
        if not wanted or not text.contains(wanted):
            return 0.0
        asked = _plain(question.text)
        others = {each for each in self._named(text) if not (_overlap(each, wanted) or asked.contains(each))}
        wrong = [each for each in _choices(question.text, wanted) if text.contains(each)]
        return float(len(others) <= self._most_others and len(wrong) <= _MOST_WRONG_CHOICES)

    def _named(self, text: _Text) -> set[Words]:
        """The expected answers that a text names: the longest at each place, and none within another."""
        found, at = set[Words](), 0
        while at < len(text.words):
            here = (text.part(at, n) for n in self._lengths)
            longest = next((each for each in here if each in self._cores), None)
            if longest is not None:
                found.add(longest)
            at += 1 if longest is None else len(longest)
        return found


def _choices(asked: str, wanted: Words) -> set[Words]:
    """The other choices, if the question offers some and the wanted answer is one of them."""
    parts = {core(part) for part in _BETWEEN_CHOICES.split(unicodedata.normalize("NFKC", asked))}
    if wanted not in parts:
        return set()
    return {each for each in parts if each and n_words(each) <= MOST_WORDS and not _overlap(each, wanted)}


def _without_articles(text: str) -> str:
    """Return a text in its plain form without articles: once, since what is left may look like another article."""
    return _ARTICLE.sub("", unicodedata.normalize("NFKC", text))


def _plain(text: str) -> _Text:
    return _words(_without_articles(text))


@functools.lru_cache(maxsize=4_096)
def _core(expected: str) -> _Text:
    bare = _words(_SENTENCE.sub("", _without_articles(expected).strip()))
    text = bare if bare.words else _plain(expected)
    has_place = len(text.words) > 1 and text.words[0] in _PLACES and 1 not in text.joined
    return _Text(text.words[1:], frozenset(at - 1 for at in text.joined)) if has_place else text


def _words(text: str) -> _Text:
    plain = _THOUSANDS.sub("", text.replace("\u2212", "-")).casefold()
    found = list(_WORD.finditer(plain))
    joined = (at for at in range(1, len(found)) if _are_joined(found[at - 1], found[at]))
    return _Text(tuple(_plain_number(each[0]) for each in found), frozenset(joined))


def _are_joined(one: re.Match[str], other: re.Match[str]) -> bool:
    """Whether only underscores are between two words; letters of scripts without spaces make no names with them."""
    between = other.string[one.end() : other.start()]
    return bool(_UNDERSCORES.fullmatch(between)) and not (_LETTER.match(one[0]) or _LETTER.match(other[0]))


def _overlap(one: Words, other: Words) -> bool:
    return contains(one, other) or contains(other, one)


def _plain_number(word: str) -> str:
    return _ZEROS.sub(r"\1", word) if word[-1].isdigit() else _FIGURES.get(word, word)
