"""Taking a model away from the local backend: a tar stream becomes a folder, whole or not at all."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal, cast
from urllib.parse import quote

from ftclient.errors import BackendError, UnsupportedError
from ftclient.hosts import Host
from ftclient.wire import errors_of

if TYPE_CHECKING:
    from openai import OpenAI

ExportFormat = Literal["adapter", "merged", "gguf"]
_CHUNK_BYTES = 1 << 20


def export(
    openai: OpenAI, host: Host, model: str, *, to: Path, form: ExportFormat, options: Mapping[str, str]
) -> list[Path]:
    """Write a model into the new folder `to` and return its files, in the order of their names.

    Raises:
        UnsupportedError: The host is not a local backend.
        FileExistsError: There is something in the folder.
        BackendError: The model cannot be had in this form, or the stream broke; nothing is left of it.
    """
    if not host.is_local:
        raise UnsupportedError(f"{host.title} does not give weights away; only models of the local backend can be.")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise FileExistsError(f"{to} is there already. Choose a new folder.")
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{to.name}-", dir=to.parent))
    try:
        _receive(openai, host, model, {"format": form, **options}, partial)
        partial.chmod(0o755)
        partial.replace(to)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return sorted(path for path in to.rglob("*") if path.is_file())


def _receive(openai: OpenAI, host: Host, model: str, query: Mapping[str, str], folder: Path) -> None:
    # The header by which the official client's own `with_streaming_response` asks for an answer that is not read yet.
    headers = {"X-Stainless-Raw-Response": "stream"}
    options: Any = {"headers": headers, "params": dict(query), "max_retries": 0}
    with errors_of(host):
        answer: Any = openai.get(f"/local/models/{quote(model, safe=':/')}/export", cast_to=object, options=options)
        try:
            _unpack(cast("IO[bytes]", _Pieces(answer.iter_bytes(_CHUNK_BYTES))), folder)
        except tarfile.TarError as error:
            raise BackendError(f"The stream of {model} is damaged ({error}). Try again.") from error
        finally:
            answer.close()


def _unpack(stream: IO[bytes], folder: Path) -> None:
    """Write the plain files of a tar stream below `folder`; a name that leads out of it is refused."""
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            source = archive.extractfile(member) if member.isfile() else None
            if source is None or name.is_absolute() or ".." in name.parts:
                raise BackendError(f"The archive holds {member.name!r}, which is no plain file below the folder.")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                shutil.copyfileobj(source, file, _CHUNK_BYTES)


class _Pieces:
    """A stream of bytes, as much of a file as `tarfile` wants."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        parts, n_bytes = [self._rest], len(self._rest)
        while n_bytes < size and (piece := next(self._pieces, b"")):
            parts.append(piece)
            n_bytes += len(piece)
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]
