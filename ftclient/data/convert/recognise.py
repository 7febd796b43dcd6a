"""Recognising what a source is: its kind by name and content, the shape of its records by their keys."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from ftclient.data.convert.beside import image_key
from ftclient.data.convert.columns import without_images
from ftclient.data.convert.hub import PREFIX, hub_rows, is_saved_dataset, saved_rows
from ftclient.data.convert.images import image_rows, is_image_folder
from ftclient.data.convert.rows import (
    Row,
    TextLayout,
    archive_rows,
    excel_rows,
    json_rows,
    jsonl_rows,
    parquet_rows,
    sniff_layout,
    table_rows,
)
from ftclient.data.convert.shapes import shape_of
from ftclient.errors import DataError

Kind = Literal["text_table", "excel", "parquet", "json", "jsonl", "chatgpt_archive", "images", "saved_dataset", "hub"]

KINDS = ("text_table", "excel", "parquet", "json", "jsonl", "chatgpt_archive", "images", "saved_dataset", "hub")

_SUFFIXES: dict[str, Kind] = {
    ".csv": "text_table", ".tsv": "text_table", ".tab": "text_table", ".txt": "text_table", ".xlsx": "excel",
    ".xlsm": "excel", ".xlsb": "excel", ".xls": "excel", ".ods": "excel", ".parquet": "parquet", ".pq": "parquet",
    ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".zip": "chatgpt_archive",
}  # fmt: skip

_KIND_NAMES: dict[Kind, str] = {
    "text_table": "a table of text",
    "excel": "a workbook",
    "parquet": "Parquet",
    "json": "JSON",
    "jsonl": "JSON lines",
    "chatgpt_archive": "an archive of ChatGPT's data export",
    "images": "a folder of images, one folder a class",
    "saved_dataset": "a Hugging Face dataset on disk",
    "hub": "a dataset at the Hugging Face hub",
}

_SHAPE_NAMES = {
    "chat": "chats, with `messages`",
    "preference": "preference pairs, with `preferred_output`",
    "chosen": "preference pairs, with `chosen` and `rejected`",
    "sharegpt": "ShareGPT conversations, with `conversations`",
    "alpaca": "Alpaca records, with `instruction` and `output`",
    "pairs": "pairs of `prompt` and `completion`",
    "chatgpt": "conversations exported from ChatGPT, with `mapping`",
}

_LOOKED_AT = 20


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """What a source is, and why that is believed."""

    source: str
    kind: Kind
    shape: str | None
    """Name of a known shape of records; None: rows of a table, to be mapped by columns."""
    why: tuple[str, ...]
    columns: tuple[str, ...]
    """Keys of the records."""
    layout: TextLayout | None = None
    """How a table of text is written."""
    sheet: str | int = 0
    split: str = "train"
    first: Sequence[Mapping[str, Any]] = field(default=(), repr=False, compare=False)
    """The first records, by which it was recognised."""

    def __str__(self) -> str:
        """One sentence for people."""
        return f"{Path(self.source).name} is {'; '.join(self.why)}."

    def rows(self) -> Iterator[Row]:
        """The records of the source, read anew."""
        return _rows(self.source, self.kind, layout=self.layout, sheet=self.sheet, split=self.split)


def recognise(
    source: str | Path, *, kind: Kind | None = None, sheet: str | int = 0, split: str = "train"
) -> Recognition:
    """Recognise a source.

    Args:
        source: A file, a folder, or `hf:owner/name`.
        kind: What it is, where its name would mislead.
        sheet: Name or number (from 0) of a workbook's sheet.
        split: Name of a Hugging Face dataset's split.

    Raises:
        DataError: It is nothing that can be read, or has no records.
        FileNotFoundError: There is no such file.
    """
    name = str(source)
    found, reason = (kind, f"{_KIND_NAMES[kind]}, as you say") if kind else _kind_of(name)
    why = [reason]
    layout = sniff_layout(Path(name)) if found == "text_table" else None
    if layout is not None:
        why.append(str(layout))
    rows = _rows(name, found, layout=layout, sheet=sheet, split=split)
    records = [row.record for row in islice(rows, _LOOKED_AT) if row.flaw is None]
    if not records:
        raise DataError(f"{name} has no records.")
    shape = None if found == "images" else shape_of(records[0])
    columns = tuple(dict.fromkeys(str(key) for record in records for key in record))
    no_images = without_images(columns, records, folder=Path(name).parent)
    why.append(_shape_words(shape, records, no_images) if shape else f"columns {_shortened(columns)}")
    why += [f"no images in `{key}` ({reason})" for key, reason in no_images.items()]
    return Recognition(
        source=name,
        kind=found,
        shape=shape,
        why=tuple(why),
        columns=columns,
        layout=layout,
        sheet=sheet,
        split=split,
        first=tuple(records),
    )


def _shape_words(shape: str, records: Sequence[Mapping[str, Any]], no_images: Collection[str]) -> str:
    key = next((key for key in map(image_key, records) if key and key not in no_images), None)
    return f"{_SHAPE_NAMES[shape]}, with images in `{key}`" if key else _SHAPE_NAMES[shape]


def _kind_of(source: str) -> tuple[Kind, str]:
    if source.startswith(PREFIX):
        return "hub", _KIND_NAMES["hub"]
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {source}.")
    if path.is_dir():
        return _folder_kind(path)
    suffix = Path(path.stem).suffix if path.suffix in {".gz", ".zst"} else path.suffix
    kind = _SUFFIXES.get(suffix.lower())
    if kind is not None and (kind != "json" or not _is_lines(path)):
        return kind, f"{_KIND_NAMES[kind]}, by its name"
    return _kind_by_content(path)


def _folder_kind(path: Path) -> tuple[Kind, str]:
    if is_saved_dataset(path):
        return "saved_dataset", f"{_KIND_NAMES['saved_dataset']}, by its dataset_info.json"
    if is_image_folder(path):
        return "images", _KIND_NAMES["images"]
    raise DataError(f"The folder {path} has neither folders of images nor a saved dataset.")


def _kind_by_content(path: Path) -> tuple[Kind, str]:
    with path.open("rb") as stream:
        start = stream.read(1024)
    if start.startswith(b"PAR1"):
        return "parquet", "Parquet, by its first bytes"
    if start.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                is_workbook = any(name.startswith("xl/") for name in archive.namelist())
        except zipfile.BadZipFile:
            raise DataError(f"{path} is a damaged archive.") from None
        return ("excel", "a workbook, by its content") if is_workbook else ("chatgpt_archive", "an archive")
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        kind: Kind = "jsonl" if _is_lines(path) else "json"
        return kind, f"{_KIND_NAMES[kind]}, by its content"
    return "text_table", "a table of text, as it seems"


def _is_lines(path: Path) -> bool:
    """Whether a file with JSON has an object on its first line and more lines after it."""
    rows = jsonl_rows(path)
    first = next(rows, None)
    return first is not None and first.flaw is None and next(rows, None) is not None


def _rows(source: str, kind: Kind, *, layout: TextLayout | None, sheet: str | int, split: str) -> Iterator[Row]:
    path = Path(source)
    if kind == "hub":
        return hub_rows(source.removeprefix(PREFIX), split=split)
    if kind == "saved_dataset":
        return saved_rows(path, split=split)
    if kind == "excel":
        return excel_rows(path, sheet=sheet)
    if kind == "text_table":
        return table_rows(path, layout or sniff_layout(path))
    readers = {
        "parquet": parquet_rows,
        "json": json_rows,
        "jsonl": jsonl_rows,
        "chatgpt_archive": archive_rows,
        "images": image_rows,
    }
    return readers[kind](path)


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(name[:30] for name in names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown  # noqa: PLR2004  about a line
