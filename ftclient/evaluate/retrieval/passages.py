"""Documents cut into passages: short enough for a prompt, long enough to answer by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftclient.evaluate.retrieval.words import size_words

LONGEST_WORDS = 120
"""Some 160 tokens: four passages fit the prompt of a small model beside the question."""

_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")  # noqa: RUF001 - Japanese ends of sentences
_PARAGRAPH = re.compile(r"\n\s*\n")


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Some sentences of a document, in one place of it."""

    document: str
    number: int
    """Its place in the document, from 1."""
    heading: str
    """The headings above it, outermost first, joined by ` > `."""
    text: str

    @property
    def source(self) -> str:
        """How answers cite it: the document's name and the passage's number."""
        return f"{self.document}#{self.number}"

    @property
    def searched(self) -> str:
        """What questions are compared with: its headings too, which often name what the text only means."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


def cut(name: str, text: str, *, longest_words: int = LONGEST_WORDS) -> list[Passage]:
    """Cut a document at its headings, paragraphs and, where those are too long, sentences.

    Neighbours under one heading share a sentence where a paragraph had to be cut.
    """
    found = (
        (heading, piece)
        for heading, paragraphs in _sections(text)
        for piece in _pieces(paragraphs, longest_words=longest_words)
    )
    return [
        Passage(document=name, number=number, heading=heading, text=piece)
        for number, (heading, piece) in enumerate(found, start=1)
    ]


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the headings above each run of paragraphs, and the paragraphs."""
    above: list[tuple[int, str]] = []
    paragraphs: list[str] = []
    for block in _PARAGRAPH.split(text):
        kept: list[str] = []
        for line in block.splitlines():
            heading = _HEADING.fullmatch(line.strip())
            if heading is None:
                kept.append(line.strip())
                continue
            paragraphs += _joined(kept)
            kept = []
            if paragraphs:
                yield _path(above), paragraphs
            paragraphs = []
            level = len(heading[1])
            above = [*(each for each in above if each[0] < level), (level, heading[2])]
        paragraphs += _joined(kept)
    if paragraphs:
        yield _path(above), paragraphs


def _joined(lines: Sequence[str]) -> list[str]:
    text = "\n".join(line for line in lines if line)
    return [text] if text else []


def _path(above: Sequence[tuple[int, str]]) -> str:
    return " > ".join(title for _, title in above)


def _pieces(paragraphs: Sequence[str], *, longest_words: int) -> Iterator[str]:
    """Join small paragraphs and cut large ones."""
    held: list[str] = []
    for paragraph in paragraphs:
        if held and size_words("\n".join([*held, paragraph])) > longest_words:
            yield "\n".join(held)
            held = []
        if size_words(paragraph) <= longest_words:
            held.append(paragraph)
        else:
            *whole, rest = _cut_paragraph(paragraph, longest_words=longest_words)
            yield from whole
            held = [rest]
    if held:
        yield "\n".join(held)


def _cut_paragraph(paragraph: str, *, longest_words: int) -> list[str]:
    pieces: list[str] = []
    held: list[str] = []
    for sentence in _sentences(paragraph, longest_words=longest_words):
        if held and size_words(" ".join([*held, sentence])) > longest_words:
            pieces.append(" ".join(held))
            last = held[-1]
            held = [last] if size_words(f"{last} {sentence}") <= longest_words else []
        held.append(sentence)
    return [*pieces, " ".join(held)]


def _sentences(paragraph: str, *, longest_words: int) -> Iterator[str]:
    """Yield sentences; one that is longer than a passage is cut by force, so that no model is overrun."""
    for sentence in filter(None, (each.strip() for each in _SENTENCE_END.split(paragraph))):
        if size_words(sentence) <= longest_words:
            yield sentence
            continue
        step = max(1, len(sentence) * longest_words // size_words(sentence))
        yield from (sentence[start : start + step] for start in range(0, len(sentence), step))
