"""What models scored, and what datasets were made of: two tables in `client.db`, beside the journal of launches."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftclient.home import client_tables

VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS scores (
    base_url TEXT NOT NULL, model TEXT NOT NULL, data_sha256 TEXT NOT NULL, data_name TEXT NOT NULL,
    metric TEXT NOT NULL, value REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL, n INTEGER NOT NULL,
    at REAL NOT NULL, PRIMARY KEY (base_url, model, data_sha256, metric)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS made_of (
    sha256 TEXT PRIMARY KEY, name TEXT NOT NULL, parents TEXT NOT NULL, feedback TEXT NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a model scored on a dataset. Shares are of 1."""

    model: str
    data_sha256: str
    data_name: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    """Questions."""
    at: float
    """Unix time."""

    def to_json(self) -> dict[str, Any]:
        """The score as plain values."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class MadeOf:
    """What a dataset was made of."""

    sha256: str
    name: str
    parents: Sequence[str]
    """sha256 of the datasets that went in."""
    feedback: Sequence[str]
    """Ids of the feedback that went in."""
    at: float


class LineageStore:
    """Scores and origins of one home. Safe to use from several threads and processes.

    Args:
        home: The client's home.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    def keep_scores(self, base_url: str, scores: Sequence[Scored]) -> None:
        """Keep scores; those of the same model, dataset and metric are replaced."""
        with self._open() as db, db:
            db.executemany(
                "INSERT OR REPLACE INTO scores VALUES (:base_url, :model, :data_sha256, :data_name, :metric, :value,"
                " :low, :high, :n, :at)",
                [{"base_url": base_url, **score.to_json()} for score in scores],
            )

    def scores(self, base_url: str) -> list[Scored]:
        """Return all scores at a host, oldest first."""
        columns = "model, data_sha256, data_name, metric, value, low, high, n, at"
        query = f"SELECT {columns} FROM scores WHERE base_url = ? ORDER BY at"  # noqa: S608 - our own names
        with self._open() as db:
            rows = db.execute(query, (base_url,)).fetchall()
        return [Scored(**dict(zip(columns.split(", "), row, strict=True))) for row in rows]

    def keep_origin(self, sha256: str, *, name: str, parents: Sequence[str], feedback: Sequence[str]) -> None:
        """Keep what a dataset was made of."""
        row = (sha256, name, json.dumps(list(parents)), json.dumps(list(feedback)), time.time())
        with self._open() as db, db:
            db.execute("INSERT OR REPLACE INTO made_of VALUES (?, ?, ?, ?, ?)", row)

    def origins(self) -> dict[str, MadeOf]:
        """Return what datasets were made of, by sha256."""
        with self._open() as db:
            rows = db.execute("SELECT sha256, name, parents, feedback, at FROM made_of").fetchall()
        found = [
            MadeOf(sha256=row[0], name=row[1], parents=json.loads(row[2]), feedback=json.loads(row[3]), at=row[4])
            for row in rows
        ]
        return {each.sha256: each for each in found}

    def _open(self) -> AbstractContextManager[sqlite3.Connection]:
        return client_tables(self._home, schema=_SCHEMA, versioned="lineage_meta", version=VERSION)
