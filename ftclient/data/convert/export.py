"""Examples as tables: CSV, TSV or Parquet, so that people and other tools can read them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from ftclient.data.convert.rows import INSTALL_DATA
from ftclient.data.new_file import new_file
from ftclient.data.reader import open_binary, parse_line
from ftclient.errors import DataError, MissingDependencyError

_SIMPLE = ("system", "prompt", "answer")
_DELIMITER_BY_SUFFIX = {".csv": ",", ".tsv": "\t"}


def export_table(source: str | Path, *, to: str | Path, overwrite: bool = False) -> int:
    """Write a file of examples as a table.

    Where every example is one question and one answer, the columns are system, prompt and answer; else each key of
    the examples is a column, and lists are written as JSON. Both are read back by `convert_file`.

    Args:
        source: A JSONL file.
        to: The table; its suffix says which: .csv, .tsv or .parquet.
        overwrite: Replace `to` if it exists.

    Returns:
        The number of rows.

    Raises:
        DataError: A line is no JSON object, or `to` has another suffix, or exists.
    """
    to = Path(to)
    records = [_example(raw, number) for number, raw in enumerate(_lines(source), 1) if raw.strip()]
    rows = _rows(records)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with new_file(to, not_over=source, overwrite=overwrite) as target:
        if to.suffix == ".parquet":
            _write_parquet(rows, names, target)
        elif to.suffix in _DELIMITER_BY_SUFFIX:
            _write_text(rows, names, target, _DELIMITER_BY_SUFFIX[to.suffix])
        else:
            raise DataError(f"{to.name}: a table ends in .csv, .tsv or .parquet.")
    return len(rows)


def _lines(source: str | Path) -> Iterable[bytes]:
    with open_binary(source) as stream:
        yield from stream


def _example(raw: bytes, number: int) -> dict[str, Any]:
    value = parse_line(raw.removeprefix(b"\xef\xbb\xbf")).value
    if not isinstance(value, dict):
        raise DataError(f"Line {number} is no JSON object; `ftclient check` lists all problems.")
    return value


def _rows(records: list[dict[str, Any]]) -> list[dict[str, str]]:
    simple = [_simple_row(record) for record in records]
    if all(simple):
        has_system = any(row["system"] for row in simple if row)
        names = _SIMPLE if has_system else _SIMPLE[1:]
        return [{name: row[name] for name in names} for row in simple if row]
    return [{key: _cell(value) for key, value in record.items()} for record in records]


def _simple_row(record: Mapping[str, Any]) -> dict[str, str] | None:
    """System, prompt and answer of an example that has nothing else; None if it has."""
    messages = record.get("messages")
    if len(record) != 1 or not isinstance(messages, list):
        return None
    if any(not isinstance(message, dict) or message.keys() != {"role", "content"} for message in messages):
        return None
    texts = [message["content"] for message in messages]
    roles = [message["role"] for message in messages]
    # Only what comes back the same may be taken apart: converting trims, and reads JSON in cells.
    if any(not isinstance(text, str) or text != text.strip() or not text for text in texts):
        return None
    if roles not in (["system", "user", "assistant"], ["user", "assistant"]):
        return None
    return dict(zip(_SIMPLE, texts if len(texts) == len(_SIMPLE) else ["", *texts], strict=True))


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _write_text(rows: list[dict[str, str]], names: list[str], target: IO[bytes], delimiter: str) -> None:
    text = io.TextIOWrapper(target, encoding="utf-8", newline="", write_through=True)
    writer = csv.DictWriter(text, names, delimiter=delimiter, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    text.detach()


def _write_parquet(rows: list[dict[str, str]], names: list[str], target: IO[bytes]) -> None:
    try:
        import polars as pl
    except ImportError:
        raise MissingDependencyError(f"{INSTALL_DATA}  # writes Parquet") from None
    frame = pl.DataFrame(
        {name: [row.get(name) for row in rows] for name in names}, schema=dict.fromkeys(names, pl.String)
    )
    frame.write_parquet(target)
