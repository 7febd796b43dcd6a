"""What this machine asked of hosts, on disk before it is sent: `client.db` in the client's home.

A launch is written down before the POST that may cost money, and its outcome after it. Whatever happens in between,
the next reader knows that a job may exist and under which run id to look for it.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ftclient.home import failures_told, open_home, prepare_tables

LaunchState = Literal["intended", "created", "refused", "unknown"]

UNDER_WAY_S = 660.0
"""How long a launch that was sent may still be answered: somewhat longer than any request is waited for."""

VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS launches (
    run_id TEXT PRIMARY KEY, base_url TEXT NOT NULL, state TEXT NOT NULL, job_id TEXT, fingerprint TEXT NOT NULL,
    body TEXT NOT NULL, plan TEXT, created_at REAL NOT NULL, updated_at REAL NOT NULL, note TEXT
);
CREATE TABLE IF NOT EXISTS uploads (
    base_url TEXT NOT NULL, sha256 TEXT NOT NULL, purpose TEXT NOT NULL, file_id TEXT NOT NULL,
    uploaded_at REAL NOT NULL, PRIMARY KEY (base_url, sha256, purpose)
);
CREATE TABLE IF NOT EXISTS parted_uploads (
    upload_id TEXT PRIMARY KEY, base_url TEXT NOT NULL, sha256 TEXT NOT NULL, part_bytes INTEGER NOT NULL,
    expires_at REAL NOT NULL, begun_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS parts (
    upload_id TEXT NOT NULL, number INTEGER NOT NULL, part_id TEXT NOT NULL, PRIMARY KEY (upload_id, number)
);
"""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One launch as the journal knows it."""

    run_id: str
    base_url: str
    state: LaunchState
    """`intended`: on its way. `created`: `job_id` exists. `refused`: the host said no. `unknown`: nobody knows."""
    job_id: str | None
    fingerprint: str
    """sha256 of the files and the parameters: what makes two launches the same."""
    body: Mapping[str, Any]
    created_at: float
    """Unix time. A run id that was refused and is used again has a new one: it tells the two launches apart."""
    note: str | None
    updated_at: float = 0.0
    """When it was last sent or settled."""

    @property
    def is_under_way(self) -> bool:
        """Whether the process that sends it, which may be another, may still hear how it went."""
        return self.state == "intended" and abs(time.time() - self.updated_at) < UNDER_WAY_S


@dataclass(frozen=True, kw_only=True)
class PartedUpload:
    """A file on its way in parts."""

    upload_id: str
    part_bytes: int
    """Size of every part but the last."""
    expires_at: float
    """Unix time at which the host forgets it."""
    begun_at: float
    parts: Mapping[int, str]
    """Ids of the parts that have arrived, by number from 0."""


class Journal:
    """The journal of one home. Safe to use from several threads and processes; every call is durable."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._path = home / "client.db"
        self._ready = False

    def intend(self, launch: Launch) -> bool:
        """Write down a launch before it is sent, and return whether it may be: False when another has this run id.

        A launch of this run id that was refused has made no job, wherever it went: the new one takes its place.
        """
        with self._write() as db:
            written = db.execute(
                "INSERT INTO launches VALUES (?, ?, 'intended', NULL, ?, ?, NULL, ?, ?, NULL)"
                " ON CONFLICT (run_id) DO UPDATE"
                " SET base_url = excluded.base_url, state = 'intended', job_id = NULL, body = excluded.body,"
                " fingerprint = excluded.fingerprint, plan = NULL, note = NULL,"
                " created_at = excluded.created_at, updated_at = excluded.updated_at"
                " WHERE state = 'refused'",
                (
                    launch.run_id,
                    launch.base_url,
                    launch.fingerprint,
                    json.dumps(launch.body),
                    launch.created_at,
                    time.time(),
                ),
            )
            return written.rowcount > 0

    def sends(self, launch: Launch) -> bool:
        """Write down that a launch is sent now, and return whether it may be: False when it has been settled."""
        with self._write() as db:
            written = db.execute(
                "UPDATE launches SET state = 'intended', updated_at = ?"
                " WHERE run_id = ? AND created_at = ? AND state IN ('intended', 'unknown')",
                (time.time(), launch.run_id, launch.created_at),
            )
            return written.rowcount > 0

    def settle(
        self,
        run_id: str,
        state: LaunchState,
        *,
        job_id: str | None = None,
        note: str | None = None,
        begun_at: float | None = None,
    ) -> None:
        """Write down how a launch went. A job once known is never forgotten.

        Args:
            run_id: The launch.
            state: How it went.
            job_id: The job that it made.
            note: Why, where there is none.
            begun_at: `created_at` of the launch that is meant: a later one under the same run id is left as it is,
                unless there is a job.
        """
        with self._write() as db:
            db.execute(
                "UPDATE launches SET state = :state, job_id = :job_id, note = :note, updated_at = :now"
                " WHERE run_id = :run_id AND state != 'created'"
                " AND (:state = 'created' OR :begun_at IS NULL OR created_at = :begun_at)",
                {
                    "state": state,
                    "job_id": job_id,
                    "note": note,
                    "now": time.time(),
                    "run_id": run_id,
                    "begun_at": begun_at,
                },
            )

    def launch(self, run_id: str) -> Launch | None:
        """Return the launch of this run id, if there is one."""
        found = self._launches("WHERE run_id = ?", run_id)
        return found[0] if found else None

    def launches(self, base_url: str, *states: LaunchState) -> list[Launch]:
        """Return the launches at `base_url` in one of `states` (all when none is named), oldest first."""
        marks = ", ".join("?" * len(states))
        where = f"WHERE base_url = ? AND state IN ({marks})" if states else "WHERE base_url = ?"
        return self._launches(f"{where} ORDER BY created_at", base_url, *states)

    def keep_plan(self, run_id: str, plan: Mapping[str, Any]) -> None:
        """Keep what was estimated beside the launch, for comparison with what it took."""
        with self._write() as db:
            db.execute("UPDATE launches SET plan = ? WHERE run_id = ?", (json.dumps(plan), run_id))

    def plans(self, base_url: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the jobs at `base_url` whose estimate was kept, newest first, each with it."""
        with self._read() as db:
            rows = db.execute(
                "SELECT job_id, plan FROM launches WHERE base_url = ? AND job_id IS NOT NULL AND plan IS NOT NULL"
                " ORDER BY created_at DESC",
                (base_url,),
            ).fetchall()
        return [(str(job_id), json.loads(plan)) for job_id, plan in rows]

    def contents(self, base_url: str) -> dict[str, str]:
        """Return the sha256 of every file that was uploaded to `base_url`, by its id there."""
        with self._read() as db:
            return dict(db.execute("SELECT file_id, sha256 FROM uploads WHERE base_url = ?", (base_url,)).fetchall())

    def uploaded(self, base_url: str, sha256: str, purpose: str) -> str | None:
        """Return the id under which these bytes were uploaded before; the host must still be asked whether it holds."""
        with self._read() as db:
            row = db.execute(
                "SELECT file_id FROM uploads WHERE base_url = ? AND sha256 = ? AND purpose = ?",
                (base_url, sha256, purpose),
            ).fetchone()
        return row and str(row[0])

    def keep_upload(self, base_url: str, sha256: str, purpose: str, *, file_id: str) -> None:
        """Remember which bytes a file id stands for."""
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?, ?)",
                (base_url, sha256, purpose, file_id, time.time()),
            )

    def begin_parts(self, base_url: str, sha256: str, upload: PartedUpload) -> None:
        """Remember an upload in parts before its first part is sent."""
        values = (upload.upload_id, base_url, sha256, upload.part_bytes, upload.expires_at, upload.begun_at)
        with self._write() as db:
            db.execute("INSERT INTO parted_uploads VALUES (?, ?, ?, ?, ?, ?)", values)

    def keep_part(self, upload_id: str, number: int, part_id: str) -> None:
        """Remember that a part has arrived."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?)", (upload_id, number, part_id))

    def begun_parts(self, base_url: str, sha256: str) -> PartedUpload | None:
        """Return the newest unfinished upload of these bytes, with the parts that have arrived."""
        with self._read() as db:
            row = db.execute(
                "SELECT upload_id, part_bytes, expires_at, begun_at FROM parted_uploads"
                " WHERE base_url = ? AND sha256 = ? ORDER BY begun_at DESC",
                (base_url, sha256),
            ).fetchone()
            if row is None:
                return None
            parts = dict(db.execute("SELECT number, part_id FROM parts WHERE upload_id = ?", row[:1]).fetchall())
        return PartedUpload(upload_id=row[0], part_bytes=row[1], expires_at=row[2], begun_at=row[3], parts=parts)

    def end_parts(self, upload_id: str) -> None:
        """Forget an upload in parts: it has become a file, or never will."""
        with self._write() as db:
            db.execute("DELETE FROM parts WHERE upload_id = ?", (upload_id,))
            db.execute("DELETE FROM parted_uploads WHERE upload_id = ?", (upload_id,))

    def _launches(self, where: str, *values: str) -> list[Launch]:
        columns = "run_id, base_url, state, job_id, fingerprint, body, created_at, note, updated_at"
        with self._read() as db:
            rows = db.execute(f"SELECT {columns} FROM launches {where}", values).fetchall()  # noqa: S608 - own text
        names = columns.split(", ")
        return [Launch(**{**dict(zip(names, row, strict=True)), "body": json.loads(row[5])}) for row in rows]

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with failures_told(self._path):
            db = sqlite3.connect(self._prepared(), timeout=30)
            try:
                yield db
            finally:
                db.close()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._read() as db, db:
            db.execute("PRAGMA synchronous = FULL")
            yield db

    def _prepared(self) -> Path:
        if self._ready:
            return self._path
        open_home(self._path.parent)
        db = sqlite3.connect(self._path, timeout=30)
        try:
            prepare_tables(db, self._path, schema=_SCHEMA, versioned="meta", version=VERSION)
        finally:
            db.close()
        self._ready = True
        return self._path
