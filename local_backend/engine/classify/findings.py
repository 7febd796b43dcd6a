"""What may go wrong with a classifier's file beyond its format: found before the job, with line and remedy."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ftclient.data.report import Issue
from local_backend.engine.classify.examples import read_examples
from local_backend.engine.classify.labels import find_labels, lonely_labels
from local_backend.engine.classify.readers import Reader, TextReader
from local_backend.engine.languages import shredded_note, unknown_note
from local_backend.task import JobError

MOST_LONELY = 20
"""Labels of one example that are named."""
LOOKED_AT = 500
"""Examples whose tokens are counted."""


def issues_of(path: Path, reader: Reader) -> Iterator[Issue]:
    """Yield what the job would refuse, and what is likely to disappoint."""
    try:
        examples = list(read_examples(path, param="training_file"))
        deque(reader.read_all(examples, param="training_file"), maxlen=0)  # raises at the first that can't be read
        find_labels(examples)
    except JobError as error:
        yield _as_issue(error)
        return
    for line, label in lonely_labels(examples)[:MOST_LONELY]:
        text = f"The label {label[:60]!r} has this example only: it can't be both learned and tested."
        yield Issue(line, "/messages", "label_rare", "warning", text, "Add examples of it, or merge it with another.")
    for note in notes_of(path, reader):
        yield Issue(None, "", "language_unfit", "warning", note, "Choose a model that was made for this language.")


def notes_of(path: Path, reader: Reader) -> list[str]:
    """What is to be said of the language of a file: whether the model's tokenizer knows it."""
    if not isinstance(reader, TextReader):
        return []
    texts = [example.text for example in islice(read_examples(path, param="training_file"), LOOKED_AT)]
    ids = reader.ids_of(texts)
    n_characters, n_tokens = sum(map(len, texts)), sum(map(len, ids))
    n_unknown = sum(one.count(reader.tokenizer.unk_token_id) for one in ids) if reader.has_unknown else 0
    found = [unknown_note(n_unknown, n_tokens), shredded_note(n_tokens, n_characters)]
    return [note for note in found if note]


def _as_issue(error: JobError) -> Issue:
    """The refusal of a job, as an issue of its line."""
    _, _, rest = error.message.partition("Line ")
    number, _, what = rest.partition(": ")
    if not number.isdigit():
        return Issue(None, "", "labels_unfit", "error", error.message, None)
    return Issue(int(number), "/messages", "example_unfit", "error", what, None)
