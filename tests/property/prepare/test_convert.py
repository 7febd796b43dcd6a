"""Converting goes round, and no source makes it fail otherwise than with words."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from ftclient.data import Dataset, check_examples
from ftclient.data.convert import SHAPES, Columns, SkipRecordError, convert_file, export_table, preview, shape_of
from ftclient.data.convert.columns import fill
from ftclient.data.convert.pairs import chat
from ftclient.errors import DataError
from tests.property.prepare.strategies import EXAMPLE_LIKE, JSON, ODD_TEXT, SOME_TEXT, chats

CLEAN_TEXT = SOME_TEXT.filter(lambda text: text == text.strip())
SIMPLE = st.tuples(CLEAN_TEXT, CLEAN_TEXT, CLEAN_TEXT | st.none()).map(lambda t: chat(t[0], t[1], system=t[2]))


@settings(max_examples=60)
@given(st.lists(SIMPLE | chats(), min_size=1, max_size=6), st.sampled_from([".csv", ".tsv", ".parquet"]))
def test_examples_survive_the_way_through_a_table(examples, suffix):
    with TemporaryDirectory() as folder:
        source, table, back = (Path(folder) / name for name in ("a.jsonl", f"a{suffix}", "b.jsonl"))
        Dataset(examples).write(source)
        export_table(source, to=table)
        done = convert_file(table, to=back)
        assert done.skipped == []
        assert list(Dataset.read(back)) == examples


@given(st.dictionaries(CLEAN_TEXT, ODD_TEXT, min_size=1, max_size=4), SOME_TEXT)
def test_rows_of_tables_become_valid_examples_or_are_skipped(row, name):
    columns = Columns(prompt="{" + next(iter(row)).strip("{}") + "}", answer=name)
    try:
        example = columns.make({**row, name: row[next(iter(row))]})
    except SkipRecordError:
        return
    assert [message["role"] for message in example["messages"]] == ["user", "assistant"]


@given(st.text(), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_templates_never_fail_and_never_look_into_objects(template, row):
    assert isinstance(fill(template, row, is_text=True), str)
    assert "class" not in fill("{0.__class__}{a.__class__}{a[__class__]}", row)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "messages",
                "conversations",
                "chosen",
                "rejected",
                "prompt",
                "completion",
                "instruction",
                "output",
                "history",
                "mapping",
                "title",
                "system",
                "tools",
                "input",
                "preferred_output",
                "non_preferred_output",
            ]
        ),
        EXAMPLE_LIKE | JSON,
    )
)
def test_records_of_any_content_become_examples_or_are_skipped(record):  # fmt: skip
    """What `convert_file` takes for another shape, so that one odd record does not end the work."""
    shape = shape_of(record)
    if shape is None:
        return
    try:
        example = SHAPES[shape](record)
    except (SkipRecordError, AttributeError, KeyError, TypeError, IndexError, ValueError):
        return
    check_examples([example], encoding=None)


SUFFIXES = st.sampled_from([".csv", ".tsv", ".json", ".jsonl", ".zip", ".xlsx", ".parquet", ".txt", ""])
STARTS = st.sampled_from([b"", b"PK\x03\x04", b"PAR1", b"{", b"[", b"\xef\xbb\xbf", b"\xff\xfe", b"a,b\n", b'"'])


@settings(max_examples=150)
@given(STARTS, st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()), SUFFIXES)
def test_any_bytes_are_read_or_refused_with_words(start, content, suffix):
    with TemporaryDirectory() as folder:
        source = Path(folder) / f"source{suffix}"
        source.write_bytes(start + content)
        with suppress(DataError):
            preview(source)
