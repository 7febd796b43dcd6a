"""What the server keeps: rows in SQLite, files on disk named by their sha256.

`Store` opens a home; the modules beside it hold one kind of thing each (files, uploads, jobs, tuned models). Every
change is one transaction that is on disk when the call returns.
"""

from __future__ import annotations

from local_backend.store.database import Store, StoreError

__all__ = ["Store", "StoreError"]
