"""How many certificates were issued on each day: a range of an index, counted."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from sqlalchemy import BigInteger, bindparam, func, literal_column, select

from kipuka_core.edges.store.moments import to_micros
from kipuka_core.edges.store.tables import certificates
from kipuka_core.edges.store.writer import Batch

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).date()
_DAY_MICROS = 86_400_000_000
# The number stands in the statement: PostgreSQL takes two parameters of the same value for two expressions.
_DAY = (certificates.c.issued_at // literal_column(str(_DAY_MICROS), BigInteger)).label("day")
_ISSUED = (
    select(_DAY, func.count().label("issued"))
    .where(certificates.c.issued_at >= bindparam("since"), certificates.c.issued_at < bindparam("until"))
    .group_by(_DAY)
)


def issued_by_day(batch: Batch, since: datetime, until: datetime) -> dict[date, int]:
    """See :meth:`kipuka_core.domain.admin.store.AdminStore.issued_by_day`."""
    rows = batch.connection.execute(_ISSUED, {"since": to_micros(since), "until": to_micros(until)})
    return {_EPOCH + timedelta(days=int(row.day)): int(row.issued) for row in rows}
