"""Opening a home's database: durability, format version, transactions, room on disk."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import Session

from ftclient.errors import UnavailableError
from local_backend.store.tables import MetaRow, Table

FORMAT = 1
"""Version of the tables and of the layout of `server/`. A change raises it and adds a step to `_MIGRATIONS`."""

_BUSY_TIMEOUT_MS = 30_000
"""Fifty clients that write at once wait for each other; a single write takes a few milliseconds."""

_POOL = {"pool_size": 8, "max_overflow": 40, "pool_timeout": 60}
"""One connection a request in flight; the web framework runs at most 40 at a time."""


class StoreError(UnavailableError):
    """The home cannot be used; the text says why and what to do."""


class DiskFullError(OSError):
    """There is no room for what was to be written; nothing of it remains."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, "No space left on device")


class Store:
    """The database and the folders of one home. Threads and processes may share a home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in (folder.parent, folder, self.blobs, self.jobs, self.uploads, self.incoming):
            _private_folder(part)
        self.engine = _connect(folder / "store.db")
        try:
            _prepare(self.engine, folder / "store.db")
        except BaseException:
            self.engine.dispose()
            raise

    @property
    def blobs(self) -> Path:
        """Where contents lie, named by their sha256."""
        return self.folder / "files"

    @property
    def jobs(self) -> Path:
        """Where each job has a folder of its own."""
        return self.folder / "jobs"

    @property
    def uploads(self) -> Path:
        """Where each unfinished upload has a folder with its parts."""
        return self.folder / "uploads"

    @property
    def incoming(self) -> Path:
        """Where contents lie that are still arriving."""
        return self.folder / "incoming"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database."""
        with _no_room_is_told(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that alone may write; committed and on disk at its end, undone on an exception."""
        with _no_room_is_told(), self.engine.connect() as connection:
            connection.execution_options(begin_statement="BEGIN IMMEDIATE")
            with Session(connection, expire_on_commit=False) as session, session.begin():
                yield session

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def now() -> int:
    """The time as the API shows it: whole seconds since 1970."""
    return int(time.time())


def _private_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise StoreError(
            f"The folder {path} cannot be used ({error.strerror}). Give another one with --home or FTCLIENT_HOME."
        ) from error


def _connect(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000, "check_same_thread": False, "isolation_level": None},
        hide_parameters=True,  # they hold what users sent; errors end in logs
        **_POOL,
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _record: Any) -> None:
    """Make commits last through power cuts; readers never wait for writers."""
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin_statement", "BEGIN"))


def _prepare(engine: Engine, path: Path) -> None:
    """Create the tables of a new store, or make sure that this program can read those of an old one."""
    try:
        with engine.connect().execution_options(begin_statement="BEGIN IMMEDIATE") as connection, connection.begin():
            known = engine.dialect.has_table(connection, MetaRow.__tablename__)
            version = connection.scalar(select(MetaRow.value).where(MetaRow.key == "format")) if known else None
            if version is None:
                Table.metadata.create_all(connection)
                connection.execute(insert(MetaRow).values(key="format", value=str(FORMAT)))
            elif version != str(FORMAT):
                raise StoreError(_format_text(path, version))
    except DatabaseError as error:
        if isinstance(error, OperationalError) and "full" in str(error.orig):
            raise DiskFullError from error
        raise StoreError(f"{path} is no readable store ({error.orig}). Move it away or name another home.") from error


def _format_text(path: Path, version: str) -> str:
    if version.isdigit() and int(version) > FORMAT:
        return f"{path} was written by a newer version (format {version}, this one reads {FORMAT}): upgrade ftclient."
    return f"{path} has format {version}, which this version cannot read. Move it away or name another home."


@contextmanager
def _no_room_is_told() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if "full" in str(error.orig):
            raise DiskFullError from error
        raise
