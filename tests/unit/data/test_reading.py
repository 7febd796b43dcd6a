"""Reading whatever a file holds: compressed, damaged, huge, deep."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import zstandard

from ftclient.data import Dataset, check_file, detect_format
from ftclient.data.reader import clean_text, parse_line
from ftclient.errors import DataError

LINE = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}).encode()
CONTENT = b"\n".join([LINE] * 12) + b"\n"
PACK = {".jsonl": bytes, ".jsonl.gz": gzip.compress, ".jsonl.zst": zstandard.ZstdCompressor().compress}


def content_of(data):
    with data.open() as stream:
        return stream.read()


@pytest.fixture(params=PACK)
def packed(request, tmp_path):
    path = tmp_path / f"data{request.param}"
    path.write_bytes(PACK[request.param](CONTENT))
    return path


def test_compressed_files_are_read_as_their_content(packed):
    data = Dataset.read(packed)
    report = data.check()
    assert report.ok
    assert len(data) == report.n_examples == len(list(data)) == 12
    assert content_of(data) == CONTENT
    assert (data.size_bytes, data.name) == (len(CONTENT), "data.jsonl")
    assert data.sha256 == report.stats["sha256"] == Dataset(iter(data)).sha256


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
def test_a_damaged_compressed_file_gives_a_report(tmp_path, ending):
    path = tmp_path / f"data{ending}"
    path.write_bytes(PACK[ending](CONTENT * 1000)[:-9])
    report = check_file(path)
    assert [(issue.line, issue.code) for issue in report.issues if issue.line is None] == [(None, "encoding")]
    path.write_bytes(b"no archive at all")
    assert not check_file(path).ok


def test_a_file_that_changes_after_the_check_is_refused(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(CONTENT)
    data = Dataset.read(path)
    data.check()
    data.open().close()
    path.write_bytes(CONTENT + LINE)
    with pytest.raises(DataError, match="changed since it was checked"):
        data.open()
    assert data.check().n_examples == 13
    assert content_of(data) == CONTENT + LINE


def test_examples_in_memory_behave_like_a_file(tmp_path):
    examples = [json.loads(LINE), {"messages": [{"role": "user", "content": "日本\ud800"}]}]
    data = Dataset(examples)
    assert len(data) == 2
    assert next(iter(data)) == examples[0]
    written = data.write(tmp_path / "out.jsonl")
    assert written.sha256 == data.sha256
    assert written.path.read_bytes() == content_of(data)
    packed = data.write(tmp_path / "out.jsonl.gz")
    assert (packed.sha256, packed.size_bytes) == (data.sha256, data.size_bytes)
    assert gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()) == content_of(data)
    with pytest.raises(DataError, match=r"name a \.jsonl or \.jsonl\.gz file"):
        data.write(tmp_path / "out.jsonl.zst")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.jsonl.gz"]


def test_bad_lines_are_named_when_examples_are_read():
    for bad, words in ((b"{", "line 2: Not valid JSON"), (b"[]", "line 2: this is no JSON object")):
        with pytest.raises(DataError, match=words):
            list(_in_memory(LINE + b"\n" + bad))


def _in_memory(content: bytes) -> Dataset:
    data = Dataset(())
    data._content = content
    return data


def test_objects_that_are_no_json_are_refused_with_their_number():
    with pytest.raises(DataError, match="Example 2 cannot be written as JSON"):
        Dataset([{}, {"a": {1, 2}}])


def test_split_gives_parts_that_live_as_long_as_they_are_used(tmp_path):
    path = tmp_path / "data.jsonl"
    texts = [
        "red fox",
        "blue car",
        "old house",
        "wet rain",
        "tall tree",
        "cold ice",
        "loud horn",
        "soft bed",
        "new pen",
        "hot tea",
    ]
    Dataset(
        [{"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": t[::-1]}]} for t in texts]
    ).write(path)
    parts = Dataset.read(path).split(0.8, 0.1, 0.1)
    kept = [example["messages"][0]["content"] for part in parts for example in part]
    assert sorted(kept) == sorted(texts)
    folder = parts[0].path.parent
    assert folder.is_dir()
    del parts
    assert not folder.exists()


@pytest.mark.parametrize(
    ("line", "found"),
    [({"messages": []}, "chat"), ({"input": {}}, "preference"), ({"prompt": "a"}, "completion"), ({"a": 1}, "unknown")],
)
def test_formats_are_recognised(tmp_path, line, found):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(line))
    assert detect_format(path) == found


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
        b'{"messages": [{"role": "user", "content": ' + b"[" * 800 + b"]" * 800 + b"}]}",
        b'{"messages": [{"role": "assistant", "content": "' + b"x" * 1_000_000 + b'"}]}',
        b'{"messages": [{"role": "assistant", "content": "' + b" " * 2_000_000 + b'x"}]}',
        b"\xff" * 1_000_000,
        b"\0" * 1000 + b"\n" + CONTENT,
        b'{"' + b"k" * 1_000_000 + b'": 1}',
        CONTENT.replace(b"\n", b"\r"),
        CONTENT.replace(b"\n", b"\r\n"),
        b"{" + b",".join(b'"k": %d' % i for i in range(30_000)) + b"}",
        b'{"messages": [{"role": "assistant", "content": "\\ud83d"}], "\\udead": 1}',
    ],
    ids=[
        "deep list",
        "deep object",
        "deep content",
        "long word",
        "long spaces",
        "not UTF-8",
        "NUL",
        "long key",
        "CR",
        "CRLF",
        "one key often",
        "surrogates",
    ],
)
def test_strange_content_gives_a_report(content):
    report = check_file(io.BytesIO(content))
    assert json.loads(json.dumps(report.to_json()))["n_errors"] == report.n_errors


@pytest.mark.slow
def test_a_line_of_50_megabytes_is_checked():
    text = b"parcel 42 is late, " * 2_700_000
    line = LINE.replace(b'"a"', b'"%s"' % text)
    report = check_file(io.BytesIO(line + b"\n" + CONTENT))
    assert (report.ok, report.n_examples) == (True, 13)
    assert report.stats["tokens"]["per_example"]["max"] > 10_000_000


def test_several_processes_find_what_one_finds(tmp_path):
    """Same issues in the same order, same numbers; also for a stream, where the size is not known."""
    bad = [b"{", LINE.replace(b"user", b"usr"), b"", LINE.replace(b'"a"', b'"a", "mood": 1')]
    content = b"".join(
        (bad[i % 4] if i % 97 == 0 else LINE.replace(b'"a"', b'"%d"' % i)) + b"\n" for i in range(12_000)
    )
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    alone = check_file(path, max_workers=0)
    shared = check_file(path, max_workers=2)
    streamed = check_file(io.BytesIO(content), max_workers=2)
    assert alone.n_errors > 90
    assert alone.to_json() == shared.to_json() == streamed.to_json()


def test_a_worker_that_dies_is_replaced(tmp_path, monkeypatch):
    from ftclient.data import check_processes

    monkeypatch.setattr(check_processes, "_START", "import sys; sys.exit(3)")
    path = tmp_path / "data.jsonl"
    path.write_bytes(CONTENT * 3000)
    assert check_file(path, max_workers=2).n_examples == 36_000


def test_a_machine_that_starts_no_process_checks_all_the_same(tmp_path, monkeypatch):
    path = tmp_path / "data.jsonl"
    path.write_bytes(CONTENT * 2000)
    for executable in (str(tmp_path / "no-python"), ""):
        monkeypatch.setattr(sys, "executable", executable)
        assert check_file(path, max_workers=2).n_examples == 24_000


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the workers in /proc, which only Linux has")
def test_workers_end_with_the_process_that_started_them(tmp_path):
    """Killed hard in the middle of a check, nobody is left behind."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(CONTENT * 60_000)
    code = f"from ftclient.data import check_file\ncheck_file({str(path)!r}, max_workers=2)"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        workers = []
        while process.poll() is None and len(workers) < 2:
            workers = [int(pid) for pid in children.read_text().split()]
            time.sleep(0.01)
        process.kill()
    assert len(workers) == 2
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in workers)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_many_issues_do_not_stay_in_memory():
    report = check_file(io.BytesIO(b"{\n" * 30_000))
    assert (len(report.issues), report.n_errors) == (30_000, 30_000)
    assert [report.issues[i].line for i in (0, 19_999, 20_000, -1)] == [1, 20_000, 20_001, 30_000]
    assert [issue.line for issue in report.issues[29_998:]] == [29_999, 30_000]
    assert [issue.line for issue in report.issues] == list(range(1, 30_001))
    copied = pickle.loads(pickle.dumps(DataError("bad", report))).report  # noqa: S301  our own bytes
    assert copied.to_json() == report.to_json()


def test_progress_ends_at_the_size_of_the_file(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(CONTENT * 3000)
    seen = []
    check_file(path, progress=lambda done, total: seen.append((done, total)), max_workers=0)
    assert seen[-1] == (len(CONTENT) * 3000,) * 2
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_checks_run_in_threads(tmp_path):
    """Worker processes need nothing of the main thread."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(CONTENT * 2000)
    found = []
    thread = threading.Thread(target=lambda: found.append(check_file(path, max_workers=2).n_examples))
    thread.start()
    thread.join()
    assert found == [24_000]


def test_user_text_is_made_printable():
    assert clean_text("a\x1b[2Jb\ud800\n" + "c" * 100, limit=10) == "a\ufffd[2Jb\ufffd\ufffdc…"


def test_repeated_keys_are_found_wherever_they_are():
    line = parse_line(b'{"a": [{"b": 1, "c": {"d" : 1, "d": 2}, "b": 3}], "x": "\\":"}')
    assert [(problem.code, problem.path) for problem in line.problems] == [
        ("duplicate_key", "/a/0/b"),
        ("duplicate_key", "/a/0/c/d"),
    ]
