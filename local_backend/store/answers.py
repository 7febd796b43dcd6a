"""Answers kept for requests that carry an Idempotency-Key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from local_backend.store.database import now
from local_backend.store.tables import AnswerRow


class KeyReusedError(Exception):
    """The same Idempotency-Key came with another body."""


@dataclass(frozen=True)
class Idempotency:
    """What makes two requests the same: the endpoint with the key, and the body."""

    key: str
    body_sha256: str


def earlier_answer(session: Session, request: Idempotency | None) -> dict[str, Any] | None:
    """Return the answer that this request was given before, if it was.

    Raises:
        KeyReusedError: Another request had this key.
    """
    row = session.get(AnswerRow, request.key) if request else None
    if row is None or request is None:
        return None
    if row.body_sha256 != request.body_sha256:
        raise KeyReusedError(request.key)
    return dict(row.answer)


def keep_answer(session: Session, request: Idempotency | None, answer: dict[str, Any]) -> None:
    """Remember an answer in the transaction that made it true."""
    if request is not None:
        session.add(
            AnswerRow(key=request.key, body_sha256=request.body_sha256, answer=answer, created_at=now()),
        )
