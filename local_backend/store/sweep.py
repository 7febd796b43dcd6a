"""Giving back the room of what nobody can use any more."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from sqlalchemy import select

from local_backend.store.database import Store
from local_backend.store.files import Files
from local_backend.store.tables import ModelRow

LEFT_OVER_S = 24 * 3600
"""What arrives is never under way for so long; parts of uploads expire after an hour."""


def sweep_home(store: Store) -> None:
    """Drop expired files, contents without a file, and what a crash left of requests that never ended."""
    Files(store).drop_expired()
    for path in (*store.incoming.iterdir(), *store.uploads.iterdir()):
        if _age_s(path) > LEFT_OVER_S:
            _remove(path)


def sweep_job(store: Store, job_id: str) -> None:
    """Drop what a job that has ended kept to go on from, and checkpoints that no model's name leads to."""
    folder = store.jobs / job_id
    with store.read() as session:
        query = select(ModelRow.model_dir).where(ModelRow.job_id == job_id, ModelRow.deleted.is_(False))
        named = {Path(model_dir) for model_dir in session.scalars(query)}
    for kept_for_resume in ("resume", "reference", "frozen"):
        _remove(folder / kept_for_resume)
    for path in (folder / "checkpoints").glob("*"):
        if path not in named:
            _remove(path)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
