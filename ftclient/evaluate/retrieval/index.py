"""An index of documents on disk: BM25 over words, with embeddings beside it where a model gives them.

What has not changed since the last look is neither read nor embedded again.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import Self

from ftclient.errors import DataError, FtclientError, MissingDependencyError
from ftclient.evaluate.retrieval import documents
from ftclient.evaluate.retrieval.passages import Passage, cut
from ftclient.evaluate.retrieval.words import words_of

VERSION = 1
"""Grows when documents would be cut or worded differently; older indexes are made anew."""

_FUSION_OFFSET = 60
"""Keeps the first places of one ranking from outweighing the other (Cormack, Clarke, Büttcher, SIGIR 2009)."""

_CONSIDERED = 50
_EMBEDDED_AT_ONCE = 64
_SCHEMA = """
CREATE TABLE meta (version INTEGER NOT NULL, embedder TEXT NOT NULL);
CREATE TABLE documents (name TEXT PRIMARY KEY, sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE passages (
    document TEXT NOT NULL REFERENCES documents ON DELETE CASCADE, number INTEGER NOT NULL, heading TEXT NOT NULL,
    text TEXT NOT NULL, words TEXT NOT NULL, vector BLOB, PRIMARY KEY (document, number)
) WITHOUT ROWID;
"""

Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""Turns texts into vectors of one length, in order."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A passage that was found."""

    passage: Passage
    score: float
    """Higher is better; comparable within one search only."""
    word_rank: int | None
    """Its place among those that share words with the question, from 1."""
    meaning_rank: int | None
    """Its place by likeness of meaning, from 1; None without embeddings."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What an update did."""

    n_documents: int
    n_passages: int
    n_read: int
    """Documents that were new or had changed."""
    n_removed: int
    skipped: Sequence[str] = field(default=())
    """Why a document is not in the index, with its name."""


class Index:
    """The passages of a folder.

    Args:
        path: The index file; it is made if need be. Its folder must exist.
        embed: Turns texts into vectors, for search by meaning beside that by words. None searches by words alone.
        embedder: The name of the model behind `embed`; with another one, all passages are embedded anew.

    Raises:
        FtclientError: The file is no index.
        MissingDependencyError: The extra `rag` is not installed.
    """

    def __init__(self, path: Path, *, embed: Embed | None = None, embedder: str = "") -> None:
        try:
            import bm25s  # noqa: F401 - said now rather than after the reading
        except ImportError as error:
            raise MissingDependencyError(documents.INSTALL) from error
        self._embed = embed
        self._embedder = embedder if embed else ""
        self._db = _open(path, embedder=self._embedder)
        self._lock = threading.Lock()
        self._ready: _Search | None = None

    def __enter__(self) -> Self:
        """Return the index itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def update(self, folder: Path, *, progress: Callable[[int, int], None] | None = None) -> Changes:
        """Bring the index to what the folder holds now.

        Args:
            folder: Where the documents are.
            progress: Told how many of how many documents have been looked at.

        Raises:
            DataError: There is no such folder, or nothing in it that can be read.
        """
        found = list(documents.find(folder))
        known = dict(self._db.execute("SELECT name, sha256 FROM documents"))
        gone = known.keys() - {each.name for each in found}
        with self._db:
            self._db.executemany("DELETE FROM documents WHERE name = ?", [(name,) for name in gone])
        skipped: list[str] = []
        n_read = 0
        for number, document in enumerate(found, start=1):
            if known.get(document.name) != document.sha256:
                n_read += 1
                try:
                    self._take(document)
                except DataError as error:
                    skipped.append(str(error))
            if progress is not None:
                progress(number, len(found))
        self._ready = None
        (n_passages,) = self._db.execute("SELECT count(*) FROM passages").fetchone()
        if not n_passages:
            raise DataError(f"{folder}: none of its documents can be read. " + " ".join(skipped)[:400])
        return Changes(
            n_documents=len(found) - len(skipped),
            n_passages=n_passages,
            n_read=n_read,
            n_removed=len(gone),
            skipped=tuple(skipped),
        )

    def search(self, question: str, *, k: int = 4) -> list[Hit]:
        """Return the passages that fit a question best, best first. Threads may search side by side."""
        with self._lock:
            ready = self._ready = self._ready or _Search(self._db)
        vector = self._embed([question])[0] if self._embed else None
        return ready.best(question, vector, k=k)

    def _take(self, document: documents.Document) -> None:
        """Replace what the index holds of a document, all or nothing."""
        try:
            passages = cut(document.name, documents.read(document))
        except DataError:
            with self._db:
                self._db.execute("DELETE FROM documents WHERE name = ?", (document.name,))
            raise
        vectors = list(self._vectors(passages))
        rows = [
            (each.document, each.number, each.heading, each.text, json.dumps(words_of(each.searched)), vector)
            for each, vector in zip(passages, vectors, strict=True)
        ]
        with self._db:
            self._db.execute("DELETE FROM documents WHERE name = ?", (document.name,))
            self._db.execute("INSERT INTO documents VALUES (?, ?)", (document.name, document.sha256))
            self._db.executemany("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?)", rows)

    def _vectors(self, passages: Sequence[Passage]) -> Iterator[bytes | None]:
        for start in range(0, len(passages), _EMBEDDED_AT_ONCE):
            some = [each.searched for each in passages[start : start + _EMBEDDED_AT_ONCE]]
            if self._embed is None:
                yield from [None] * len(some)
            else:
                yield from (array("f", vector).tobytes() for vector in self._embed(some))


class _Search:
    """The index in memory: N passages, D numbers a vector."""

    def __init__(self, db: sqlite3.Connection) -> None:
        import bm25s
        import numpy as np

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it reports each of its steps
        rows = db.execute(
            "SELECT document, number, heading, text, words, vector FROM passages ORDER BY 1, 2"
        ).fetchall()
        self._passages = [Passage(document=row[0], number=row[1], heading=row[2], text=row[3]) for row in rows]
        self._words = bm25s.BM25(method="lucene")
        self._words.index([json.loads(row[4]) or [""] for row in rows], show_progress=False)
        self._known = set(self._words.vocab_dict)
        packed = [row[5] for row in rows]
        has_vectors = bool(rows) and None not in packed
        self._vectors_ND = _unit(np.stack([np.frombuffer(each, "f4") for each in packed])) if has_vectors else None

    def best(self, question: str, vector: Sequence[float] | None, *, k: int) -> list[Hit]:
        """Return the k best by both rankings: the sum of 1 / (60 + rank)."""
        import numpy as np

        by_words = self._ranks(self._word_scores(question), at_least=1e-9)
        by_meaning: dict[int, int] = {}
        if vector is not None and self._vectors_ND is not None:
            by_meaning = self._ranks(self._vectors_ND @ _unit(np.asarray(vector, "f4")), at_least=-1.0)
        hits = [
            Hit(
                passage=self._passages[place],
                score=sum(1 / (_FUSION_OFFSET + ranks[place]) for ranks in (by_words, by_meaning) if place in ranks),
                word_rank=by_words.get(place),
                meaning_rank=by_meaning.get(place),
            )
            for place in by_words.keys() | by_meaning.keys()
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.passage.source))[:k]

    def _word_scores(self, question: str) -> Any:
        import numpy as np

        asked = [word for word in dict.fromkeys(words_of(question)) if word in self._known]
        return self._words.get_scores(asked) if asked else np.zeros(len(self._passages), "f4")

    def _ranks(self, scores: Any, *, at_least: float) -> dict[int, int]:
        import numpy as np

        order = np.argsort(-scores, kind="stable")[:_CONSIDERED]
        kept = [int(place) for place in order if scores[place] >= at_least]
        return {place: rank for rank, place in enumerate(kept, start=1)}


def _unit(vectors: Any) -> Any:
    import numpy as np

    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _open(path: Path, *, embedder: str) -> sqlite3.Connection:
    """Open the file; one of another version or embedder starts empty, since all in it can be made again."""
    try:
        db = sqlite3.connect(path, timeout=30, check_same_thread=False)
        db.execute("PRAGMA foreign_keys = ON")
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and tables != {"meta", "documents", "passages"}:
            raise FtclientError(f"{path} is another kind of file. Choose another name for the index.")
        if not tables:
            db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        if db.execute("SELECT version, embedder FROM meta").fetchall() != [(VERSION, embedder)]:
            with db:
                db.execute("DELETE FROM documents")
                db.execute("DELETE FROM meta")
                db.execute("INSERT INTO meta VALUES (?, ?)", (VERSION, embedder))
    except sqlite3.DatabaseError as error:
        raise FtclientError(f"{path} cannot be used as an index: {error}. Choose another name for it.") from error
    return db
