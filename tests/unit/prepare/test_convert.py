"""Converting: every kind of source is recognised, and every record becomes an example or is named with a reason."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import openpyxl
import polars as pl
import pytest

from ftclient.data import Dataset
from ftclient.data.convert import Columns, convert_file, convert_rows, export_table, preview, recognise
from ftclient.errors import DataError, MissingDependencyError

ROWS = [("Where is my parcel?", "delivery"), ("二重に請求されました。", "billing")]
EXAMPLES = [
    {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}
    for asked, answer in ROWS
]


def convert(source: Path, **options):
    """Convert, and give back the result and the examples as they were written."""
    done = convert_file(source, to=source.parent / "out.jsonl", overwrite=True, **options)
    return done, list(Dataset.read(done.to))


def write_csv(path: Path, *, delimiter: str = ",", encoding: str = "utf-8", header: str = "text,category") -> Path:
    rows = [header.split(","), *ROWS]
    path.write_bytes("".join(delimiter.join(row) + "\r\n" for row in rows).encode(encoding))
    return path


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp932"])
def test_tables_of_text(tmp_path, delimiter, encoding):
    done, examples = convert(write_csv(tmp_path / "mails.csv", delimiter=delimiter, encoding=encoding))
    assert examples == EXAMPLES
    assert "columns text, category" in str(done.recognition)


def test_a_table_says_how_it_was_read(tmp_path):
    found = recognise(write_csv(tmp_path / "mails.tsv", delimiter="\t", encoding="cp932"))
    assert str(found) == "mails.tsv is a table of text, by its name; cp932, separated by tab; columns text, category."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Das Mädchen fragt spät nach Käse", "cp1252"),
        ("Die Bären wählen", "cp1252"),
        ("It’s what they’re for; isn’t it", "cp1252"),
        ("les idées répétées", "cp1252"),
        ("el niño pequeño", "cp1252"),
        ("20 °C", "cp1252"),
        ("猫", "cp932"),
        ("質問", "cp932"),
        ("Web版とPC版", "cp932"),
        ("\uff94\uff8f\uff80 \uff80\uff9b\uff73", "cp932"),
        ("はい、そうです。", "cp932"),
    ],
)
def test_a_table_that_two_encodings_can_read_is_in_the_one_that_makes_language_of_it(tmp_path, text, encoding):
    """The first ten decode as both, Western letters as kanji within words and Japanese as letters between signs."""
    (tmp_path / "a.csv").write_bytes(f"text,label\n{text},a\n".encode(encoding))
    done, (example,) = convert(tmp_path / "a.csv")
    assert (example["messages"][0]["content"], done.recognition.layout.encoding) == (text, encoding)


def test_workbooks(tmp_path):
    book = openpyxl.Workbook()
    book.active.title = "notes"
    book.active.append(["nothing here"])
    sheet = book.create_sheet("mails")
    for row in [("question", "label", "count"), *[(*row, 3) for row in ROWS], ("", "", None)]:
        sheet.append(row)
    book.save(tmp_path / "mails.xlsx")
    recognition = recognise(tmp_path / "mails.xlsx", sheet="mails")
    done, examples = convert(tmp_path / "mails.xlsx", recognition=recognition)
    assert examples == EXAMPLES
    assert done.skipped == []


def test_parquet_with_nested_messages(tmp_path):
    with_tool = [{"role": "user", "content": "q", "name": None}, {"role": "assistant", "content": "a", "name": "n"}]
    pl.DataFrame({"messages": [with_tool], "id": [4]}).write_parquet(tmp_path / "chats.parquet")
    done, examples = convert(tmp_path / "chats.parquet")
    assert done.recognition.shape == "chat"
    assert examples == [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "name": "n"}]}
    ]


@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data"])
def test_json_and_json_lines_are_told_apart_by_content(tmp_path, name):
    records = [{"instruction": "Add.", "input": "1 and 2", "output": "3"}, {"instruction": "Say hi.", "output": "Hi"}]
    as_lines = name != "data.json"
    text = "\n".join(map(json.dumps, records)) if as_lines else json.dumps(records, indent=2)
    (tmp_path / name).write_text(text)
    done, examples = convert(tmp_path / name)
    assert (done.recognition.kind, done.recognition.shape) == ("jsonl" if as_lines else "json", "alpaca")
    assert [example["messages"][0]["content"] for example in examples] == ["Add.\n\n1 and 2", "Say hi."]


def test_json_lines_in_a_file_called_json(tmp_path):
    (tmp_path / "data.json").write_text('{"prompt": "a", "completion": " b"}\n{"prompt": "c", "completion": " d"}\n')
    done, examples = convert(tmp_path / "data.json")
    assert (done.recognition.kind, len(examples)) == ("jsonl", 2)


def test_an_object_with_one_list_is_read(tmp_path):
    (tmp_path / "data.json").write_text(json.dumps({"version": 1, "data": [{"prompt": "a", "completion": "b"}]}))
    assert len(convert(tmp_path / "data.json")[1]) == 1


def test_sharegpt_with_calls(tmp_path):
    turns = [
        {"from": "human", "value": "Weather in Oslo?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Oslo"}}'},
        {"from": "observation", "value": "4 degrees"},
        {"from": "gpt", "value": "It is 4 degrees."},
        {"from": "human", "value": "Thanks"},
    ]
    tools = json.dumps(
        [{"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]
    )
    record = {"conversations": turns, "system": "Be short.", "tools": tools}
    (tmp_path / "data.json").write_text(json.dumps([record] * 10))
    done, examples = convert(tmp_path / "data.json")
    assert done.recognition.shape == "sharegpt"
    assert [message["role"] for message in examples[0]["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert Dataset(examples).check().ok


def test_preferences_as_texts_and_as_messages(tmp_path):
    user = {"role": "user", "content": "q"}
    good, bad = ({"role": "assistant", "content": text} for text in ("good", "bad"))
    records = [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"prompt": "", "chosen": [user, good], "rejected": [user, bad]},
        {"prompt": "q", "chosen": "same", "rejected": "same"},
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, records)))
    done, examples = convert(tmp_path / "data.jsonl")
    expected = {"input": {"messages": [user]}, "preferred_output": [good], "non_preferred_output": [bad]}
    assert examples == [expected, expected]
    assert done.skipped == [(3, "both answers say the same")]


def test_the_archive_of_chatgpt_gives_the_branch_that_was_last_shown(tmp_path):
    def node(name: str, parent: str | None, role: str, *texts: str, **metadata: object) -> dict:
        message = {
            "author": {"role": role},
            "content": {"content_type": "text", "parts": list(texts)},
            "metadata": metadata,
        }
        return {"id": name, "parent": parent, "message": message}

    nodes = [
        {"id": "root", "parent": None, "message": None},
        node("s", "root", "system", "hidden", is_visually_hidden_from_conversation=True),
        node("u", "s", "user", "What is a kyusu?"),
        node("old", "u", "assistant", "I do not know."),
        node("tool", "u", "tool", "search results"),
        node("new1", "tool", "assistant", "A tea pot"),
        node("new2", "new1", "assistant", "from Japan."),
        node("end", "new2", "user", "Thanks"),
    ]
    talk = {"title": "Tea", "mapping": {entry["id"]: entry for entry in nodes}, "current_node": "end"}
    empty = {"title": "Nothing", "mapping": {"root": nodes[0]}, "current_node": "root"}
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("chat.html", "<html>")
        archive.writestr("conversations.json", json.dumps([talk, empty]))
    done, examples = convert(tmp_path / "export.zip")
    assert examples == [
        {
            "messages": [
                {"role": "user", "content": "What is a kyusu?"},
                {"role": "assistant", "content": "A tea pot\n\nfrom Japan."},
            ]
        }
    ]
    assert done.skipped == [(2, "there is no answer of the assistant")]


def test_datasets_on_disk_or_how_to_install_the_library(tmp_path):
    """Both outcomes are real: with the extra a saved dataset is read, without it the text is the remedy."""
    if find_spec("datasets") is None:
        (tmp_path / "dataset_info.json").write_text("{}")
        with pytest.raises(MissingDependencyError, match=r'pip install "ftclient\[datasets\]"'):
            recognise(tmp_path)
        return
    import datasets

    names = datasets.ClassLabel(names=["delivery", "billing"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    columns = {"text": [asked for asked, _ in ROWS], "label": [0, 1]}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "saved")
    assert convert(tmp_path / "saved")[1] == EXAMPLES


def test_without_the_extra_workbooks_say_what_to_install(tmp_path):
    """Run in a process that cannot import the libraries, as in a base installation."""
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    code = (
        "import sys; sys.modules.update(polars=None, fastexcel=None)\n"
        "from ftclient.data.convert import recognise\n"
        "from ftclient.errors import MissingDependencyError\n"
        f"try: recognise({str(tmp_path / 'a.parquet')!r})\n"
        "except MissingDependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith('pip install "ftclient[data]"')


def test_columns_and_templates(tmp_path):
    (tmp_path / "a.csv").write_text('Subject,Body,Team,Urgent\nLate,"No ""tea"" yet",delivery,yes\n,,x,\n')
    columns = Columns(
        prompt="{Subject}: {Body} {{as is}}", answer_json=["Team", "Urgent"], system="Answer as JSON, {Team} or so."
    )
    done, examples = convert(tmp_path / "a.csv", columns=columns)
    assert examples[0]["messages"] == [
        {"role": "system", "content": "Answer as JSON, delivery or so."},
        {"role": "user", "content": 'Late: No "tea" yet {as is}'},
        {"role": "assistant", "content": '{"Team": "delivery", "Urgent": "yes"}'},
    ]
    assert done.n_read == 2


def test_columns_that_do_not_exist_are_named_with_those_that_do(tmp_path):
    source = write_csv(tmp_path / "a.csv")
    for wrong in (Columns(prompt="txt"), Columns(prompt="{txt}"), Columns(answer_json=["txt"])):
        with pytest.raises(DataError, match="no column 'txt'; the columns are text, category"):
            preview(source, columns=wrong)


def test_columns_without_telling_names_are_asked_for(tmp_path):
    with pytest.raises(DataError, match=r"Which column asks \(--prompt\)\? The columns are a, b"):
        preview(write_csv(tmp_path / "a.csv", header="a,b"))


@pytest.mark.parametrize(
    ("names", "prompt", "answer"),
    [
        ("質問,回答", "質問", "回答"),
        ("Question,Answer", "Question", "Answer"),
        ("body,team", "body", None),
        ("text,label", "text", "label"),
    ],
)
def test_columns_are_found_by_their_names(tmp_path, names, prompt, answer):
    source = write_csv(tmp_path / "a.csv", header=names)
    if answer is None:
        with pytest.raises(DataError, match="answers"):
            preview(source)
    else:
        found = preview(source).columns
        assert (found.prompt, found.answer) == (prompt, answer)


def test_rows_that_give_no_example_are_named_by_line(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\nok,a\n"two\nlines",b\n,c\nd,\ntoo,many,cells\n,\nlast,e\n')
    done, examples = convert(tmp_path / "a.csv")
    assert [example["messages"][0]["content"] for example in examples] == ["ok", "two\nlines", "last"]
    assert done.skipped == [
        (5, "the prompt is empty"),
        (6, "the answer is empty"),
        (7, "the row has 3 cells, the header 2"),
    ]


def test_records_of_another_shape_are_skipped_with_a_reason(tmp_path):
    lines = ['{"messages": [{"role": "user", "content": "a"}]}', '{"other": 1}', "no json", '{"messages": 4}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    done, examples = convert(tmp_path / "a.jsonl")
    assert len(examples) == 1
    assert [skipped.line for skipped in done.skipped] == [2, 3, 4]


def test_a_preview_writes_nothing(tmp_path):
    source = write_csv(tmp_path / "a.csv")
    assert preview(source, n_examples=1).examples == EXAMPLES[:1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_rows_in_memory():
    rows = [{"q": "a", "a": "b"}, {"q": "", "a": "c"}]
    assert len(list(convert_rows(rows, columns=Columns(prompt="q", answer="a")))) == 1


def test_the_source_is_never_replaced(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(DataError, match="is the source itself"):
        convert_file(tmp_path / "a.jsonl", to=tmp_path / "a.jsonl", overwrite=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "has no records"),
        ("a.json", b"{", "is not JSON"),
        ("a.json", b"4", "neither a list of objects nor an object"),
        ("a.parquet", b"PAR1 broken", "cannot be read as Parquet"),
        ("a.xlsx", b"PK broken", "cannot be read as a workbook"),
        ("a.zip", b"PK broken", "damaged archive"),
    ],
)
def test_broken_sources_are_refused_with_words(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        preview(tmp_path / name)


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path):
    """One entry of 100 bytes whose directory entry claims 4 GiB."""
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w") as archive:
        archive.writestr("conversations.json", "[]" + " " * 98)
    content = bytearray((tmp_path / "bomb.zip").read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 0xFFFF_FFFE)
    (tmp_path / "bomb.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"would unpack to 4 GiB"):
        recognise(tmp_path / "bomb.zip")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_simple_examples_become_columns_and_come_back(tmp_path, suffix):
    Dataset(EXAMPLES).write(tmp_path / "a.jsonl")
    assert export_table(tmp_path / "a.jsonl", to=tmp_path / f"a{suffix}") == 2
    assert convert(tmp_path / f"a{suffix}")[1] == EXAMPLES
    names = {".csv": b"prompt,answer\n", ".tsv": b"prompt\tanswer\n", ".parquet": b"PAR1"}
    assert (tmp_path / f"a{suffix}").read_bytes().startswith(names[suffix])


def test_spaces_around_a_text_survive_a_table(tmp_path):
    """Prompts and answers from tables are trimmed, so such examples are written in another way."""
    odd = [{"messages": [{"role": "user", "content": " q "}, {"role": "assistant", "content": "a\n"}]}]
    Dataset(odd).write(tmp_path / "a.jsonl")
    export_table(tmp_path / "a.jsonl", to=tmp_path / "a.csv")
    assert convert(tmp_path / "a.csv")[1] == odd


def test_a_table_needs_a_suffix_that_says_which(tmp_path):
    Dataset(EXAMPLES).write(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match=r"ends in \.csv, \.tsv or \.parquet"):
        export_table(tmp_path / "a.jsonl", to=tmp_path / "a.ods")
    assert not (tmp_path / "a.ods").exists()
