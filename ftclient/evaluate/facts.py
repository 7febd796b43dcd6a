"""Short facts as answers: whether an answer, however long, contains the one that is expected.

This is the field's "answer inclusion" (`has_answer` of open-domain question answering, Chen et al. 2017; Mallen et al.
2023): the expected words, one behind the other, within the answer. Words are compared as SQuAD does it, without case,
signs and articles, and numbers as VQA does it, in figures. A number is one word: 18 is not in 180, nor in 1.18. Where a
script has no spaces, letters take the place of words.

What it cannot know: other words for the same thing (figures in kanji are some), that an answer denies what it contains,
and where words of letters end (the letters of Kyoto are in those of Tokyo-to).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence

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
_WORD = re.compile(rf"{_NUMBER}|[{UNSPACED}]|(?!\d){_PART}+(?:_+{_PART}+)*")
"""A name such as card_not_working is one word: it is not in virtual_card_not_working."""
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


def plain_words(text: str) -> Words:
    """Return a text's words as they are compared: no case, width, signs and articles, and numbers in figures."""
    return _words(_without_articles(text))


@functools.lru_cache(maxsize=4_096)
def core(expected: str) -> Words:
    """Return the words that an answer has to contain: the expected answer's, without what only frames them."""
    bare = _SENTENCE.sub("", _without_articles(expected).strip())
    words = _words(bare) or plain_words(expected)
    return words[1:] if len(words) > 1 and words[0] in _PLACES else words


def is_fact(expected: str) -> bool:
    """Whether an expected answer looks like a fact and not like a phrase: a number, a name, or a single thing.

    Names are seen by their capitals; where a text has none at all, it may be one.
    """
    words = core(expected)
    if len(words) == 1 or any(char.isdigit() for word in words for char in word):
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
        words, wanted = plain_words(answer.text), core(question.expected)
        if not wanted or not contains(words, wanted):
            return 0.0
        asked = plain_words(question.text)
        others = {each for each in self._named(words) if not (_overlap(each, wanted) or contains(asked, each))}
        wrong = [each for each in _choices(question.text, wanted) if contains(words, each)]
        return float(len(others) <= self._most_others and len(wrong) <= _MOST_WRONG_CHOICES)

    def _named(self, words: Words) -> set[Words]:
        """The expected answers that these words name: the longest at each place, and none within another."""
        found, at = set[Words](), 0
        while at < len(words):
            here = (words[at : at + n] for n in self._lengths)
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


def _words(text: str) -> Words:
    plain = _THOUSANDS.sub("", text.replace("\u2212", "-")).casefold()
    return tuple(_plain_number(word) for word in _WORD.findall(plain))


def _overlap(one: Words, other: Words) -> bool:
    return contains(one, other) or contains(other, one)


def _plain_number(word: str) -> str:
    return _ZEROS.sub(r"\1", word) if word[-1].isdigit() else _FIGURES.get(word, word)
