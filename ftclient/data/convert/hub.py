"""Rows of Hugging Face datasets: by name from the hub, or as saved on disk. Never runs code that a dataset brings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ftclient.data.convert.rows import Row, without_nulls
from ftclient.errors import DataError, MissingDependencyError

PREFIX = "hf:"
"""Marks a source as the name of a dataset at the hub, as in `hf:owner/name`."""

INSTALL_DATASETS = 'pip install "ftclient[datasets]"'


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk` of the datasets library."""
    return (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file()


def hub_rows(name: str, *, split: str = "train") -> Iterator[Row]:
    """The rows of a dataset at the hub, streamed. `name` is `owner/name`, or `owner/name:configuration`.

    Raises:
        DataError: There is no such dataset or split, or the hub cannot be reached.
        MissingDependencyError: The datasets library is not installed.
    """
    library = _library()
    path, _, configuration = name.partition(":")
    try:
        found = library.load_dataset(path, configuration or None, split=split, streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"The dataset {name} cannot be had: {str(error).splitlines()[0][:200]}") from None
    yield from dataset_rows(found)


def saved_rows(path: Path, *, split: str = "train") -> Iterator[Row]:
    """The rows of a dataset on disk.

    Raises:
        DataError: It has no such split.
        MissingDependencyError: The datasets library is not installed.
    """
    found = _library().load_from_disk(str(path))
    if isinstance(found, dict):
        if split not in found:
            raise DataError(f"{path} has no split {split!r}; it has {', '.join(found)}.")
        found = found[split]
    yield from dataset_rows(found)


def dataset_rows(dataset: Iterable[dict[str, Any]]) -> Iterator[Row]:
    """The rows of a `datasets.Dataset`, with the names of classes in place of their numbers."""
    features = getattr(dataset, "features", None) or {}
    names = {key: feature.int2str for key, feature in features.items() if hasattr(feature, "int2str")}
    for number, record in enumerate(dataset, 1):
        named = {key: names[key](value) for key, value in record.items() if key in names and isinstance(value, int)}
        yield Row(number, without_nulls({**record, **named}))


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingDependencyError(INSTALL_DATASETS) from None
    return datasets
