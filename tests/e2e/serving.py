"""A real server in a process of its own, for tests that run whole programs against it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOSTED_MODEL = "gpt-4.1-mini-2025-04-14"


@contextmanager
def simulated_server(home: Path) -> Iterator[str]:
    """Serve the simulated engine on a free port; yield the base URL. Jobs run in the server's process."""
    command = [sys.executable, "-m", "local_backend", "serve", "--engine", "simulated", "--runner", "thread"]
    command += ["--port", "0", "--home", str(home), "--alias", f"{HOSTED_MODEL}=smollm2-135m"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stderr
        try:
            said = ""
            while not (found := re.search(r"http://\S+/v1", said)):
                line = server.stderr.readline()
                assert line, f"the server ended at once: {said}"
                said += line
            yield found.group()
        finally:
            server.terminate()
            server.communicate(timeout=30)


def run_program(*command: str, home: Path, cwd: Path = ROOT, expect: int = 0, **environment: str) -> str:
    """Run a program to its end and return what it printed; show everything if its exit code is not the expected."""
    env = {**os.environ, "FTCLIENT_HOME": str(home), "NO_COLOR": "1", **environment}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout
