"""What people see of a report, and mending by it."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from ftclient.data import Dataset, check_examples
from ftclient.data.check_progress import progress_bar
from ftclient.errors import DataError
from tests.unit.data.test_codes import assistant, chat, user


def shown(report, width=100):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(report)
    return console.file.getvalue()


def test_a_report_groups_issues_and_says_the_remedy_once():
    text = shown(check_examples([chat({"role": "human", "content": "[bold]a[/bold]"}, assistant())] * 12))
    assert "not ready  12 examples, 12 errors, 0 warnings" in text
    assert "error role_unknown x12  lines 1, 2, 3, 4, 5, 6, ..." in text
    assert '/messages/0/role: "human" is no role.' in text
    assert text.count("Use system, developer") == 1


def test_one_of_a_kind_is_not_many():
    alone = check_examples([chat(user("hello"), assistant("hello"))])  # ten are needed
    assert str(alone) == "1 example, 1 error, 0 warnings"
    ten = check_examples([chat(user("hello"), assistant("hello"))] * 10)
    assert str(ten) == "10 examples, 0 errors, 0 warnings"


def test_user_text_is_not_read_as_markup():
    text = shown(check_examples([chat({"role": "[red]x[/red]", "content": "a"}, assistant())]))
    assert '"[red]x[/red]" is no role.' in text


def test_a_good_report_shows_tokens():
    text = shown(check_examples([chat(user("hello"), assistant("hello"))] * 10))
    assert "ok  10 examples, 0 errors, 0 warnings" in text
    assert "130 tokens (o200k_base), of which 10 are trained" in text


def test_what_can_be_mended_is_mended_into_a_new_file(tmp_path):
    path = tmp_path / "mails.jsonl"
    bad = [
        chat({"role": "human", "content": "a"}, assistant(weight=True)),
        chat(user(), assistant()),
        chat(user(weight=1), assistant()),
    ]
    lines = [json.dumps(example) for example in bad * 4]
    path.write_text("\ufeff" + "\n".join([*lines, "{broken"]), encoding="utf-8")
    before = path.read_bytes()
    report = Dataset.read(path).check()
    assert report.n_errors == 4 * 3 + 2
    fixed = report.fixes()
    assert fixed.to == tmp_path / "mails.fixed.jsonl"
    assert (fixed.n_read, fixed.n_written, fixed.n_rejected) == (13, 12, 1)
    assert Dataset.read(fixed.to).check().ok
    assert path.read_bytes() == before
    with pytest.raises(DataError, match="Only files can be fixed"):
        check_examples(bad).fixes()


def test_the_progress_bar_can_be_used_where_there_is_no_terminal(tmp_path, capsys):
    data = Dataset([chat(user(), assistant())] * 10).write(tmp_path / "a.jsonl")
    with progress_bar("checking") as progress:
        assert data.check(progress=progress).ok
    assert capsys.readouterr() == ("", "")
