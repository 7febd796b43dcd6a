"""Cleaning whole files: a new file, a list of all changes, and what was set aside."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from ftclient.data import Dataset, Limits
from ftclient.data.clean import SAFE_STEPS, STEPS, clean_file
from ftclient.data.tokens import count_example
from ftclient.errors import DataError

STEPS_WITHOUT_LENGTH = [step for step in STEPS if step != "too_long"]


def line(user: str, answer: str = "Yes.", **more: object) -> bytes:
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages, **more}, ensure_ascii=False).encode()


GOOD = [line(f"Is number {at} prime, and how can one tell?") for at in range(12)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "in.jsonl"


def clean(source: Path, **options):
    return clean_file(source, to=source.with_name("out.jsonl"), overwrite=True, **options)


def test_a_clean_file_is_copied_byte_by_byte(source):
    odd = b'{ "messages" : [{"content":"caf\\u00e9","role":"user"},{"role":"assistant","content":"b"}]}'
    content = b"\n".join([*GOOD, odd]) + b"\n"
    source.write_bytes(content)
    done = clean(source, steps=STEPS_WITHOUT_LENGTH, fix=True)
    assert done.to.read_bytes() == content
    assert (done.n_read, done.n_written, done.n_changed, done.n_dropped) == (13, 13, 0, 0)
    assert done.changes_path.read_bytes() == b""
    assert done.rejected_path is None


def test_the_result_of_fix_passes_the_check(source):
    bad = [
        b"\xef\xbb\xbf" + GOOD[0],
        b"",
        line("q") + b"\r",
        b"{'messages': [{'role': 'user', 'content': 'x'}, {'role': 'assistant', 'content': 'y'}]}",
        line("broken \udc80".encode("utf-8", "replace").decode()).replace(b"broken", b"broken \xff"),
        b'{"messages":[{"role":"user","content":"\\udc80 half"},{"role":"assistant","content":"b"}]}',
        b"not json",
        b'{"messages": NaN}',
        line("q", weight=1),
        b"[]",
        b"[" * 100_000,
        json.dumps({"prompt": "a", "completion": "b"}).encode(),
    ]
    source.write_bytes(b"\n".join([*bad, *GOOD[1:]]))
    done = clean(source, fix=True)
    report = Dataset.read(done.to).check()
    assert report.ok, report.issues
    assert report.n_examples == done.n_written == len(bad) + len(GOOD) - 1 - 5
    assert done.n_rejected == 4
    codes = {change.step for change in done.changes()}
    assert {
        "bom",
        "blank_line",
        "json_syntax",
        "encoding",
        "unicode",
        "unknown_key",
        "legacy_format",
        "rejected",
    } <= codes


def test_lines_that_cannot_be_mended_are_kept_aside_with_their_errors(source):
    source.write_bytes(GOOD[0] + b'\nnot json\n{"messages":[{"role":"user","content":"only asked"}]}\n')
    done = clean(source, fix=True)
    assert done.rejected_path
    aside = [json.loads(entry) for entry in done.rejected_path.read_text().splitlines()]
    assert [(entry["line"], [error["code"] for error in entry["errors"]]) for entry in aside] == [
        (2, ["json_syntax"]),
        (3, ["assistant_missing"]),
    ]
    assert aside[1]["text"] == '{"messages":[{"role":"user","content":"only asked"}]}'


def test_broken_characters_where_no_step_reaches_them_are_set_aside(source):
    """A name of a parameter is no text that may be rewritten, and a lone surrogate cannot be uploaded."""
    properties = '{"\\ud800": {"type": "string"}}'
    tool = f'{{"type":"function","function":{{"name":"f","parameters":{{"type":"object","properties":{properties}}}}}}}'
    source.write_bytes(GOOD[0][:-1] + f',"tools":[{tool}]}}'.encode())
    done = clean(source, fix=True)
    assert (done.n_written, done.n_rejected) == (0, 1)
    assert [change.before for change in done.changes() if change.step == "rejected"] == ["encoding"]


def test_without_fix_lines_that_are_no_json_stay_as_they_are(source):
    source.write_bytes(b"not json\n" + line("Ａ"))
    done = clean(source, steps=["width"])
    assert done.to.read_bytes().splitlines() == [b"not json", line("A")]


def test_the_source_is_never_written_to(source):
    source.write_bytes(line("Ａ"))
    with pytest.raises(DataError, match="is the source itself"):
        clean_file(source, to=source, overwrite=True)
    link = source.with_name("link.jsonl")
    link.symlink_to(source)
    with pytest.raises(DataError, match="is the source itself"):
        clean_file(source, to=link, overwrite=True)
    assert source.read_bytes() == line("Ａ")


def test_a_file_that_exists_is_not_replaced_unasked(source):
    source.write_bytes(line("a"))
    target = source.with_name("kept.jsonl")
    target.write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        clean_file(source, to=target)
    assert target.read_text() == "mine"
    assert sorted(path.name for path in source.parent.iterdir()) == ["in.jsonl", "kept.jsonl"]


def test_utf_16_files_are_read(source):
    source.write_bytes("".join(f"{entry.decode()}\r\n" for entry in GOOD).encode("utf-16"))
    done = clean(source)
    assert done.to.read_bytes().splitlines() == GOOD
    assert next(iter(done.changes())).step == "bom"


def test_compressed_files_are_read_and_written(tmp_path: Path):
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(line("Ａ")))
    done = clean_file(tmp_path / "in.jsonl.gz", to=tmp_path / "out.jsonl.gz", steps=["width"])
    assert gzip.decompress(done.to.read_bytes()) == line("A") + b"\n"


def test_only_the_first_of_equal_examples_is_kept(source):
    same = json.dumps(dict(reversed(json.loads(line("q", tools=[])).items()))).encode()
    source.write_bytes(b"\n".join([line("q", tools=[]), line("other"), same]))
    done = clean(source, steps=["duplicates"])
    assert done.n_written == 2
    (change,) = done.changes()
    assert (change.line, change.before, change.after) == (3, "the same as line 1", None)


def test_near_duplicates_go_and_other_answers_stay(source):
    text = "I ordered two tins of sencha on Monday and the tracking page still says that nothing was sent to me so far"
    source.write_bytes(
        b"\n".join(
            [
                line(text, "Please wait for two more days."),
                line(text.upper() + "!!", "Please wait for two more days"),
                line(text.replace("sencha", "matcha"), "Please wait for two more days."),
                line(text, "We have sent it again, free of charge."),
                line("An entirely different question", "Please wait for two more days."),
            ]
        )
    )
    done = clean(source, steps=["near_duplicates"])
    assert [(change.line, change.before) for change in done.changes()] == [
        (2, "100% like line 1"),
        (3, "87% like line 1"),
    ]


def test_labels_get_the_spelling_that_is_most_frequent(source):
    answers = ["billing"] * 6 + ["Billing", "ｂｉｌｌｉｎｇ", "returns", "returns", "returns "]
    source.write_bytes(b"\n".join(line(f"mail {at}", answer) for at, answer in enumerate(answers)))
    done = clean(source, steps=["labels"])
    found = [example["messages"][-1]["content"] for example in Dataset.read(done.to)]
    assert found == ["billing"] * 8 + ["returns", "returns", "returns "]
    assert [(change.line, change.path) for change in done.changes()] == [
        (7, "/messages/1/content"),
        (8, "/messages/1/content"),
    ]


def test_free_answers_keep_their_spelling(source):
    source.write_bytes(b"\n".join(line(f"mail {at}", f"Answer number {at} is free") for at in range(20)))
    assert clean(source, steps=["labels"]).n_changed == 0


def test_an_example_that_is_too_long_is_cut_after_an_answer(source):
    turns = [{"role": ("user", "assistant")[at % 2], "content": "word " * 20} for at in range(8)]
    source.write_bytes(json.dumps({"messages": turns}).encode())
    limits = Limits(context_tokens=120)
    count = lambda example: count_example(example).total  # noqa: E731
    done = clean(source, steps=["too_long"], limits=limits, count_tokens=count)
    (kept,) = Dataset.read(done.to)
    assert len(kept["messages"]) == 4
    assert count(kept) <= 120 < count({"messages": turns[:6]})
    dropped = clean(source, steps=["too_long"], limits=limits, count_tokens=count, too_long="drop")
    assert (dropped.n_written, dropped.n_dropped) == (0, 1)


def test_personal_data_is_replaced_and_not_repeated_in_the_list(source):
    source.write_bytes(
        line("I am bob@example.com, call 090-1234-5678", "Written to bob@example.com, and to ann@example.com")
    )
    done = clean(source, steps=["redact"])
    (example,) = Dataset.read(done.to)
    assert [message["content"] for message in example["messages"]] == [
        "I am [EMAIL_1], call [PHONE_1]",
        "Written to [EMAIL_1], and to [EMAIL_2]",
    ]
    listed = done.changes_path.read_text()
    assert "bob" not in listed
    assert "1234" not in listed


def test_a_secret_is_replaced_wherever_the_example_repeats_it(source):
    source.write_bytes(line("My password: kettle4Sencha", "I have set kettle4Sencha aside; choose another password."))
    (example,) = Dataset.read(clean(source, steps=["redact"]).to)
    assert [message["content"] for message in example["messages"]] == [
        "My password: [SECRET_1]",
        "I have set [SECRET_1] aside; choose another password.",
    ]


def test_keys_and_tokens_are_found_by_the_numbers_of_each_step(source):
    source.write_bytes(line("Ａ") + b"\n" + line("Ｂ\r\n"))
    done = clean(source, steps=[*SAFE_STEPS, "width"])
    assert done.to_json()["changes_by_step"] == {"width": 2, "line_ends": 1}
    assert str(done) == "2 examples read, 2 written (2 changed), 0 dropped"
