"""The store of feedback: a table in `client.db` that only grows.

Corrections of corrections are new rows; nothing is changed or taken out, so that every example that was ever made of
feedback can be made again.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ftclient.data.chat import KEYS_BY_ROLE, MESSAGE_KEYS, plain_message
from ftclient.data.clean.places import text_places
from ftclient.data.halves import without_halves
from ftclient.data.redact import Finder, find_personal_data, replace_findings
from ftclient.errors import DataError
from ftclient.home import client_tables

Verdict = Literal["good", "bad"]

VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS feedback (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, model TEXT NOT NULL, messages TEXT NOT NULL,
    answer TEXT NOT NULL, verdict TEXT, correction TEXT, note TEXT, n_redacted INTEGER NOT NULL, at REAL NOT NULL
);
CREATE TRIGGER IF NOT EXISTS feedback_is_kept BEFORE DELETE ON feedback
    BEGIN SELECT RAISE(ABORT, 'feedback is never taken out'); END;
CREATE TRIGGER IF NOT EXISTS feedback_stays BEFORE UPDATE ON feedback
    BEGIN SELECT RAISE(ABORT, 'feedback is never changed'); END;
"""
_COLUMNS = "id, model, messages, answer, verdict, correction, note, n_redacted, at"


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """What somebody said to one answer."""

    id: str
    model: str
    """Who answered."""
    messages: Sequence[Mapping[str, Any]]
    """What was asked."""
    answer: str
    verdict: Verdict | None
    """A thumb up or down; None where there is only a correction."""
    correction: str | None
    """The answer that should have been given."""
    note: str | None
    n_redacted: int
    """Pieces of personal data that placeholders stand for."""
    at: float
    """Unix time."""

    def to_json(self) -> dict[str, Any]:
        """The feedback as plain values."""
        return {
            "id": self.id,
            "model": self.model,
            "messages": list(self.messages),
            "answer": self.answer,
            "verdict": self.verdict,
            "correction": self.correction,
            "note": self.note,
            "n_redacted": self.n_redacted,
            "at": self.at,
        }


class FeedbackStore:
    """The feedback of one home. Safe to use from several threads and processes; every call is durable.

    Args:
        home: The client's home.
        finder: What personal data is found by, to be replaced before anything is written; None keeps texts as they are.
    """

    def __init__(self, home: Path, *, finder: Finder | None = find_personal_data) -> None:
        self._home = home
        self._finder = finder

    def add(
        self,
        *,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        answer: str,
        verdict: Verdict | None = None,
        correction: str | None = None,
        note: str | None = None,
    ) -> Feedback:
        """Keep what somebody said to an answer, and return it as it was kept.

        Args:
            model: Who answered.
            messages: What was asked, also as the official client's objects. Keys that training data do not have are
                left out, and halves of surrogate pairs become U+FFFD.
            answer: What was answered.
            verdict: `good` or `bad`.
            correction: The answer that should have been given.
            note: Anything else: who said so, why.

        Raises:
            DataError: There is neither a verdict nor a correction, or nothing was asked.
        """
        asked = [trainable(message) for message in messages]
        _check(asked, answer, verdict, correction)
        clean = _Redactor(self._finder)
        kept = Feedback(
            id=f"fb-{uuid.uuid4().hex[:16]}",
            model=without_halves(model),
            messages=[clean.message(message) for message in asked],
            answer=clean.text(answer),
            verdict=verdict,
            correction=None if correction is None else clean.text(correction),
            note=None if note is None else clean.text(note),
            n_redacted=clean.n,
            at=time.time(),
        )
        row = kept.to_json() | {"messages": json.dumps(kept.messages, ensure_ascii=False)}
        with self._open() as db, db:
            marks = ", ".join(f":{name}" for name in _COLUMNS.split(", "))
            db.execute(f"INSERT INTO feedback ({_COLUMNS}) VALUES ({marks})", row)  # noqa: S608 - our own names
        return kept

    def all(self, *, model: str | None = None, since: float = 0.0) -> list[Feedback]:
        """Return the feedback, oldest first.

        Args:
            model: Only what this model answered; None is everybody's.
            since: Only what came at this Unix time or later.
        """
        query = f"SELECT {_COLUMNS} FROM feedback WHERE at >= ? AND (? IS NULL OR model = ?) ORDER BY number"  # noqa: S608
        with self._open() as db:
            named = without_halves(model)
            rows = db.execute(query, (since, named, named)).fetchall()
        names = _COLUMNS.split(", ")
        kept = [dict(zip(names, row, strict=True)) for row in rows]
        # Earlier versions kept whatever keys a message had; then the same question would seem to be another.
        return [Feedback(**{**row, "messages": list(map(trainable, json.loads(row["messages"])))}) for row in kept]

    def models(self) -> dict[str, int]:
        """Return how many pieces of feedback there are, by the model that answered."""
        with self._open() as db:
            return dict(db.execute("SELECT model, COUNT(*) FROM feedback GROUP BY model ORDER BY model").fetchall())

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        return client_tables(self._home, schema=_SCHEMA, versioned="feedback_meta", version=VERSION)


class _Redactor:
    """Puts placeholders in place of personal data, the same for the same in all texts of one piece of feedback."""

    def __init__(self, finder: Finder | None) -> None:
        self._finder = finder
        self._seen: dict[str, str] = {}
        self.n = 0

    def text(self, text: str) -> str:
        """Return a text without personal data."""
        text = without_halves(text)
        if self._finder is None:
            return text
        found = self._finder(text)
        self.n += len(found)
        return replace_findings(text, found, self._seen)

    def message(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return a message whose texts have no personal data."""
        for place in text_places(message):
            place.rewrite(self.text)
        clean: dict[str, Any] = without_halves(message)  # arguments that were rewritten may have got some
        return clean


def trainable(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a message as JSON, with the keys that training data have; answers of hosts have more."""
    said = plain_message(message)
    keys = MESSAGE_KEYS | KEYS_BY_ROLE.get(str(said.get("role")), frozenset())
    return {key: value for key, value in said.items() if key in keys}


def _check(messages: Sequence[Mapping[str, Any]], answer: str, verdict: str | None, correction: str | None) -> None:
    if not messages or messages[-1].get("role") == "assistant":
        raise DataError("Feedback needs the messages that were asked, up to and without the answer.")
    asked = messages[-1].get("content")
    if messages[-1].get("role") == "user" and (not asked or (isinstance(asked, str) and not asked.strip())):
        raise DataError("Feedback needs the question that was asked; it is empty.")
    if not answer.strip():
        raise DataError("Feedback needs the answer that was given.")
    if verdict not in {"good", "bad", None}:
        raise DataError(f"The verdict is good or bad, not {verdict!r}.")
    if verdict is None and correction is None:
        raise DataError("Say whether the answer was good or bad, or what it should have been.")
    if correction is not None and not correction.strip():
        raise DataError("The correction is empty. Leave it away to say only that the answer was bad.")
