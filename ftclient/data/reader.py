"""Reading JSONL: opening files (plain, gz, zst), cutting them into blocks of whole lines, parsing one line.

Nothing here holds more than one block in memory. A line is what ends in a line feed; U+2028 and the like are text.
"""

from __future__ import annotations

import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn, cast

from pydantic_core import from_json

from ftclient.errors import DataError, MissingDependencyError

BOM = b"\xef\xbb\xbf"
BLOCK_BYTES = 1 << 20
_PACKED_BYTES = 1 << 14
MAX_NUMBER_DIGITS = 4_000
"""Python converts integers of up to 4,300 digits; no reader of training data needs more."""

_SPACED_KEY = re.compile(rb'"[ \t\r\n]+:')
_SURROGATE = re.compile("[\ud800-\udfff]")


class LineProblem(NamedTuple):
    """Why a line could not be read in full."""

    code: str
    path: str
    message: str
    host_detail: str | None = None


class Line(NamedTuple):
    """One parsed line. `value` is None where the line is no JSON at all (see `problems`)."""

    value: Any
    problems: list[LineProblem]
    is_json: bool


def open_binary(path: str | Path) -> IO[bytes]:
    """Open a training file for reading; `.gz` and `.zst` are decompressed on the fly.

    Raises:
        OSError: The file cannot be opened.
        MissingDependencyError: A `.zst` file, and no zstandard library.
    """
    path = Path(path)
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if path.suffix == ".zst":
        return _open_zst(path)
    return path.open("rb")


def is_compressed(path: str | Path) -> bool:
    """Whether `open_binary` decompresses this file."""
    return Path(path).suffix in {".gz", ".zst"}


def decompression_errors() -> tuple[type[BaseException], ...]:
    """What reading a damaged compressed file may raise."""
    import zlib

    errors: tuple[type[BaseException], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
    try:
        import zstandard
    except ImportError:
        return errors
    return (*errors, zstandard.ZstdError)


def _open_zst(path: Path) -> IO[bytes]:
    try:
        import zstandard
    except ImportError:
        raise MissingDependencyError('pip install "ftclient[data]"  # reads .zst files') from None
    return io.BufferedReader(_ZstReader(path.open("rb"), zstandard.ZstdDecompressor()), BLOCK_BYTES)


class _ZstReader(io.RawIOBase):
    """Reads the frames of a .zst file; unlike the library's own reader it tells a file that is cut short."""

    def __init__(self, source: IO[bytes], decompressor: Any) -> None:
        super().__init__()
        self._source = source
        self._decompressor = decompressor
        self._frame: Any = None
        self._ready = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, target: Any, /) -> int:
        """Fill `target` as far as there is content; 0 is the end.

        Raises:
            EOFError: The file ends inside a frame.
        """
        while not self._ready and self._fill():
            pass
        n_bytes = min(len(target), len(self._ready))
        target[:n_bytes], self._ready = self._ready[:n_bytes], self._ready[n_bytes:]
        return n_bytes

    def _fill(self) -> bool:
        packed = b"" if self._frame is None else self._frame.unused_data
        packed = packed or self._source.read(_PACKED_BYTES)
        if self._frame is not None and self._frame.eof:
            self._frame = None
        if not packed:
            if self._frame is not None:
                raise EOFError("it ends too early")
            return False
        self._frame = self._frame or self._decompressor.decompressobj()
        self._ready = self._frame.decompress(packed)
        return True

    def close(self) -> None:
        """Close the file too."""
        self._source.close()
        super().close()


def blocks(stream: IO[bytes], *, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Cut a stream into pieces of about `block_bytes` that end at line ends (but for the last)."""
    while data := stream.read(block_bytes):
        yield data if data.endswith(b"\n") else data + stream.readline()


def lines(block: bytes) -> list[bytes]:
    """The lines of a block without their line feeds."""
    found = block.split(b"\n")
    if not found[-1]:
        found.pop()
    return found


def dump_line(example: Any, number: int) -> bytes:
    """An example as one line of JSONL, line feed included.

    Raises:
        DataError: Example `number` (from 1) holds something that JSON does not have.
    """
    try:
        return json.dumps(example, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(example).encode() + b"\n"  # half a surrogate pair can be written as an escape only
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"Example {number} cannot be written as JSON: {error}.") from None


def parse_line(raw: bytes) -> Line:
    """Parse one line; whatever the bytes are, problems are returned and nothing is raised."""
    try:
        value = parse_value(raw)
    except ValueError:
        return _parse_slowly(raw)
    if may_repeat_keys(raw, count_keys(value)):
        return Line(value, _repeated_keys(raw), is_json=True)
    return Line(value, [], is_json=True)


def parse_value(raw: bytes) -> Any:
    """Return what `parse_line` finds in a line, without looking for repeated keys, in a third of the time.

    Raises:
        ValueError: The line needs a closer look.
    """
    return from_json(raw, allow_inf_nan=False, cache_strings="keys")


def may_repeat_keys(raw: bytes, n_keys: int) -> bool:
    """A cheap test that never misses a repeated key: colons after quotes must be as many as keys after parsing."""
    return raw.count(b'":') != n_keys or has_spaced_keys(raw)


def has_spaced_keys(raw: bytes) -> bool:
    """Whether white space stands between a key and its colon; then colons cannot be counted."""
    return _SPACED_KEY.search(raw) is not None


def count_keys(value: Any) -> int:
    """How many keys all objects inside `value` have."""
    n_keys = 0
    pending = [value]
    while pending:
        item = pending.pop()
        if type(item) is dict:
            n_keys += len(item)
            pending.extend(item.values())
        elif type(item) is list:
            pending.extend(item)
    return n_keys


def _parse_slowly(raw: bytes) -> Line:
    problems: list[LineProblem] = []
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        text = raw.decode(errors="replace")
        problems.append(LineProblem("encoding", "", f"Byte {error.start + 1} of the line is not valid UTF-8."))
    value, problem = _loads(text)
    if problem is not None:
        return Line(None, [*problems, problem], is_json=False)
    problems += _lone_surrogates(value)
    return Line(value, problems + _repeated_keys(text), is_json=True)


def _loads(text: str) -> tuple[Any, LineProblem | None]:
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_int=_parse_int), None
    except json.JSONDecodeError as error:
        what = f"Not valid JSON: {error.msg} at column {error.colno}."
        return None, LineProblem("json_syntax", "", what, str(error))
    except _NotJsonError as error:
        return None, LineProblem("json_syntax", "", str(error))
    except RecursionError:
        return None, LineProblem("json_syntax", "", "The JSON is nested too deeply to be read.")


class _NotJsonError(ValueError):
    """What Python's parser takes and JSON does not allow, or nobody can read."""


def _refuse_constant(name: str) -> NoReturn:
    raise _NotJsonError(f"{name} is not JSON; numbers must be finite.")


def _parse_int(digits: str) -> int:
    if len(digits) > MAX_NUMBER_DIGITS:
        raise _NotJsonError(f"A number has {len(digits):,} digits.")
    return int(digits)


def walk_strings(value: Any) -> Iterator[tuple[str, str]]:
    """Yield (pointer, text) for every string in `value`, keys too, without recursion."""
    pending: list[tuple[str, Any]] = [("", value)]
    while pending:
        path, item = pending.pop()
        if isinstance(item, str):
            yield path, item
        elif isinstance(item, dict):
            for key, child in item.items():
                yield pointer(path, key), key
                pending.append((pointer(path, key), child))
        elif isinstance(item, list):
            pending.extend((f"{path}/{i}", child) for i, child in enumerate(item))


def pointer(path: str, key: str) -> str:
    """Append a key to an RFC 6901 pointer; unreadable or huge keys are made readable and short."""
    return f"{path}/{clean_text(key, limit=80).replace('~', '~0').replace('/', '~1')}"


def clean_text(text: str, *, limit: int = 60) -> str:
    """A piece of user text that is safe to print: at most `limit` characters, no controls, no broken Unicode."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in short)


def _lone_surrogates(value: Any) -> list[LineProblem]:
    what = "An escape such as \\ud800 stands without its other half; this is no valid text."
    paths = dict.fromkeys(path for path, text in walk_strings(value) if _SURROGATE.search(text))
    return [LineProblem("encoding", path, what) for path in paths]


class _Pairs(dict[str, Any]):
    """An object that remembers which of its keys came twice."""

    repeated: tuple[str, ...] = ()


def _pairs(items: list[tuple[str, Any]]) -> _Pairs:
    found = _Pairs(items)
    if len(found) != len(items):
        times = Counter(key for key, _ in items)
        found.repeated = tuple(key for key in found if times[key] > 1)
    return found


def _repeated_keys(text: str | bytes) -> list[LineProblem]:
    try:
        value = json.loads(text, object_pairs_hook=_pairs)
    except (RecursionError, ValueError):
        return []  # only the fast parser reads it: it is not deep, but has a number that Python refuses
    found: list[LineProblem] = []
    pending: list[tuple[str, Any]] = [("", value)]
    while pending:
        path, item = pending.pop()
        if isinstance(item, _Pairs):
            found += [_repeated(path, key) for key in item.repeated]
            pending.extend((pointer(path, key), child) for key, child in item.items())
        elif isinstance(item, list):
            pending.extend((f"{path}/{i}", child) for i, child in enumerate(item))
    return found


def _repeated(path: str, key: str) -> LineProblem:
    return LineProblem("duplicate_key", pointer(path, key), "This key occurs twice in its object; the last one counts.")
