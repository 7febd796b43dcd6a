"""What a file holds, in one number."""

from __future__ import annotations

import hashlib
from pathlib import Path

_READ_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex; the file is never held in memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
