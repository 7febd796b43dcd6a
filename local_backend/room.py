"""Whether an error means that the disk has no room left, whoever reports it."""

from __future__ import annotations

import errno
import re

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk is full, the user's share of it is, or files may not grow that large."""


def is_no_room(error: BaseException) -> bool:
    """Whether there was no room to write.

    Libraries that are written in Rust (safetensors, tokenizers) have errors of their own, whose text ends in the
    system's number.
    """
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    found = re.search(r"\(os error (\d+)\)", str(error))
    return found is not None and int(found[1]) in NO_ROOM
