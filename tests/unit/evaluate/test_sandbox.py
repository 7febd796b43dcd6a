"""A python grader computes, and can do nothing else: each way out is tried for real."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ftclient.errors import UnsupportedError
from ftclient.evaluate.graders import Limits, Sample, grade, parse_grader, require_sandbox, sandbox
from ftclient.evaluate.graders.sandbox import run_python

SAMPLE = {"output_text": "fuzzy wuzzy was a bear"}
ITEM = {"reference_answer": "fuzzy wuzzy had no hair"}

try:
    require_sandbox()
    CAN_SHUT_IN = True
except UnsupportedError:
    CAN_SHUT_IN = False
shut_in = pytest.mark.skipif(
    not CAN_SHUT_IN, reason="this kernel cannot shut code in; that it is refused is tested below"
)


def run(body: str, **limits):
    lines = "\n".join("    " + line for line in body.splitlines())
    return run_python(f"def grade(sample, item):\n{lines}", sample=SAMPLE, item=ITEM, limits=Limits(**limits))


@shut_in
def test_the_guides_example_gives_rapidfuzz_own_figure():
    from rapidfuzz import fuzz, utils

    source = (
        "from rapidfuzz import fuzz, utils\n\ndef grade(sample, item) -> float:\n"
        "    answer, reference = sample['output_text'], item['reference_answer']\n"
        "    return fuzz.WRatio(answer, reference, processor=utils.default_process) / 100.0\n"
    )
    found = grade(
        parse_grader({"type": "python", "source": source}), sample=Sample(text=SAMPLE["output_text"]), item=ITEM
    )
    expected = fuzz.WRatio(SAMPLE["output_text"], ITEM["reference_answer"], processor=utils.default_process) / 100
    assert found.reward == pytest.approx(expected)
    assert not found.errors


@shut_in
def test_the_standard_library_works_inside():
    body = "import datetime, json, re, statistics, unicodedata\n"
    body += "year = datetime.datetime.strptime('2026-11', '%Y-%m').year\nreturn year + json.loads('1')"
    assert run(body).reward == 2027.0


@shut_in
@pytest.mark.parametrize(
    "body",
    [
        "from rouge_score import rouge_scorer as r\nreturn r.RougeScorer(['rouge1']).score('a', 'a c')['rouge1'][0]",
        "import rouge_score.rouge_scorer as r\nreturn r.RougeScorer(['rouge1']).score('a b', 'b c')['rouge1'].recall",
        "import numpy\nreturn float(numpy.ma.mean([0, 1]))",
        "from nltk.metrics.distance import edit_distance\nreturn edit_distance('a', 'b') / 2",
        "try:\n  import numpy.no_such_part\nexcept ImportError:\n  return 0.5",
    ],
)
def test_packages_find_their_own_parts_and_each_other_after_the_doors_are_shut(body):
    assert run(body).reward == 0.5


FILES = ["/etc/passwd", "/proc/self/environ", "/proc/1/environ", "/dev/zero", "/root", "/var", "/home", "."]


@shut_in
@pytest.mark.parametrize("path", FILES)
def test_no_file_or_folder_is_read(path):
    body = f"import os\nreturn len(os.listdir({path!r}) if os.path.isdir({path!r}) else open({path!r}, 'rb').read(1))"
    assert "PermissionError" in run(body).error or "FileNotFoundError" in run(body).error


@shut_in
def test_the_users_own_files_are_neither_read_nor_written(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("canary")
    secret.chmod(0o644)
    link = tmp_path / "old-link"
    link.symlink_to("/canary/of/a/link")
    tries = [
        f"import os\nreturn len(os.readlink({str(link)!r}))",
        f"import os\nreturn len(os.listdir({str(tmp_path)!r}))",
        f"return len(open({str(secret)!r}).read())",
        f"open({str(tmp_path / 'new')!r}, 'w')",
        f"import os\nos.unlink({str(secret)!r})",
        f"import os\nos.rename({str(secret)!r}, {str(tmp_path / 'moved')!r})",
        f"import os\nos.mkdir({str(tmp_path / 'folder')!r})",
        f"import os\nos.chmod({str(secret)!r}, 0o777)",
        f"import os\nos.symlink('/etc', {str(tmp_path / 'link')!r})",
        f"import os\nos.utime({str(secret)!r}, (0, 0))",
        f"import os\nos.truncate({str(secret)!r}, 0)",
    ]
    for body in tries:
        found = run(body)
        assert found.reward is None, body
        assert "PermissionError" in found.error, body
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old-link", "secret.txt"]
    assert secret.read_text() == "canary"
    assert secret.stat().st_mode & 0o777 == 0o644


@shut_in
def test_the_environment_is_empty(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-in-the-environment")
    assert run("import os\nreturn len(os.environ)").reward == 0.0
    body = "import ctypes\nreturn ctypes.CDLL(None).getenv(b'OPENAI_API_KEY')"
    assert run(body).reward == 0.0


@shut_in
def test_no_network_is_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.settimeout(0.2)
        for body in (
            f"import socket\nsocket.create_connection(('127.0.0.1', {port}))",
            f"import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
            "import socket\nsocket.socket(socket.AF_UNIX)",
            "import socket\nsocket.create_server(('127.0.0.1', 0))",
            f"import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}')",
            "import socket\nsocket.socketpair()",
        ):
            found = run(body)
            assert found.reward is None, body
            assert "not permitted" in found.error, body
        with pytest.raises(TimeoutError):
            server.accept()


@shut_in
def test_no_process_or_thread_is_started_and_none_is_signalled():
    for body in (
        "import os\nos.fork()",
        "import os\nos.posix_spawn('/bin/true', ['true'], {})",
        "import subprocess\nsubprocess.run(['/bin/true'])",
        "import os\nos.execv('/bin/true', ['true'])",
        "import os\nos.kill(os.getppid(), 9)",
        f"import os\nos.kill({os.getpid()}, 15)",
        f"import ctypes\nif ctypes.CDLL(None).syscall(234, {os.getpid()}, 1, 15) < 0: raise OSError('not permitted')",
        "import os\nos.setsid()",
        "import resource\nresource.prlimit(0, resource.RLIMIT_CPU, (99, 99))",
    ):
        assert "ermitted" in run(body).error, body
    assert "can't start new thread" in run("import threading\nthreading.Thread(target=print).start()").error


@shut_in
@pytest.mark.parametrize(
    ("body", "limits"),
    [
        ("while True: pass", {"cpu_s": 1}),
        ("while True: pass", {"time_s": 0.5}),
        ("import time\ntime.sleep(60)", {"time_s": 0.5}),
        ("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", {"cpu_s": 1}),
        ("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\nwhile True: pass", {"time_s": 0.5}),
    ],
)
def test_nothing_outlives_its_time(body, limits):
    started = time.monotonic()
    found = run("import os\nopen" + "\n" + body, **limits)
    assert found.reward is None
    assert time.monotonic() - started < 10
    assert _children() == []


@shut_in
@pytest.mark.parametrize("body", ["bytearray(3 * 2**30)", "x = []\nwhile True: x.append(bytearray(10**7))"])
def test_memory_is_bounded(body):
    assert "MemoryError" in run(body, memory_bytes=200 * 2**20).error


@shut_in
def test_an_endless_answer_does_not_fill_this_process():
    body = (
        "import os\nwhile True:\n  for fd in range(3, 64):\n    try: os.write(fd, b'x' * 65536)\n    except OSError: 0"
    )
    assert run(body, time_s=5).reward is None


@shut_in
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return 'right'", "returned str"),
        ("return float('nan')", "not a finite number"),
        ("return None", "returned NoneType"),
        ("\nraise KeyError('name')", "KeyError: 'name' (line 3 of the source)"),
        ("import sys\nsys.exit(0)", "SystemExit"),
        ("import os\nos._exit(0)", "was ended"),
        ("import os\nos.abort()", "was ended"),
        ("def f(): f()\nf()", "RecursionError"),
    ],
)
def test_what_goes_wrong_is_said_in_words(body, words):
    found = run(body)
    assert found.reward is None
    assert words in found.error


@shut_in
@pytest.mark.parametrize(
    "forged",
    ["[1]", "5", "null", '{"reward": NaN}', '{"reward": "1"}', '{"refused": "no"}', '{"error": 5}', "[" * 50_000],
)
def test_what_the_code_writes_itself_in_place_of_an_outcome_is_an_error_and_no_more(forged):
    """The code can write to the pipe that carries outcomes: that must not end an evaluation."""
    write = f"for fd in range(3, 64):\n  try: os.write(fd, {forged!r}.encode())\n  except OSError: 0\n"
    found = run(f"import os\n{write}os._exit(0)")
    assert found.reward is None
    assert isinstance(found.error, str)


@shut_in
@pytest.mark.parametrize("command", [8, 10, 15], ids=["F_SETOWN", "F_SETSIG", "F_SETOWN_EX"])
def test_no_signal_is_sent_by_way_of_a_files_owner(command):
    """On a pipe they end any process of the same user, where Landlock is older than 6."""
    body = "import ctypes, errno, fcntl\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    body += f"fcntl.fcntl(0, fcntl.F_GETFL)\nlibc.fcntl(0, {command}, 0)\nreturn ctypes.get_errno() == errno.EPERM"
    assert run(body).reward == 1.0


@shut_in
def test_packages_inside_the_standard_librarys_folder_are_not_read():
    """Outside of a virtual environment `site-packages` lies there, with settings and addresses of what is installed."""
    body = "import json, os\nfolder = os.path.dirname(os.path.dirname(json.__file__)) + '/site-packages'\n"
    body += "found = [os.path.join(top, name) for top, _, names in os.walk(folder) for name in names][:50]\n"
    body += "def readable(path):\n  try: return bool(open(path, 'rb'))\n  except PermissionError: return False\n"
    assert run(body + "return sum(map(readable, found))").reward == 0.0


@shut_in
def test_the_process_dies_with_the_one_that_started_it():
    """A grader does not live on when the program that asked for it is killed."""
    program = (
        "from ftclient.evaluate.graders.sandbox import run_python\n"
        "run_python('def grade(s, i):\\n    import time\\n    time.sleep(60)', sample={}, item={})"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        child = _wait_for_child(parent.pid)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_alive(child)


def test_it_is_refused_where_the_kernel_cannot_shut_it_in(monkeypatch):
    monkeypatch.setattr(sandbox.sys, "platform", "darwin")
    sandbox._missing.cache_clear()
    try:
        with pytest.raises(UnsupportedError, match="Landlock and seccomp"):
            run("return 1")
    finally:
        sandbox._missing.cache_clear()


def _children() -> list[int]:
    return _graders_of(f"{os.getpid()}/task/{threading.get_native_id()}")


def _graders_of(thread: str) -> list[int]:
    children = Path(f"/proc/{thread}/children").read_text(encoding="ascii").split()
    return [int(pid) for pid in children if _is_alive(int(pid))]


def _wait_for_child(parent: int) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := _graders_of(f"{parent}/task/{parent}"):
            time.sleep(0.3)  # until it has set what kills it
            return found[0]
        time.sleep(0.02)
    raise AssertionError("no grader was started")


def _is_alive(pid: int) -> bool:
    try:
        return b"jail" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
