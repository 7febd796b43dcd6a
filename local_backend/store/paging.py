"""Pages of rows by `seq`, with ids as cursors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

Row = TypeVar("Row")


class UnknownCursorError(LookupError):
    """`after` names nothing in this list."""


@dataclass(frozen=True)
class Page(Generic[Row]):
    """A piece of a list, and whether more follows."""

    rows: Sequence[Row]
    has_more: bool


def page(
    session: Session, query: Select[Row], *, table: Any, after: str | None, limit: int, newest_first: bool = True
) -> Page[Row]:
    """Return up to `limit` rows of `query` that come behind the row with the id `after`.

    Raises:
        UnknownCursorError: There is no such row.
    """
    if after is not None:
        seq = session.scalar(select(table.seq).where(table.id == after))
        if seq is None:
            raise UnknownCursorError(after)
        query = query.where(table.seq < seq if newest_first else table.seq > seq)
    order = table.seq.desc() if newest_first else table.seq.asc()
    rows = session.scalars(query.order_by(order).limit(limit + 1)).all()
    return Page(rows[:limit], has_more=len(rows) > limit)
