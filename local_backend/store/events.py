"""Events of a job."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy.orm import Session

from local_backend.names import new_id
from local_backend.store.database import now
from local_backend.store.tables import EventRow

EMPTY: Mapping[str, Any] = MappingProxyType({})


def add_event(
    session: Session,
    job_id: str,
    message: str,
    *,
    level: str = "info",
    kind: str = "message",
    data: Mapping[str, Any] | None = EMPTY,
    step: int | None = None,
) -> None:
    """Add an event inside a transaction. Plain messages carry `{}` as data, as hosted ones do."""
    row = EventRow(
        id=new_id("ftevent-"),
        job_id=job_id,
        created_at=now(),
        level=level,
        message=message,
        type=kind,
        data=None if data is None else dict(data),
        step=step,
    )
    session.add(row)
    session.flush()
