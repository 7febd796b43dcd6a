"""The npm package `openai`, unmodified, trains at our server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.serving import ROOT, run_program, simulated_server

REQUIRED = os.environ.get("FTCLIENT_NODE") == "1"
"""Set where Node must be there, so that its absence is a failure and not a gap that nobody sees."""


def npm(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["npm", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples with the npm packages installed."""
    if not shutil.which("npm"):
        (pytest.fail if REQUIRED else pytest.skip)("Node is not installed; FTCLIENT_NODE=1 makes this a failure")
    copy = tmp_path_factory.mktemp("examples")
    shutil.copytree(ROOT / "examples" / "data", copy / "data")
    folder = copy / "node"
    shutil.copytree(ROOT / "examples" / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    if not REQUIRED and npm("ping", cwd=folder).returncode:
        pytest.skip("the npm registry cannot be reached; FTCLIENT_NODE=1 makes this a failure")
    done = npm("install", "--no-audit", "--no-fund", cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.slow
def test_node_trains_follows_and_chats(project: Path, tmp_path: Path) -> None:
    with simulated_server(tmp_path / "server") as url:
        printed = run_program("npm", "start", home=tmp_path, cwd=project, OPENAI_BASE_URL=url, OPENAI_API_KEY="none")
    assert re.findall(r"^Step (\d)/6: training loss=", printed, flags=re.MULTILINE) == list("123456")
    assert re.search(r"^step,train_loss,", printed, flags=re.MULTILINE)
    assert re.search(r'^ft:smollm2-135m:personal::\w{8} answers: \{"queue":', printed, flags=re.MULTILINE)
