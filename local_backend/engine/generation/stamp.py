"""Whether a model's files are still those that were read: a folder can be written anew under the same name."""

from __future__ import annotations

import hashlib
from pathlib import Path

Stamp = tuple[tuple[str, int, int], ...]
"""Path, time of the last change (ns) and size (bytes) of each file that a model is read from."""

_READ = frozenset({".safetensors", ".json", ".jinja", ".model", ".txt"})
"""Weights, configurations, chat templates and vocabularies."""


def stamp(*folders: Path) -> Stamp:
    """Return the stamp of what is in the folders now; their subfolders are not read."""
    files = [file for folder in dict.fromkeys(folders) for file in sorted(folder.iterdir()) if file.suffix in _READ]
    return tuple(state for file in files if (state := _state(file)) is not None)


def digest(*folders: Path) -> str:
    """Return the sha256 of the folders' stamp, with the names of the files in place of their paths."""
    lines = (f"{Path(path).name} {changed_ns} {n_bytes}\n" for path, changed_ns, n_bytes in stamp(*folders))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _state(file: Path) -> tuple[str, int, int] | None:
    """None where the file has gone since the folder was listed."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return str(file), status.st_mtime_ns, status.st_size
