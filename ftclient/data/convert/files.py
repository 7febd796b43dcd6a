"""Converting a source of any known kind into a file of examples, with a look at the result before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ftclient.data.convert.beside import with_images
from ftclient.data.convert.columns import Columns, fill, find_columns, image_column, without_images
from ftclient.data.convert.images import image_example
from ftclient.data.convert.pairs import chat
from ftclient.data.convert.recognise import Recognition, recognise
from ftclient.data.convert.rows import Row
from ftclient.data.convert.shapes import SHAPES, Make, SkipRecordError
from ftclient.data.new_file import new_file
from ftclient.data.prompts import role_of
from ftclient.errors import DataError

Progress = Callable[[int], None]
"""Called now and then with the number of records read."""

_PROGRESS_EVERY, _PROGRESS_EVERY_IMAGES = 1_000, 50


class Skipped(NamedTuple):
    """A record that gave no example."""

    line: int
    """Its line in the source, or its number where the source has no lines; from 1."""
    reason: str


@dataclass
class Conversion:
    """What became of a source; or, before anything is written, what would become of its first records."""

    recognition: Recognition | None
    """What the source is; None for rows in memory."""
    columns: Columns | None
    """How columns were mapped; None for records of a known shape."""
    to: Path | None = None
    n_read: int = 0
    n_written: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)
    """The first examples, to look at."""

    def to_json(self) -> dict[str, Any]:
        """All of it as `ftclient convert --json` prints it."""
        mapping = None
        if self.columns is not None:
            mapping = {
                key: getattr(self.columns, key) for key in ("prompt", "image", "answer", "answer_json", "system")
            }
        source = self.recognition
        return {
            "kind": source and source.kind,
            "shape": source and source.shape,
            "why": list(source.why) if source else [],
            "columns": list(source.columns) if source else [],
            "mapping": mapping,
            "to": None if self.to is None else str(self.to),
            "n_read": self.n_read,
            "n_written": self.n_written,
            "skipped": [entry._asdict() for entry in self.skipped],
            "examples": self.examples,
        }


def convert_file(
    source: str | Path,
    *,
    to: str | Path,
    columns: Columns | None = None,
    recognition: Recognition | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a source into a JSONL file of examples.

    Args:
        source: A CSV, TSV, Excel, Parquet, JSON or JSONL file, ChatGPT's export, a folder of images by class, a
            Hugging Face dataset on disk, or `hf:owner/name`.
        to: The new file; `.gz` is compressed.
        columns: Which columns ask and answer. Left out, records of known shapes (Alpaca, ShareGPT, ...) are taken
            as such, with the images beside them, and columns are found by their names.
        recognition: What `recognise` said of the source, where that was corrected.
        overwrite: Replace `to` if it exists.
        progress: Called every thousand records, of images every fifty.

    Returns:
        Numbers, every record that gave no example with the reason, and the first three examples.

    Raises:
        DataError: The source cannot be read, `to` exists, or columns cannot be told apart.
    """
    found, make, result = _begin(source, columns, recognition)
    over = source if Path(source).is_file() else None
    with new_file(to, not_over=over, overwrite=overwrite) as target:
        for example in _examples(found.rows(), make, result, progress):
            target.write(json.dumps(example, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            result.n_written += 1
            if len(result.examples) < 3:  # noqa: PLR2004  enough to look at
                result.examples.append(example)
    result.to = Path(to)
    return result


def preview(
    source: str | Path, *, columns: Columns | None = None, recognition: Recognition | None = None, n_examples: int = 3
) -> Conversion:
    """Convert the first records only and write nothing; arguments and errors as for `convert_file`."""
    found, make, result = _begin(source, columns, recognition)
    result.examples = list(islice(_examples(found.rows(), make, result, None), n_examples))
    return result


def convert_rows(rows: Iterable[Mapping[str, Any]], *, columns: Columns) -> Iterator[dict[str, Any]]:
    """Convert rows in memory, such as those of a `datasets.Dataset` or a data frame's `iter_rows(named=True)`.

    Rows whose prompt or answer is empty are left out.
    """
    result = Conversion(None, columns)
    yield from _examples((Row(n, dict(row)) for n, row in enumerate(rows, 1)), columns.make, result, None)


def _begin(
    source: str | Path, columns: Columns | None, recognition: Recognition | None
) -> tuple[Recognition, Make, Conversion]:
    found = recognition or recognise(source)
    given = columns or Columns()
    if found.kind == "images":
        return found, _image_maker(given), Conversion(found, None)
    folder = given.folder or Path(found.source).parent
    no_images = without_images(found.columns, found.first, folder=folder)
    is_mapped = given.prompt or given.answer or given.answer_json or given.image
    if found.shape is not None and not is_mapped:
        seeing = with_images(SHAPES[found.shape], folder=folder, shrink_px=given.shrink_px, no_images=no_images)
        return found, _with_system(seeing, given.system), Conversion(found, None)
    complete = replace(find_columns(found.columns, given, no_images=no_images), folder=folder)
    return found, complete.make, Conversion(found, complete)


def _examples(
    rows: Iterable[Row], make: Make, result: Conversion, progress: Progress | None
) -> Iterator[dict[str, Any]]:
    every = _PROGRESS_EVERY_IMAGES if _has_images(result) else _PROGRESS_EVERY
    for row in rows:
        result.n_read += 1
        if progress is not None and result.n_read % every == 0:
            progress(result.n_read)
        if row.flaw is not None:
            result.skipped.append(Skipped(row.line, row.flaw))
            continue
        try:
            yield make(row.record)
        except SkipRecordError as error:
            result.skipped.append(Skipped(row.line, str(error)))
        except (AttributeError, KeyError, TypeError, IndexError) as error:
            what = f"its shape is not that of the others ({type(error).__name__}: {str(error)[:60]})"
            result.skipped.append(Skipped(row.line, what))


def _has_images(result: Conversion) -> bool:
    if result.columns is not None:
        return result.columns.image is not None
    found = result.recognition
    return found is not None and (found.kind == "images" or image_column(found.columns) is not None)


def _image_maker(given: Columns) -> Make:
    if given.answer or given.answer_json or given.image:
        raise DataError("The answer about an image is the name of its folder; only --prompt and --system can be given.")
    return lambda record: image_example(
        dict(record), question=given.prompt, system=given.system, shrink_px=given.shrink_px
    )


def _with_system(make: Make, system: str | None) -> Make:
    """Put instructions before examples that have none."""
    if system is None:
        return make

    def with_instructions(record: Mapping[str, Any]) -> dict[str, Any]:
        example = make(record)
        messages = example["messages"] if "messages" in example else example["input"]["messages"]
        text = fill(system, record, is_text=True).strip()
        if text and (not messages or role_of(messages[0]) not in {"system", "developer"}):
            messages[:0] = chat("", "", system=text)["messages"][:1]
        return example

    return with_instructions
