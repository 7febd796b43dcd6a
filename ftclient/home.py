"""Where the client keeps what it must not forget."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftclient.errors import FtclientError


def default_home() -> Path:
    """Return FTCLIENT_HOME, else the platform's data folder for `ftclient`."""
    chosen = os.environ.get("FTCLIENT_HOME")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_data_dir("ftclient"))


def open_home(home: Path) -> Path:
    """Create `home` readable by its owner alone, if it is not there yet, and return it."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return home


@contextmanager
def client_tables(home: Path, *, schema: str, versioned: str, version: int) -> Iterator[sqlite3.Connection]:
    """Open `client.db` with some of its tables, which are made if need be; what is committed is durable.

    Args:
        home: The client's home.
        schema: SQL that makes the tables where they are missing.
        versioned: The table that holds the version of their form, in the column `version`.
        version: The one that this code reads and writes.

    Raises:
        FtclientError: The file cannot be used, or another version of ftclient wrote the tables.
    """
    path = home / "client.db"
    with failures_told(path):
        open_home(home)
        db = sqlite3.connect(path, timeout=30)
        try:
            prepare_tables(db, path, schema=schema, versioned=versioned, version=version)
            db.execute("PRAGMA synchronous = FULL")
            yield db
        finally:
            db.close()


def prepare_tables(db: sqlite3.Connection, path: Path, *, schema: str, versioned: str, version: int) -> None:
    """Make the tables of a part of `client.db` where they are missing, readable by their owner alone.

    Raises:
        FtclientError: Another version of ftclient wrote them.
    """
    path.chmod(0o600)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(
        f"BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS {versioned} (version INTEGER NOT NULL); {schema} COMMIT;"
    )
    with db:
        fill = f"INSERT INTO {versioned} SELECT ? WHERE NOT EXISTS (SELECT 1 FROM {versioned})"  # noqa: S608 - our names
        db.execute(fill, (version,))
    (found,) = db.execute(f"SELECT version FROM {versioned}").fetchone()  # noqa: S608
    if found != version:
        raise FtclientError(
            f"{path} was written by another version of ftclient (format {found}, this one reads {version})."
            " Update ftclient, or use another --home."
        )


@contextmanager
def failures_told(path: Path) -> Iterator[None]:
    """Say what a full disk, a damaged file or a folder that cannot be written mean for the user."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except (sqlite3.DatabaseError, OSError) as error:
        raise FtclientError(
            f"{path} cannot be used ({error}). Free some room or mend it, or choose another folder with"
            " --home or FTCLIENT_HOME."
        ) from error
