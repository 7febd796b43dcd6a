"""Where the client keeps what it must not forget."""

from __future__ import annotations

import os
from pathlib import Path


def default_home() -> Path:
    """Return FTCLIENT_HOME, else the platform's data folder for `ftclient`."""
    chosen = os.environ.get("FTCLIENT_HOME")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_data_dir("ftclient"))


def open_home(home: Path) -> Path:
    """Create `home` readable by its owner alone, if it is not there yet, and return it."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return home
