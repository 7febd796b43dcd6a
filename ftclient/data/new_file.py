"""Writing a new file in one piece: it appears when it is complete, or not at all, and never over its source."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from ftclient.errors import DataError


@contextmanager
def new_file(
    path: str | Path, *, not_over: str | Path | None = None, overwrite: bool = False, keep_empty: bool = True
) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes its name at the end; `.gz` is compressed.

    Args:
        path: The file to write.
        not_over: A file that `path` must not be.
        overwrite: Replace a file of this name.
        keep_empty: False leaves no file behind (nor an older one of this name) when nothing was written.

    Raises:
        DataError: The file exists already, is the source, or its folder does not exist.
    """
    path = Path(path)
    _refuse(path, not_over, overwrite=overwrite)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as raw:
        unfinished = Path(raw.name)
        try:
            if path.suffix == ".gz":
                with gzip.open(raw, "wb") as packed:
                    yield cast("IO[bytes]", packed)
            else:
                yield cast("IO[bytes]", raw)
            raw.flush()
            os.fsync(raw.fileno())
        except BaseException:
            unfinished.unlink()
            raise
    if not keep_empty and unfinished.stat().st_size == 0:
        unfinished.unlink()
        path.unlink(missing_ok=True)
        return
    unfinished.chmod(0o644)
    unfinished.replace(path)


def _refuse(path: Path, not_over: str | Path | None, *, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise DataError(f"The folder {path.parent} does not exist; create it first.")
    if not_over is not None and path.exists() and path.samefile(not_over):
        raise DataError(f"{path} is the source itself; name another file for the result.")
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists already; name another file, or allow it to be replaced (--overwrite).")
