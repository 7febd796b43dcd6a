"""What a journal that cannot be used tells the user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ftclient.errors import FtclientError
from ftclient.jobs.journal import Journal


@pytest.mark.parametrize("damage", ["garbage", "no folder"])
def test_a_journal_that_cannot_be_used_is_named_with_a_remedy(tmp_path: Path, damage: str) -> None:
    home = tmp_path / "home"
    if damage == "garbage":
        home.mkdir()
        (home / "client.db").write_bytes(b"no database at all" * 100)
    else:
        home.write_bytes(b"a file")
    with pytest.raises(FtclientError, match=r"client\.db cannot be used .*--home"):
        Journal(home).launches("http://127.0.0.1:9")


def test_the_command_says_that_there_is_no_room(tmp_path: Path) -> None:
    """Files that may not grow stand for a disk that is full."""

    command = [sys.executable, "-m", "ftclient", "jobs", "--home", str(tmp_path), "--backend", "http://127.0.0.1:9"]
    run = subprocess.run(
        ["sh", "-c", 'ulimit -f 2; exec "$@"', "sh", *command], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "client.db cannot be used" in run.stderr
    assert "Free some room" in run.stderr
    assert "Traceback" not in run.stderr
