"""The command in a real terminal (a pty): the live view, Ctrl-C, and a job that goes on without it."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

FT = [sys.executable, "-m", "ftclient"]


def serve(env: dict[str, str], *, port: int = 0) -> tuple[subprocess.Popen[str], str]:
    """Start a server with the simulated engine, and return it with its address once it listens."""
    command = [*FT, "serve", "--engine", "simulated", "--port", str(port)]
    running = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    found = next(found for line in running.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+/v1", line)))
    return running, found.group()


def stop(running: subprocess.Popen[str]) -> None:
    """End a server and read what it said."""
    running.terminate()
    running.communicate(timeout=60)


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment whose backend is a running server."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FTCLIENT", "OPENAI")) and k != "NO_COLOR"}
    made = {**clean, "FTCLIENT_HOME": str(tmp_path_factory.mktemp("home")), "TERM": "xterm-256color"}
    running, address = serve(made)
    yield {**made, "FTCLIENT_BACKEND": address}
    stop(running)


def start(env: dict[str, str], *, seconds_per_step: float = 0.05) -> str:
    """Return a job of 60 steps that takes some seconds, made by a script that exits at once."""
    script = (
        "from ftclient import Client, Dataset, LocalOptions, Simulate, Supervised\n"
        "examples = [{'messages': [{'role': 'user', 'content': f'{n}?'}, {'role': 'assistant', 'content': f'{n}!'}]}\n"
        "            for n in range(12)]\n"
        "client = Client.from_env()\n"
        f"pace = Simulate(speed='timed', seconds_per_step={seconds_per_step})\n"
        "plan = client.plan(Dataset(examples), model='smollm2-135m', local=LocalOptions(simulate=pace),\n"
        "                   method=Supervised(n_epochs=5, batch_size=1))\n"
        "print(client.train(plan).id)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def job_id(env: dict[str, str]) -> str:
    """A job that has just been started."""
    return start(env)


@pytest.fixture
def long_job_id(env: dict[str, str]) -> str:
    """A job that goes on while a command starts, watches and is ended, on a busy machine too."""
    return start(env, seconds_per_step=0.1)


class Terminal:
    """A command on a terminal of its own, of a given size."""

    def __init__(self, command: list[str], env: dict[str, str], *, columns: int, lines: int = 30) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        env = {k: v for k, v in env.items() if k not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(command, env=env, stdin=slave, stdout=slave, stderr=slave, close_fds=True)
        os.close(slave)
        self._master = master
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.output = ""

    def read_until(self, pattern: str | None, *, timeout_s: float = 60) -> str:
        """Read until the text appears, or with None until the command ends."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if pattern and re.search(pattern, self.output):
                return self.output
            try:
                piece = os.read(self._master, 65536)
            except OSError:  # the other end is closed: the command has ended
                break
            if not piece:
                break
            self.output += self._decoder.decode(piece)
        assert pattern is None or re.search(pattern, self.output), self.output[-2000:]
        return self.output

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._master, text.encode())

    def hang_up(self) -> int:
        """Close the terminal's window, and return how the command took it."""
        os.close(self._master)
        return self.process.wait(timeout=60)

    def end(self) -> int:
        """Read what is left, and return the exit code."""
        self.read_until(None)
        os.close(self._master)
        return self.process.wait(timeout=60)


def test_ctrl_c_leaves_the_view_with_130_and_the_job_succeeds(long_job_id: str, env: dict[str, str]) -> None:
    terminal = Terminal([*FT, "watch", long_job_id], env, columns=80)
    terminal.read_until(r"Step \d+/60")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert f"ftclient watch {long_job_id}" in terminal.output
    assert "Traceback" not in terminal.output
    done = subprocess.run([*FT, "watch", long_job_id, "--json"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["status"] == "succeeded"


@pytest.mark.parametrize("deaf", [[], ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]], ids=["hears", "deaf"])
def test_a_closed_terminal_ends_the_view_and_the_job_succeeds(long_job_id: str, env: dict[str, str], deaf) -> None:
    """Also of a command that does not hear the hang-up, as under nohup, and then writes to nobody."""
    terminal = Terminal([*deaf, *FT, "watch", long_job_id], env, columns=80)
    terminal.read_until(r"Step \d+/60")
    assert terminal.hang_up() != 0
    done = subprocess.run([*FT, "watch", long_job_id, "--json"], env=env, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["status"] == "succeeded"


@pytest.mark.parametrize("columns", [40, 100])
def test_the_view_ends_with_the_model_and_how_to_use_it(job_id: str, env: dict[str, str], columns: int) -> None:
    terminal = Terminal([*FT, "watch", job_id], env, columns=columns)
    assert terminal.end() == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.output)
    assert "Your model" in plain
    assert re.search(r"^ft:smollm2-135m:personal::\w{8}\r?$", plain, re.MULTILINE)  # the last line, alone, to be copied
    assert max(map(len, plain.splitlines())) <= columns


def test_a_dumb_terminal_gets_lines(job_id: str, env: dict[str, str]) -> None:
    terminal = Terminal([*FT, "watch", job_id], {**env, "TERM": "dumb"}, columns=80)
    assert terminal.end() == 0
    assert "\x1b" not in terminal.output
    assert "Status: done" in terminal.output


def test_a_server_that_goes_away_and_comes_back_is_waited_for(env: dict[str, str], tmp_path: Path) -> None:
    env = {**env, "FTCLIENT_HOME": str(tmp_path)}
    server, env["FTCLIENT_BACKEND"] = serve(env)
    command = [*FT, "watch", start(env, seconds_per_step=0.1)]
    watching = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert watching.stderr is not None
    next(line for line in watching.stderr if "Step" in line)
    server.kill()
    server.communicate()
    assert any("cannot be reached" in line for line in watching.stderr)
    again, _ = serve(env, port=int(env["FTCLIENT_BACKEND"].split(":")[2].split("/")[0]))
    try:
        out, _ = watching.communicate(timeout=60)
        assert watching.returncode == 0
        assert out.startswith("ft:smollm2-135m")
    finally:
        stop(again)


@pytest.fixture
def as_openai(env: dict[str, str], tmp_path: Path) -> tuple[list[str], dict[str, str], str]:
    """A command that starts a paid job, its environment, and the id of a file that a colleague has sent there before.

    The address of OpenAI leads to the server.
    """
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"{tmp_path.name} {n}?"},
                    {"role": "assistant", "content": f"{n}!"},
                ]
            }
        )
        for n in range(12)
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(lines), encoding="utf-8")
    env = {**env, "OPENAI_BASE_URL": env["FTCLIENT_BACKEND"], "OPENAI_API_KEY": "none", "FTCLIENT_HOME": str(tmp_path)}
    script = (
        "import sys; from ftclient import Client, Dataset\n"
        f"print(Client.openai(home={str(tmp_path / 'colleague')!r}).upload(Dataset.read({str(data)!r})))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    command = [*FT, "--backend", "openai", "train", str(data), "--model", "smollm2-135m", "--detach", "--json"]
    return command, env, done.stdout.strip()


@pytest.mark.parametrize(("answer", "is_reused"), [("y", True), ("n", False)])
def test_on_a_terminal_it_is_asked_whether_a_colleagues_file_may_be_used(as_openai, answer: str, is_reused) -> None:
    command, env, file_id = as_openai
    terminal = Terminal(command, env, columns=200)
    terminal.read_until("Start this job at OpenAI")
    terminal.type("y\n")
    terminal.read_until(rf"OpenAI has these bytes already, as data\.jsonl \({file_id}\)")
    terminal.type(f"{answer}\n")
    assert terminal.end() == 0
    assert (f'"training_file": "{file_id}"' in terminal.output) is is_reused


@pytest.mark.parametrize(("options", "is_reused"), [((), False), (("--reuse", "yes"), True)])
def test_where_nobody_can_be_asked_a_colleagues_file_is_used_only_if_it_was_said(as_openai, options, is_reused) -> None:
    command, env, file_id = as_openai
    done = subprocess.run([*command, "--yes", *options], env=env, capture_output=True, text=True, check=True)
    assert (json.loads(done.stdout)["training_file"] == file_id) is is_reused


def test_asking_needs_somebody_to_ask(as_openai) -> None:
    command, env, _ = as_openai
    asking = [*command, "--yes", "--reuse", "ask"]
    done = subprocess.run(asking, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "say yes or no" in done.stderr
