"""Answers that were paid for once: in `client.db`, on disk as they come, found again by what was asked."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from typing_extensions import Self

from ftclient.evaluate.questions import Answer, Call
from ftclient.home import failures_told, open_home, prepare_tables

VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, answer TEXT NOT NULL, asked_at REAL NOT NULL
) WITHOUT ROWID;
"""


def key_of(asked: Mapping[str, Any]) -> str:
    """Return what stands for a question: the sha256 of host, model, weights, messages and options."""
    text = json.dumps(asked, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def oldest_day(answers: Sequence[Answer]) -> str | None:
    """Return the day (YYYY-MM-DD, UTC) on which the oldest of these was asked for; None if all are of this call."""
    times = [answer.asked_at for answer in answers if answer.asked_at is not None]
    return dt.datetime.fromtimestamp(min(times), tz=dt.timezone.utc).date().isoformat() if times else None


class AnswerStore:
    """The answers of one home. Safe to use from several threads and processes.

    What `keep` has written survives the end of this process, however it comes (a machine that loses power may forget
    the last few).

    Args:
        home: The client's home.

    Raises:
        FtclientError: The file cannot be used; the text says what to do.
    """

    def __init__(self, home: Path) -> None:
        self._path = open_home(home) / "client.db"
        self._lock = threading.Lock()
        with failures_told(self._path):
            self._db = sqlite3.connect(self._path, timeout=30, check_same_thread=False)
            try:
                prepare_tables(self._db, self._path, schema=_SCHEMA, versioned="answers_meta", version=VERSION)
            except BaseException:
                self._db.close()
                raise
            self._db.execute("PRAGMA synchronous = NORMAL")

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the file."""
        self.close()

    def get(self, key: str) -> Answer | None:
        """Return the answer to what was asked before; None if it was not."""
        with failures_told(self._path), self._lock:
            row = self._db.execute("SELECT answer, asked_at FROM answers WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        fields = json.loads(row[0])
        calls = [Call(**call) for call in fields.pop("calls")]
        return Answer(**fields, calls=calls, is_stored=True, asked_at=row[1])

    def keep(self, key: str, answer: Answer, *, model: str) -> None:
        """Keep an answer; it is on disk when this returns."""
        fields = {name: value for name, value in asdict(answer).items() if name not in ("is_stored", "asked_at")}
        values = (key, model, json.dumps(fields), time.time())  # ASCII: models may write halves of surrogate pairs
        with failures_told(self._path), self._lock, self._db:
            self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", values)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
