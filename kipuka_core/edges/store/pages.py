"""Pages of rows in the order of two columns: a moment, newest first, and an id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Row, Select, and_, func, or_, select

from kipuka_core.edges.store.writer import Batch
from kipuka_core.model.search import COUNTED_AT_MOST, BadCursor, PageWanted

_LONGEST_CURSOR = 200


def newest_first(
    batch: Batch, found: Select[Any], moment: Column[int], row_id: Column[Any], page: PageWanted
) -> tuple[Sequence[Row[Any]], str | None, int]:
    """The rows of a page of ``found``, the cursor of the next page, and how many there are, counted up to a limit."""
    wanted = found
    if page.after is not None:
        at, after_id = _read_cursor(page.after, is_number=row_id.type.python_type is int)
        wanted = wanted.where(and_(moment <= at, or_(moment < at, row_id < after_id)))
    wanted = wanted.order_by(moment.desc(), row_id.desc()).limit(page.limit + 1).offset(page.offset)
    rows = batch.connection.execute(wanted).all()
    counted = found.with_only_columns(row_id).limit(COUNTED_AT_MOST + 1).subquery()
    total = batch.connection.execute(select(func.count()).select_from(counted)).scalar() or 0
    shown = rows[: page.limit]
    if len(rows) <= page.limit:
        return shown, None, total
    last = shown[-1]._asdict()
    return shown, f"{last[moment.name]}.{last[row_id.name]}", total


def _read_cursor(cursor: str, *, is_number: bool) -> tuple[int, Any]:
    moment, _, row_id = cursor[:_LONGEST_CURSOR].partition(".")
    try:
        values = int(moment), int(row_id) if is_number else row_id
    except ValueError:
        raise BadCursor from None
    if not all(-(1 << 63) <= each < 1 << 63 for each in values if isinstance(each, int)):
        raise BadCursor
    return values
