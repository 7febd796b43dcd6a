"""Reading the rows of tables and collections: CSV, TSV, Excel, Parquet, JSON, JSONL, archives of ChatGPT."""

from __future__ import annotations

import csv
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ftclient.data.convert.encodings import encoding_of
from ftclient.data.reader import open_binary, parse_line
from ftclient.errors import DataError, MissingDependencyError

INSTALL_DATA = 'pip install "ftclient[data]"'

_DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
_SNIFFED_BYTES = 1 << 16
_SNIFFED_ROWS = 50
_MAX_UNPACKED_BYTES = 2 << 30
"""An archive or workbook that would grow beyond this is refused: it is broken or meant to do harm."""
_PARQUET_ROWS = 10_000


class Row(NamedTuple):
    """One record of a source."""

    line: int
    """Physical line where the source has lines, else the number of the record; both from 1."""
    record: dict[str, Any]
    flaw: str | None = None
    """Why the record cannot be used, if it cannot."""


class TextLayout(NamedTuple):
    """How a table of text is written."""

    encoding: str
    delimiter: str

    def __str__(self) -> str:
        """For people."""
        return f"{self.encoding}, separated by {_DELIMITERS.get(self.delimiter, self.delimiter)}"


def sniff_layout(path: Path) -> TextLayout:
    """Find out the encoding (UTF-8, UTF-16, Shift_JIS, Windows-1252) and the delimiter of a table of text."""
    encoding = encoding_of(path)
    with path.open(encoding=encoding, newline="") as stream:
        sample = stream.read(_SNIFFED_BYTES)
    return TextLayout(encoding, max(_DELIMITERS, key=lambda delimiter: _n_columns(sample, delimiter)))


def table_rows(path: Path, layout: TextLayout) -> Iterator[Row]:
    """The rows of a CSV or TSV file with a header; cells are text, stripped of nothing."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(encoding=layout.encoding, newline="") as stream:
        reader = csv.reader((line.replace("\0", "") for line in stream), delimiter=layout.delimiter)
        header = _unique_names(next(reader, []))
        while True:
            first_line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Row(first_line, {}, f"the row cannot be read: {error}")
                continue
            if cells is None:
                return
            if any(cell.strip() for cell in cells):
                yield _table_row(first_line, header, cells)


def excel_rows(path: Path, *, sheet: str | int = 0) -> Iterator[Row]:
    """The rows of a sheet of a workbook (.xlsx, .xls, .xlsb, .ods), cells as text."""
    try:
        import fastexcel
        import polars as pl  # noqa: F401  fastexcel hands its tables over as polars frames
    except ImportError:
        raise MissingDependencyError(f"{INSTALL_DATA}  # reads Excel") from None
    if zipfile.is_zipfile(path):
        _refuse_bombs(path)
    try:
        workbook = fastexcel.read_excel(str(path))
        frame = workbook.load_sheet(sheet, dtypes="string").to_polars()
    except fastexcel.FastExcelError as error:
        raise DataError(f"{path} cannot be read as a workbook: {str(error).splitlines()[0]}") from None
    for number, record in enumerate(frame.iter_rows(named=True), 2):
        cells = {str(name): value or "" for name, value in record.items()}
        if any(value.strip() for value in cells.values()):
            yield Row(number, cells)


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file; nested values stay nested."""
    try:
        import polars as pl
    except ImportError:
        raise MissingDependencyError(f"{INSTALL_DATA}  # reads Parquet") from None
    try:
        frame = pl.scan_parquet(path)
        n_rows = frame.select(pl.len()).collect().item()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    for start in range(0, n_rows, _PARQUET_ROWS):
        part = frame.slice(start, _PARQUET_ROWS).collect()
        for number, record in enumerate(part.iter_rows(named=True), start + 1):
            yield Row(number, without_nulls(record))


def json_rows(path: Path) -> Iterator[Row]:
    """The records of a JSON file: a list of objects, or an object that has one list of objects."""
    try:
        with open_binary(path) as stream:
            value = json.loads(stream.read().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    yield from _numbered(_list_in(value, path))


def jsonl_rows(path: Path) -> Iterator[Row]:
    """The records of a JSONL file, plain or compressed."""
    with open_binary(path) as stream:
        for number, raw in enumerate(stream, 1):
            if raw.strip():
                line = parse_line(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw)
                is_record = isinstance(line.value, dict)
                flaw = None if is_record else next((problem.message for problem in line.problems), "this is no object")
                yield Row(number, line.value if is_record else {}, flaw)


def archive_rows(path: Path) -> Iterator[Row]:
    """The conversations in ChatGPT's data export (a .zip with conversations.json)."""
    _refuse_bombs(path)
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if Path(name).name.startswith("conversations")]
        if not names:
            raise DataError(f"{path} has no conversations.json; it is no data export of ChatGPT.")
        for name in sorted(names):
            with archive.open(name) as stream:
                yield from _numbered(_list_in(json.load(stream), path))


def without_nulls(value: Any) -> Any:
    """A nested value without null fields: columns of structs have every key in every row."""
    if isinstance(value, dict):
        return {key: without_nulls(child) for key, child in value.items() if child is not None}
    return [without_nulls(child) for child in value] if isinstance(value, list) else value


def _numbered(records: Iterable[Any]) -> Iterator[Row]:
    for number, record in enumerate(records, 1):
        is_record = isinstance(record, dict)
        yield Row(number, record if is_record else {}, None if is_record else "this is no object")


def _list_in(value: Any, path: Path) -> list[Any]:
    if isinstance(value, dict):
        lists = [child for child in value.values() if isinstance(child, list) and child and isinstance(child[0], dict)]
        value = lists[0] if len(lists) == 1 and "messages" not in value and "mapping" not in value else [value]
    if not isinstance(value, list):
        raise DataError(f"{path} holds neither a list of objects nor an object.")
    return value


def _n_columns(sample: str, delimiter: str) -> tuple[float, int]:
    """How many rows agree on the number of columns with this delimiter, and on how many; more is likelier right."""
    try:
        counts = [
            len(row) for row in islice(csv.reader(sample.splitlines(), delimiter=delimiter), _SNIFFED_ROWS) if row
        ]
    except csv.Error:
        return 0.0, 0
    width = counts[0] if counts else 1
    return (sum(count == width for count in counts) / len(counts), width) if width > 1 else (0.0, width)


def _unique_names(header: list[str]) -> list[str]:
    names: list[str] = []
    for number, raw in enumerate(header, 1):
        name = raw.strip() or f"column_{number}"
        names.append(name if name not in names else f"{name}_{number}")
    return names


def _table_row(line: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
        return Row(line, {}, f"the row has {len(cells)} cells, the header {len(header)}")
    padded = cells + [""] * (len(header) - len(cells))
    return Row(line, dict(zip(header, padded, strict=False)))


def _refuse_bombs(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile:
        raise DataError(f"{path} is a damaged archive.") from None
    if n_bytes > _MAX_UNPACKED_BYTES:
        raise DataError(f"{path} would unpack to {n_bytes / 2**30:.0f} GiB; that is refused.")
