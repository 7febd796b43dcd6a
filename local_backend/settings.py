"""What a server or an in-process backend is told when it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import platformdirs

EngineName = Literal["torch", "simulated"]


def default_home() -> Path:
    """Return FTCLIENT_HOME, else the platform's data folder for `ftclient`."""
    return Path(os.environ.get("FTCLIENT_HOME") or platformdirs.user_data_dir("ftclient"))


def default_cache() -> Path:
    """Return FTCLIENT_CACHE (downloaded base models), else the platform's cache folder for `ftclient`."""
    return Path(os.environ.get("FTCLIENT_CACHE") or platformdirs.user_cache_dir("ftclient"))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One backend: where it keeps its state, what trains, and who may talk to it."""

    home: Path = field(default_factory=default_home)
    """The server's state is `home / "server"`; nothing else in it is touched."""
    cache: Path = field(default_factory=default_cache)
    engine: EngineName = "torch"
    runner: Literal["process", "thread"] = "process"
    """`process`: jobs outlive this process. `thread`: they run here, for test suites."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Further model names, each standing for a catalogue name or hub id: {"gpt-4o-mini": "smollm2-135m"}."""
    token: str | None = None
    """Bearer token that requests must carry; None accepts any, on loopback only."""
    allow_local_paths: bool = False
    """Whether `model` may be a folder on this machine."""

    @property
    def server_dir(self) -> Path:
        """The folder of everything that the server keeps."""
        return self.home / "server"
