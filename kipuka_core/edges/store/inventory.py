"""How many certificates and one-time passwords there are: ranges of indexes, counted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, bindparam, func, select

from kipuka_core.edges.store.moments import to_micros
from kipuka_core.edges.store.tables import certificates, is_usable, otps
from kipuka_core.edges.store.writer import Batch
from kipuka_core.model.record import CertificateStatus

EXPIRING_DAYS = (7, 30)

_OF_STATUS = certificates.c.status == bindparam("status")
_IN_TIME = certificates.c.not_after > bindparam("after")
_COUNT = select(func.count()).select_from(certificates)
_ALL_OF = _COUNT.where(_OF_STATUS)
_OVER = _COUNT.where(and_(_OF_STATUS, certificates.c.not_after <= bindparam("after")))
_GOOD = _COUNT.where(and_(_OF_STATUS, _IN_TIME))
_ENDING = _COUNT.where(and_(_OF_STATUS, _IN_TIME, certificates.c.not_after <= bindparam("until")))
_USABLE = select(func.count()).select_from(otps).where(and_(is_usable, otps.c.expires_at > bindparam("after")))


@dataclass(frozen=True, slots=True)
class Inventory:
    """``certificates`` by status, ``expired`` among them; ``expiring`` by days from now, active ones only."""

    certificates: dict[str, int]
    expiring: dict[int, int]
    usable_otps: int


def take_inventory(batch: Batch, now: datetime) -> Inventory:
    """Count everything. At a million certificates this takes about a quarter of a second."""

    def count(query: Select[Any], **values: object) -> int:
        return int(batch.connection.scalar(query, values) or 0)

    after = to_micros(now)
    active: dict[str, object] = {"status": CertificateStatus.ACTIVE.value, "after": after}
    by_status = {
        str(status): count(_ALL_OF, status=status.value)
        for status in CertificateStatus
        if status is not CertificateStatus.ACTIVE
    }
    by_status |= {"active": count(_GOOD, **active), "expired": count(_OVER, **active)}
    ends = {days: to_micros(now + timedelta(days=days)) for days in EXPIRING_DAYS}
    expiring = {days: count(_ENDING, **active, until=end) for days, end in ends.items()}
    return Inventory(by_status, expiring, count(_USABLE, after=after))
