"""A host whose models answer what a test wants, and a folder for what is kept of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftclient.keep.folder import KeepFolder
from tests.unit.evaluate.conftest import chat_host, hosted

__all__ = ["chat_host", "hosted"]


@pytest.fixture
def folder(tmp_path: Path) -> KeepFolder:
    return KeepFolder(tmp_path / "kept")
