"""Base models as loadable folders: fetched once, converted once, then read from the cache in a fraction of a second."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ftclient.data.digest import sha256_of
from local_backend.engine import gguf_import
from local_backend.models import cache, names
from local_backend.models.cache import Source
from local_backend.models.fetch import Fetched, fetch
from local_backend.models.hub import Progress
from local_backend.settings import Settings
from local_backend.task import UserError


@dataclass(frozen=True, kw_only=True)
class ModelDir:
    """A base model on disk, as transformers' `from_pretrained` takes it."""

    path: Path
    sha256: str
    """Of the weights: of the one safetensors file, or over the names and sums of several."""
    name: str
    """Canonical name."""


def ensure(name: str, settings: Settings, progress: Progress | None = None) -> ModelDir:
    """Return the folder of a base model, downloading and converting it on first use.

    A file is converted again once something else is in it.
    Two processes may ask at once: one works, the other waits for it. What a crash left is resumed from.

    Raises:
        UserError: No such model, or it can't be had here now; the text says what to do.
    """
    canonical = names.resolve(name, settings=settings)
    if names.looks_like_path(canonical) and Path(canonical).is_dir():
        return _local_folder(Path(canonical))
    source = _stored(canonical, settings) or _build(canonical, settings, progress)
    return ModelDir(path=cache.folder(canonical, settings=settings), sha256=source.sha256, name=canonical)


def weights_sha256(folder: Path) -> str:
    """Return the sha256 of a folder's safetensors; of several files, that of their `name sha256` lines."""
    return _sha256(*sorted(folder.glob("*.safetensors")))


def _stored(canonical: str, settings: Settings) -> Source | None:
    """What the cache has of a model; nothing, if the file that it was converted from holds something else by now."""
    source = cache.find(canonical, settings=settings)
    if source is None or not names.looks_like_path(canonical):
        return source
    return source if source.revision == _sha256(Path(canonical)) else None


def _local_folder(folder: Path) -> ModelDir:
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        text = f"The folder {folder} is no model: it needs config.json and *.safetensors."
        raise UserError(text, param="model", code="model_not_supported")
    return ModelDir(path=folder, sha256=weights_sha256(folder), name=str(folder))


def _build(canonical: str, settings: Settings, progress: Progress | None) -> Source:
    with _explained(canonical, settings), cache.building(canonical, settings=settings) as staging:
        done = _stored(canonical, settings)
        if done is not None:
            return done
        return _fetch_and_publish(canonical, staging, settings, progress)


@contextmanager
def _explained(canonical: str, settings: Settings) -> Iterator[None]:
    """Turn what a disk may say into words with a remedy."""
    try:
        yield
    except OSError as error:
        sealed = f"The folder {settings.cache} can't be written. Set FTCLIENT_CACHE to another"
        remedies = dict.fromkeys((errno.EACCES, errno.EROFS, errno.ENOTDIR), sealed)
        remedies[errno.ENOSPC] = f"The disk is full: {canonical} did not fit into {settings.cache}. Free some space"
        if error.errno not in remedies:
            raise
        text = f"{remedies[error.errno]} and try again."
        raise UserError(text, param="model", code="model_unavailable") from error


def _fetch_and_publish(canonical: str, staging: Path, settings: Settings, progress: Progress | None) -> Source:
    if names.looks_like_path(canonical):
        fetched = Fetched(path=Path(canonical), origin="file", revision=_sha256(Path(canonical)))
    else:
        fetched = fetch(canonical, to=staging, progress=progress)
    built = _converted(fetched, staging, progress)
    source = Source(
        name=canonical,
        origin=fetched.origin,
        revision=fetched.revision,
        sha256=weights_sha256(built),
        size_bytes=sum(file.stat().st_size for file in built.iterdir()),
    )
    cache.publish(built, source=source, settings=settings)
    shutil.rmtree(staging)
    return source


def _converted(fetched: Fetched, staging: Path, progress: Progress | None) -> Path:
    if fetched.path.is_dir():
        # The hub client's own bookkeeping of partial downloads.
        shutil.rmtree(fetched.path / ".cache", ignore_errors=True)
        return fetched.path
    built = staging / "built"
    shutil.rmtree(built, ignore_errors=True)
    label, size_bytes = f"{fetched.path.name} (converting)", fetched.path.stat().st_size
    if progress is not None:
        progress(label, 0, size_bytes)
    gguf_import.convert(fetched.path, to=built)
    if progress is not None:
        progress(label, size_bytes, size_bytes)
    return built


def _sha256(*files: Path) -> str:
    """The sum of one file, or over the names and sums of several; read again when their time or size has changed."""
    return _files_sha256(tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in files))


@lru_cache(maxsize=64)
def _files_sha256(files: tuple[tuple[Path, int, int], ...]) -> str:
    sums = [(path.name, sha256_of(path)) for path, _, _ in files]
    if len(sums) == 1:
        return sums[0][1]
    return hashlib.sha256("".join(f"{name} {value}\n" for name, value in sums).encode()).hexdigest()
