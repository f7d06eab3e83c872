"""What CRLs and OCSP are made of: changes of status, counted, and the newest CRL of each issuer's key.

Whatever changes the status of a certificate calls :func:`count_change` in the same transaction and writes the number
into ``certificates.status_change``. So every process sees by one small row whether what it has is still true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from kipuka_core.edges.store.moments import from_micros, from_micros_or_none, to_micros
from kipuka_core.edges.store.tables import ca_told, certificates, crls, revocation_changes
from kipuka_core.edges.store.writer import Batch
from kipuka_core.model.record import CertificateStatus
from kipuka_core.model.status import CrlFacts, PublishedCrl, RecordedStatus, RevocationState, StatusChange

_DIALECTS: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}
_c = certificates.c
_MOMENTS = ("this_update", "next_update", "scheduled_at")
_CHANGES = select(revocation_changes.c.changes).where(
    revocation_changes.c.issuer_key_id == bindparam("the_issuer_key_id")
)
_FACTS = select(*(column for column in crls.c if column.name != "crl_der"))
_NEWEST = _FACTS.where(crls.c.issuer_key_id == bindparam("the_issuer_key_id"))
_DER = select(crls).where(crls.c.issuer_key_id == bindparam("the_issuer_key_id"))
_CHANGED = (
    select(_c.serial_hex, _c.not_after, _c.status_change, _c.status, _c.revoked_at, _c.revocation_reason)
    .where(
        _c.issuer_key_id == bindparam("the_issuer_key_id"),
        _c.status_change > bindparam("after"),
        _c.status_change.is_not(None),  # what the partial index is declared with
        _c.not_after >= bindparam("ended_since"),
    )
    .order_by(_c.status_change)
)
_STATUS = select(_c.status, _c.revoked_at, _c.revocation_reason).where(
    _c.serial_hex == bindparam("the_serial_hex"), _c.issuer_key_id == bindparam("the_issuer_key_id")
)
_REPLACE = (
    update(crls)
    .where(crls.c.issuer_key_id == bindparam("the_issuer_key_id"), crls.c.number == bindparam("the_number_before"))
    .values({column.name: bindparam(column.name) for column in crls.c})
)

_TOLD = select(ca_told.c.change).where(ca_told.c.issuer_key_id == bindparam("the_issuer"))
_TELL = update(ca_told).where(ca_told.c.issuer_key_id == bindparam("the_issuer")).values(change=bindparam("the_change"))


def count_change(connection: Connection, issuer_key_id: str) -> int:
    """Count a change of the status of certificates of this issuer's key, and return its number.

    Until the transaction ends nobody else gets the next number, so that who sees a number sees all below it.
    """
    dialect = _DIALECTS[connection.dialect.name]
    first = dialect.insert(revocation_changes).values(issuer_key_id=issuer_key_id, changes=1)
    counted = first.on_conflict_do_update(
        index_elements=["issuer_key_id"], set_={"changes": revocation_changes.c.changes + 1}
    )
    number: int = connection.execute(counted.returning(revocation_changes.c.changes)).scalar_one()
    return number


def revocation_state(batch: Batch, issuer_key_id: str) -> RevocationState:
    """Changes so far and the newest CRL. The changes are read first: they may be more than the CRL knows."""
    this_one = {"the_issuer_key_id": issuer_key_id}
    changes = batch.connection.execute(_CHANGES, this_one).scalar() or 0
    row = batch.connection.execute(_NEWEST, this_one).first()
    return RevocationState(changes, None if row is None else _facts(row))


def status_changes(batch: Batch, issuer_key_id: str, *, after: int, ended_since: datetime) -> Sequence[StatusChange]:
    """What has changed after this number, oldest first; certificates that ended before ``ended_since`` left out."""
    parameters = {"the_issuer_key_id": issuer_key_id, "after": after, "ended_since": to_micros(ended_since)}
    return [
        StatusChange(
            serial_hex=serial_hex,
            not_after=from_micros(not_after),
            change=change,
            revoked_at=from_micros_or_none(revoked_at) if status == CertificateStatus.REVOKED else None,
            reason=reason,
        )
        for serial_hex, not_after, change, status, revoked_at, reason in batch.connection.execute(_CHANGED, parameters)
    ]


def told_change(batch: Batch, issuer_key_id: str) -> int:
    """See :meth:`kipuka_core.domain.status_ports.StatusStore.told_change`."""
    found = batch.connection.execute(_TOLD, {"the_issuer": issuer_key_id}).scalar()
    return 0 if found is None else int(found)


def note_told(batch: Batch, issuer_key_id: str, change: int) -> None:
    """See :meth:`kipuka_core.domain.status_ports.StatusStore.note_told`."""
    told = {"the_issuer": issuer_key_id, "the_change": change}
    if not batch.connection.execute(_TELL, told).rowcount:
        batch.connection.execute(insert(ca_told).values(issuer_key_id=issuer_key_id, change=change))


def recorded_status(batch: Batch, issuer_key_id: str, serial_hex: str) -> RecordedStatus | None:
    """The status of one certificate, or None for one that is not on record."""
    parameters = {"the_issuer_key_id": issuer_key_id, "the_serial_hex": serial_hex}
    row = batch.connection.execute(_STATUS, parameters).first()
    if row is None:
        return None
    status, revoked_at, reason = row
    if status != CertificateStatus.REVOKED:
        return RecordedStatus(None, None)
    return RecordedStatus(from_micros(revoked_at), reason)


def newest_crl(batch: Batch, issuer_key_id: str) -> PublishedCrl | None:
    """The newest CRL with its bytes."""
    row = batch.connection.execute(_DER, {"the_issuer_key_id": issuer_key_id}).first()
    return None if row is None else PublishedCrl(_facts(row), row.crl_der)


def all_crls(batch: Batch) -> Sequence[CrlFacts]:
    """The newest CRL of every issuer's key, by the CA's id."""
    return [_facts(row) for row in batch.connection.execute(_FACTS.order_by(crls.c.ca_id, crls.c.issuer_key_id))]


def publish_crl(batch: Batch, crl: PublishedCrl, *, number_before: int | None) -> bool:
    """Make this the newest CRL of its issuer's key, if the newest is still the one with ``number_before``.

    False: another process was first, and this one is to be forgotten. So no number is ever followed by a lower one, and
    none is lost when a process dies between signing and publishing.
    """
    row = asdict(crl.facts) | {"crl_der": crl.der}
    row |= {name: to_micros(row[name]) for name in _MOMENTS}
    if number_before is None:
        dialect = _DIALECTS[batch.connection.dialect.name]
        first = dialect.insert(crls).values(row).on_conflict_do_nothing().returning(crls.c.number)
        return batch.connection.execute(first).first() is not None  # psycopg does not tell how many rows
    this_one = {"the_issuer_key_id": crl.facts.issuer_key_id, "the_number_before": number_before}
    return bool(batch.connection.execute(_REPLACE, {**row, **this_one}).rowcount)


def _facts(row: Row[*tuple[Any, ...]]) -> CrlFacts:
    values = {name: value for name, value in row._asdict().items() if name != "crl_der"}
    return CrlFacts(**values | {name: from_micros(values[name]) for name in _MOMENTS})
