"""Certificates: recorded together with the consumption of what they cost, found, searched, revoked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from sqlalchemy import ColumnElement, Connection, Row, bindparam, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from kipuka_core.domain.ports import AlreadyIssued
from kipuka_core.edges.store.events import insert_events
from kipuka_core.edges.store.indexed import indexed
from kipuka_core.edges.store.moments import from_micros, from_micros_or_none, to_micros, to_micros_or_none
from kipuka_core.edges.store.one_time_passwords import consume_reservations
from kipuka_core.edges.store.requests import close_as_issued
from kipuka_core.edges.store.revocations import count_change
from kipuka_core.edges.store.tables import certificate_names, certificates
from kipuka_core.edges.store.writer import Batch
from kipuka_core.model.event import Event
from kipuka_core.model.names import SAN_KINDS, common_names
from kipuka_core.model.record import CertificateStatus, RecordedCertificate

ON_HOLD = 6  # CRLReason certificateHold, the one that a final reason may follow (RFC 5280 5.3.1)
ABOVE_ALL_CHARACTERS = "\U0010ffff"

_c = certificates.c
CERTIFICATE_COLUMNS = select(
    _c.issuer_key_id,
    _c.serial_hex,
    _c.ca_id,
    _c.label,
    _c.entity_id,
    _c.subject,
    _c.sans,
    _c.key_type,
    _c.not_before,
    _c.not_after,
    _c.issued_at,
    _c.certificate_der,
    _c.status,
    _c.revoked_at,
    _c.revocation_reason,
    _c.request_id,
    _c.authenticator,
    _c.otp_id,
    _c.csr_fingerprint,
)
_THIS_ONE = (_c.serial_hex == bindparam("the_serial_hex"), _c.issuer_key_id == bindparam("the_issuer_key_id"))
_FIND = CERTIFICATE_COLUMNS.where(*_THIS_ONE)
_REPLAYABLE = (
    CERTIFICATE_COLUMNS.where(
        _c.otp_id == bindparam("otp_id"),
        _c.csr_fingerprint == bindparam("csr_fingerprint"),
        _c.issued_at > bindparam("since"),
        _c.status == CertificateStatus.ACTIVE.value,
    )
    .order_by(_c.issued_at.desc(), _c.id.desc())
    .limit(1)
)
_INSERT = insert(certificates).inline()
_INSERT_NAME = insert(certificate_names).values(
    name=bindparam("name"), certificate_id=select(_c.id).where(*_THIS_ONE).scalar_subquery()
)
_REVOKE = (
    update(certificates)
    .where(*_THIS_ONE, or_(_c.status == CertificateStatus.ACTIVE.value, _c.revocation_reason == ON_HOLD))
    .values(
        status=CertificateStatus.REVOKED.value,
        revoked_at=bindparam("now"),
        revocation_reason=bindparam("reason"),
    )
)
_RELEASE = (
    update(certificates)
    .where(*_THIS_ONE, _c.revocation_reason == ON_HOLD)
    .values(status=CertificateStatus.ACTIVE.value, revoked_at=None, revocation_reason=None)
)
_NUMBER_CHANGE = update(certificates).where(*_THIS_ONE).values(status_change=bindparam("number"))


def commit_certificate(batch: Batch, record: RecordedCertificate, event: Event, now: datetime) -> None:
    """Record a certificate and its event, together with those of the batch's other jobs."""
    batch.together(_record_certificates, (record, now))
    batch.together(insert_events, event)


def find_certificate(batch: Batch, issuer_key_id: str, serial_hex: str) -> RecordedCertificate | None:
    """One certificate by its issuer's key and its serial."""
    names = {"the_issuer_key_id": issuer_key_id, "the_serial_hex": serial_hex}
    row = batch.connection.execute(_FIND, names).first()
    return None if row is None else certificate_from_row(row)


def replayable(batch: Batch, otp_id: str, csr_fingerprint: str, since: datetime) -> RecordedCertificate | None:
    """The newest certificate of a password and a CSR issued after ``since``, unless it was revoked."""
    parameters = {"otp_id": otp_id, "csr_fingerprint": csr_fingerprint, "since": to_micros(since)}
    row = batch.connection.execute(_REPLAYABLE, parameters).first()
    return None if row is None else certificate_from_row(row)


def search_certificates(
    batch: Batch,
    *,
    serial_hex: str | None,
    subject: str | None,
    entity_id: str | None,
    status: str | None,
    limit: int,
    now: datetime,
) -> Sequence[RecordedCertificate]:
    """Newest first; see :meth:`kipuka_core.domain.ports.Store.search_certificates`."""
    wanted: list[ColumnElement[bool]] = []
    if serial_hex is not None:
        wanted.append(_c.serial_hex == serial_hex)
    if subject is not None:
        wanted.append(_c.id.in_(select(certificate_names.c.certificate_id).where(*_name_matches(subject))))
    if entity_id is not None:
        wanted.append(_c.entity_id == entity_id)
    if status is not None:
        wanted.extend(_has_status(status, now))
    found = CERTIFICATE_COLUMNS.where(*wanted).order_by(_c.issued_at.desc(), _c.id.desc()).limit(limit)
    return [certificate_from_row(row) for row in batch.connection.execute(found)]


def revoke_certificate(
    batch: Batch, issuer_key_id: str, serial_hex: str, *, reason: int, now: datetime, event: Event
) -> bool:
    """Mark a certificate revoked.

    The first time and reason stay, unless the reason was certificateHold (6). False when there is no such record.
    """
    this_one = {"the_issuer_key_id": issuer_key_id, "the_serial_hex": serial_hex}
    changed = batch.connection.execute(_REVOKE, {**this_one, "now": to_micros(now), "reason": reason}).rowcount
    if changed:
        _number_change(batch, this_one)
        batch.together(insert_events, event)
        return True
    return batch.connection.execute(_FIND, this_one).first() is not None


def release_certificate(batch: Batch, issuer_key_id: str, serial_hex: str, event: Event) -> bool:
    """Take a certificate off hold (RFC 5280 5.3.1, certificateHold); False when it is not on hold."""
    this_one = {"the_issuer_key_id": issuer_key_id, "the_serial_hex": serial_hex}
    if not batch.connection.execute(_RELEASE, this_one).rowcount:
        return False
    _number_change(batch, this_one)
    batch.together(insert_events, event)
    return True


def _number_change(batch: Batch, this_one: dict[str, str]) -> None:
    number = count_change(batch.connection, this_one["the_issuer_key_id"])
    batch.connection.execute(_NUMBER_CHANGE, {**this_one, "number": number})


def searchable_names(record: RecordedCertificate) -> set[str]:
    """What a search by subject finds a certificate by: its CNs and SAN values, in lower case."""
    values = [_without_kind(entry) for entry in record.sans]
    return {indexed(name.lower()) for name in (*_common_names(record.subject), *values)}


def _record_certificates(connection: Connection, items: list[tuple[RecordedCertificate, datetime]]) -> None:
    records = [record for record, _ in items]
    close_as_issued(connection, items)
    consume_reservations(connection, [record for record in records if record.otp_id is not None])
    try:
        connection.execute(_INSERT, [_to_row(record) for record in records])
    except IntegrityError:
        raise AlreadyIssued("the store has a certificate of this issuer with this serial, or of this request") from None
    names = [
        {"name": name, "the_issuer_key_id": record.issuer_key_id, "the_serial_hex": record.serial_hex}
        for record in records
        for name in searchable_names(record)
    ]
    if names:
        connection.execute(_INSERT_NAME, names)


def _name_matches(subject: str) -> tuple[ColumnElement[bool], ...]:
    name = certificate_names.c.name
    wanted = subject.lower()
    if not wanted.endswith("*"):
        return (name == indexed(wanted),)
    prefix = indexed(wanted[:-1])
    # A range instead of LIKE: it uses the index on every database, and % and _ are ordinary characters.
    return (name >= prefix, name < prefix + ABOVE_ALL_CHARACTERS)


def _has_status(status: str, now: datetime) -> tuple[ColumnElement[bool], ...]:
    active = _c.status == CertificateStatus.ACTIVE.value
    if status == "expired":
        return (active, _c.not_after <= to_micros(now))
    if status == CertificateStatus.ACTIVE:
        return (active, _c.not_after > to_micros(now))
    return (_c.status == CertificateStatus(status).value,)


def _without_kind(entry: str) -> str:
    kind, colon, value = entry.partition(":")
    return value if colon and kind in SAN_KINDS else entry


def _common_names(subject: str) -> Sequence[str]:
    if "\\" not in subject:  # RFC 4514 without escapes, as nearly all are: an X.509 parser costs more than the insert
        attributes = subject.replace("+", ",").split(",")
        return [text.strip()[3:] for text in attributes if text.strip()[:3].upper() == "CN="]
    try:
        return common_names(x509.Name.from_rfc4514_string(subject))
    except ValueError:
        return ()


def _to_row(record: RecordedCertificate) -> dict[str, Any]:
    return {
        "issuer_key_id": record.issuer_key_id,
        "serial_hex": record.serial_hex,
        "ca_id": record.ca_id,
        "label": record.label,
        "entity_id": record.entity_id,
        "subject": record.subject,
        "sans": json.dumps(record.sans, ensure_ascii=False),
        "key_type": record.key_type,
        "not_before": to_micros(record.not_before),
        "not_after": to_micros(record.not_after),
        "issued_at": to_micros(record.issued_at),
        "certificate_der": record.certificate_der,
        "status": record.status.value,
        "revoked_at": to_micros_or_none(record.revoked_at),
        "revocation_reason": record.revocation_reason,
        "request_id": record.request_id or None,
        "authenticator": record.authenticator,
        "otp_id": record.otp_id,
        "csr_fingerprint": record.csr_fingerprint,
    }


def certificate_from_row(row: Row[*tuple[Any, ...]]) -> RecordedCertificate:
    """A record from a row that begins with the columns of ``CERTIFICATE_COLUMNS``."""
    values = row._asdict()
    values.pop("id", None)
    return RecordedCertificate(
        **values
        | {
            "sans": tuple(json.loads(values["sans"])),
            "not_before": from_micros(values["not_before"]),
            "not_after": from_micros(values["not_after"]),
            "issued_at": from_micros(values["issued_at"]),
            "status": CertificateStatus(values["status"]),
            "revoked_at": from_micros_or_none(values["revoked_at"]),
            "request_id": values["request_id"] or "",
        }
    )
