"""The commands convert, clean, split and report: what they print, write, and return to the shell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ftclient.data import Dataset
from tests.e2e.serving import simulated_server

EXAMPLE = Path(__file__).parents[3] / "examples" / "10_messy_csv"


def ftclient(*arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    code = "from ftclient.cli.main import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def read(path: Path) -> list[dict]:
    return list(Dataset.read(path))


@pytest.fixture(scope="module")
def mails(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's table, converted."""
    folder = tmp_path_factory.mktemp("mails")
    template = r"{Subject}\n\n{Body}"
    done = ftclient(
        "convert", EXAMPLE / "mails.csv", "--prompt", template, "--answer", "Team", "--to", folder / "mails.jsonl"
    )
    assert "80 examples written" in done.stdout
    assert "line 39 left out: the answer is empty" in done.stderr
    return folder / "mails.jsonl"


def test_convert_without_a_target_shows_and_writes_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n[bold]q[/bold],a\n")
    done = ftclient("convert", tmp_path / "a.csv")
    assert "[bold]q[/bold]" in done.stdout
    assert "a table of text, by its name; utf-8-sig, separated by comma" in done.stderr
    assert "Nothing is written yet" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_convert_json(mails):
    done = ftclient("convert", mails, "--json")
    found = json.loads(done.stdout)
    assert (found["kind"], found["shape"], found["to"]) == ("jsonl", "chat", None)
    assert len(found["examples"]) == 3


def test_convert_to_a_table_and_back(mails):
    table = mails.with_name("table.csv")
    assert json.loads(ftclient("convert", mails, "--to", table, "--json").stdout)["n_rows"] == 80
    ftclient("convert", table, "--to", mails.with_name("back.jsonl"))
    assert read(mails.with_name("back.jsonl")) == read(mails)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["convert", "nowhere.csv"], 2, "There is no file nowhere.csv"),
        (["convert", EXAMPLE / "mails.csv", "--prompt", "Nobody"], 1, "no column 'Nobody'; the columns are Received"),
        (["clean", EXAMPLE / "mails.csv", "--step", "wash"], 2, "There is no step 'wash'"),
        (["clean", EXAMPLE / "mails.csv", "--step", "too_long"], 2, "needs an OpenAI model"),
        (["split", EXAMPLE / "mails.csv", "--shares", "80,10"], 2, "add up to 90"),
        (["split", EXAMPLE / "mails.csv"], 1, "mails.csv, line 1: this is no JSON object"),
        (["report", "nowhere.jsonl"], 2, "nowhere.jsonl"),
    ],
)
def test_mistakes_are_told_with_the_right_exit_code(arguments, code, words):
    done = ftclient(*arguments, expect=code)
    assert words in " ".join(done.stderr.replace("│", " ").split())


def test_clean_fix_split_and_leaks(mails):
    target = mails.with_name("clean.jsonl")
    steps = "html,width,white_space,labels,redact,duplicates,near_duplicates"
    found = json.loads(ftclient("clean", mails, "--to", target, "--fix", "--step", steps, "--json").stdout)
    assert found["check"] == {"ok": True, "n_errors": 0, "n_warnings": 0}
    assert (found["n_read"], found["n_written"], found["n_dropped"]) == (80, 75, 5)
    assert found["changes_by_step"]["redact"] == 7
    text = target.read_text()
    assert "[EMAIL_1]" in text
    assert "example.com" not in text

    parts = json.loads(ftclient("split", target, "--json", "--shares", "60,20,20").stdout)["parts"]
    assert [Path(part["path"]).name for part in parts] == ["clean.train.jsonl", "clean.valid.jsonl", "clean.test.jsonl"]
    assert [part["n_examples"] for part in parts] == [45, 15, 15]

    test, train = parts[2]["path"], parts[0]["path"]
    assert "no leaks" in ftclient("split", test, "--leaks", train).stdout
    with Path(test).open("a") as stream:
        stream.write(Path(train).read_text().splitlines()[0] + "\n")
    found = json.loads(ftclient("split", test, "--leaks", train, "--json", expect=1).stdout)
    assert found == {"n_leaks": 1, "leaks": [{"line_a": 16, "line_b": 1, "kind": "same_example", "similarity": 1.0}]}


def test_clean_fix_fails_when_errors_are_left(tmp_path):
    (tmp_path / "few.jsonl").write_text('{"messages": [{"role": "user", "content": "only asked"}]}\n')
    done = ftclient("clean", tmp_path / "few.jsonl", "--fix", expect=1)
    assert "few.clean.jsonl.rejected.jsonl" in done.stderr
    assert "file_empty" in done.stdout


def test_report_in_json_and_as_a_page(mails):
    page = mails.with_name("report.html")
    done = ftclient("report", mails, "--model", "gpt-4.1-mini", "--html", page, "--lang", "ja", "--json")
    found = json.loads(done.stdout)
    codes = [advice["code"] for advice in found["verdict"]]
    assert {"secrets", "personal_data", "garbled", "ambiguous", "label_variants", "duplicates"} <= set(codes)
    assert found["tokens"]["context_tokens"] == 65_536
    assert "まず直すべき点" in page.read_text()


def test_a_local_model_counts_and_shows_with_its_own_tokenizer(mails, tmp_path):
    """Against a real server with the simulated engine, whose tokens are words."""
    with simulated_server(tmp_path) as url:
        done = ftclient("report", mails, "--backend", url, "--model", "smollm2-135m", "--json")
    found = json.loads(done.stdout)
    assert found["tokens"]["encoding"] == "the tokenizer of smollm2-135m"
    assert found["tokens"]["total"] > 1000
    assert found["tokens"]["trained"] is None
    trained = [token["text"] for token in found["trained"][0]["tokens"] if token["weight"] > 0]
    assert trained[0] == "assistant"
    assert trained[1] in {"delivery", "billing", "returns", "account", "product"}


@pytest.mark.parametrize("command", ["convert", "clean", "split", "report"])
def test_help_has_an_example(command):
    assert f"ftclient {command} mails" in ftclient(command, "--help").stdout


def test_the_example_runs(tmp_path):
    """`examples/10_messy_csv` from the table to two pages."""
    command = [sys.executable, str(EXAMPLE / "prepare.py"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "80 examples, 1 rows left out" in done.stdout
    assert "0 mails of the test are known from training" in done.stdout
    assert (tmp_path / "out" / "report.ja.html").read_text().count("<svg") >= 4
    for name in ("train", "valid", "test"):
        report = Dataset.read(tmp_path / "out" / f"clean.{name}.jsonl").check(is_training=name == "train")
        assert report.ok, report.issues
