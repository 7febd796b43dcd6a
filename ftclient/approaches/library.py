"""The user's documents, ready to be searched."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import Self

from ftclient.errors import MissingDependencyError
from ftclient.evaluate.questions import Question
from ftclient.evaluate.retrieval import Changes, Hit, Index, Ranking, measure
from ftclient.home import open_home

INSTALL = 'pip install "ftclient[evaluate,rag]"'


class Library:
    """The passages of a folder, by words and by meaning. The index is kept in the client's home.

    Args:
        docs: The folder.
        home: The client's home.
        n_passages: How many passages a question gets.

    Raises:
        DataError: There is no such folder, or nothing in it that can be read.
        MissingDependencyError: The extras `evaluate` and `rag` are not installed.
    """

    def __init__(self, docs: Path, *, home: Path, n_passages: int) -> None:
        folder = open_home(home) / "documents"
        folder.mkdir(exist_ok=True)
        name = hashlib.sha256(str(docs.resolve()).encode()).hexdigest()[:16]
        embed, embedder = _encoder()
        self._index = Index(folder / f"{name}.db", embed=embed, embedder=embedder)
        self._k = n_passages
        self._found: dict[str, Sequence[Hit]] = {}
        self.changes: Changes = self._index.update(docs)

    def __enter__(self) -> Self:
        """Return the library itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the index."""
        self._index.close()

    def find(self, question: Question) -> Sequence[Hit]:
        """Return the passages for a question, best first."""
        text = question.text
        if text not in self._found:
            self._found[text] = self._index.search(text, k=self._k)
        return self._found[text]

    def ranking(self, questions: Sequence[Question]) -> Ranking | None:
        """Return how well passages are found for the questions that name their source; None if none does."""
        named = [question for question in questions if question.item.get("source")]
        return measure([(self.find(each), str(each.item["source"])) for each in named], k=self._k)


def _encoder() -> tuple[Any, str]:
    """Return what turns texts into vectors, and its name."""
    from ftclient.evaluate.graders.encoder import encode

    try:
        encode(["a"])
    except ImportError as error:
        raise MissingDependencyError(INSTALL) from error
    return encode, "wordllama-256"
