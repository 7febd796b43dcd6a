"""A dataset: examples in a file, or in memory, that can be read, checked, split, written and uploaded."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ftclient.data.chat import Format, format_of
from ftclient.data.check import Progress, check_file
from ftclient.data.limits import OPENAI_LIMITS, Limits, Method
from ftclient.data.new_file import new_file
from ftclient.data.reader import BOM, dump_line, is_compressed, open_binary, parse_line
from ftclient.data.report import Report
from ftclient.data.tokens import encoding_for
from ftclient.errors import DataError


class Dataset:
    """Examples in the order of their file. Made from objects, or by `Dataset.read` from a file, which is streamed.

    Once its content was checked or hashed, a file that changes is refused: what was checked is what is used.
    """

    def __init__(self, examples: Iterable[Mapping[str, Any]]) -> None:
        self._path: Path | None = None
        lines = [dump_line(example, number) for number, example in enumerate(examples, 1)]
        self._content = b"".join(lines)
        self._length: int | None = len(lines)
        self._sha256: str | None = None
        self._size_bytes: int | None = len(self._content)
        self._state: tuple[int, ...] | None = None
        self._folder: _Folder | None = None

    @classmethod
    def read(cls, path: str | Path) -> Dataset:
        """A dataset in a .jsonl, .jsonl.gz or .jsonl.zst file. Nothing is read yet.

        Raises:
            FileNotFoundError: There is no such file.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}.")
        found = cls(())
        found._path, found._length, found._size_bytes = path, None, None
        return found

    @property
    def path(self) -> Path | None:
        """The file; None for a dataset in memory."""
        return self._path

    @property
    def is_temporary(self) -> bool:
        """Whether its file goes with this object, as that of a part of another dataset does."""
        return self._folder is not None

    @property
    def name(self) -> str:
        """A file name that ends in .jsonl, for uploads."""
        if self._path is None:
            return "dataset.jsonl"
        return self._path.with_suffix("").name if is_compressed(self._path) else self._path.name

    @property
    def sha256(self) -> str:
        """The hash of the (decompressed) content, as 64 hexadecimal digits."""
        if self._sha256 is None:
            self._hash()
        assert self._sha256 is not None  # noqa: S101  _hash has set it
        return self._sha256

    @property
    def size_bytes(self) -> int:
        """The size of the (decompressed) content."""
        if self._size_bytes is None:
            self._hash()
        assert self._size_bytes is not None  # noqa: S101  _hash has set it
        return self._size_bytes

    def __repr__(self) -> str:
        """Where the examples are."""
        return f"Dataset({str(self._path)!r})" if self._path else f"Dataset({len(self)} examples in memory)"

    def __len__(self) -> int:
        """The number of lines that are not blank."""
        if self._length is None:
            with self._open_raw() as stream:
                self._length = sum(1 for line in stream if line.removeprefix(BOM).strip())
        return self._length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The examples, one at a time.

        Raises:
            DataError: A line is no JSON object; the text names it.
        """
        with self._open_raw() as stream:
            for number, raw in enumerate(stream, 1):
                line = raw.removeprefix(BOM) if number == 1 else raw
                if line.strip():
                    yield self._parse(line, number)

    def _parse(self, raw: bytes, number: int) -> dict[str, Any]:
        line = parse_line(raw)
        where = f"{self.name}, line {number}"
        bad = next((problem for problem in line.problems if problem.code != "duplicate_key"), None)
        if bad is not None:
            raise DataError(f"{where}: {bad.message} `ftclient check` lists all problems.")
        if not isinstance(line.value, dict):
            raise DataError(f"{where}: this is no JSON object. `ftclient check` lists all problems.")
        return line.value

    def check(
        self,
        *,
        model: str | None = None,
        method: Method = "supervised",
        limits: Limits = OPENAI_LIMITS,
        is_training: bool = True,
        progress: Progress | None = None,
    ) -> Report:
        """Check all lines by a host's limits, without any network but to get a vocabulary once.

        `model` decides the encoding that counts tokens and, for OpenAI's models, the context. Models of other makers
        have their own tokenizers: their tokens are not counted here (`client.check` asks the backend).
        """
        state = self._current_state()
        source: Path | IO[bytes] = self._path or io.BytesIO(self._content)
        report = check_file(
            source,
            method=method,
            limits=limits.for_model(model),
            is_training=is_training,
            encoding=encoding_for(model),
            progress=progress,
        )
        self._pin(report.stats["sha256"], report.stats["n_bytes"], state)
        return report

    def format(self) -> Format:
        """The format of the first example that has a known one."""
        found = (format_of(example) for example in self)
        return next((seen for seen in found if seen != "unknown"), "unknown")

    def open(self) -> IO[bytes]:
        """The (decompressed) content from its start, seekable; the bytes that were checked, where there was a check.

        Raises:
            DataError: The file was changed since it was checked.
        """
        if self._path is None:
            return io.BytesIO(self._content)
        if not is_compressed(self._path):
            stream = self._path.open("rb")
            self._refuse_if_changed(_state_of(os.fstat(stream.fileno())), stream)
            return stream
        return self._unpacked(self._path)

    def refuse_other(self, sha256: str) -> None:
        """Refuse content that was read and is not this one: a file may be changed while it is read, too.

        Args:
            sha256: The hash of what was read.

        Raises:
            DataError: It is another.
        """
        if sha256 != self.sha256:
            raise self._changed()

    def _unpacked(self, path: Path) -> IO[bytes]:
        target = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
        with open_binary(path) as source:
            shutil.copyfileobj(source, target, 1 << 20)
        self._refuse_if_changed(self._current_state(), target)
        target.seek(0)
        return target

    def write(self, path: str | Path) -> Dataset:
        """Write the content to `path` (.jsonl or .jsonl.gz), in one piece or not at all; returns it as a dataset.

        Raises:
            DataError: The folder does not exist, or the name asks for zst.
        """
        if Path(path).suffix == ".zst":
            raise DataError(f"{path} cannot be written: name a .jsonl or .jsonl.gz file.")
        with self.open() as source, new_file(path, overwrite=True) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        return Dataset.read(path)

    def split(self, *shares: float, seed: int = 7) -> tuple[Dataset, ...]:
        """Split into parts of about these shares, e.g. `split(0.8, 0.1, 0.1)`; see `ftclient.data.split`.

        The parts keep the order of the file and are files in a temporary folder that lives as long as they do.
        """
        from ftclient.data.split import split_examples

        return self._parts(split_examples(iter(self), shares, seed=seed))

    def _parts(self, parts: Sequence[Sequence[int]]) -> tuple[Dataset, ...]:
        """Write each list of example numbers (from 0) to a file of its own."""
        folder = _Folder()  # the parts hold it; it goes when the last one does
        part_of = {index: part for part, indices in enumerate(parts) for index in indices}
        paths = [folder.path / f"{Path(self.name).stem}.{i}.jsonl" for i in range(len(parts))]
        files = [path.open("wb") for path in paths]
        for index, example in enumerate(self):
            if index in part_of:
                files[part_of[index]].write(dump_line(example, index + 1))
        for file in files:
            file.close()
        found = tuple(Dataset.read(path) for path in paths)
        for dataset in found:
            dataset._folder = folder  # noqa: SLF001  keeps the folder alive
        return found

    def _open_raw(self) -> IO[bytes]:
        return io.BytesIO(self._content) if self._path is None else open_binary(self._path)

    def _hash(self) -> None:
        state = self._current_state()
        sha256, n_bytes = hashlib.sha256(), 0
        with self._open_raw() as stream:
            while block := stream.read(1 << 20):
                sha256.update(block)
                n_bytes += len(block)
        self._pin(sha256.hexdigest(), n_bytes, state)

    def _pin(self, sha256: str, n_bytes: int, state: tuple[int, ...] | None) -> None:
        """Remember the content that was read while the file was in `state`."""
        self._refuse_if_changed(self._current_state(), None, before=state)
        self._sha256, self._size_bytes, self._state = sha256, n_bytes, state

    def _current_state(self) -> tuple[int, ...] | None:
        return None if self._path is None else _state_of(self._path.stat())

    def _refuse_if_changed(
        self, now: tuple[int, ...] | None, stream: IO[bytes] | None, *, before: tuple[int, ...] | None = None
    ) -> None:
        before = before or self._state
        if before is None or now == before:
            return
        if stream is not None:
            stream.close()
        raise self._changed()

    def _changed(self) -> DataError:
        again = f"`ftclient check {shlex.quote(str(self._path))}`, or Dataset.read(path).check()"
        return DataError(f"{self._path} was changed since it was checked. Check it again: {again}.")


class _Folder:
    """A temporary folder that goes, without a warning, when nobody holds it any more or the program ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="ftclient-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _state_of(found: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is written or replaced."""
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def detect_format(path: str | Path) -> Format:
    """Recognise the format of a JSONL file by its first examples.

    Raises:
        DataError: A line before the first recognisable example is no JSON object.
        FileNotFoundError: There is no such file.
    """
    return Dataset.read(path).format()
