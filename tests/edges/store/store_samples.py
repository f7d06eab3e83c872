"""Rows for store tests: what a test does not care about has a default."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, create_engine, make_url

from kipuka_core.domain.ports import Store
from kipuka_core.edges.store.writer import JobThread
from kipuka_core.model.event import CertificateIssued, EnrolmentWaiting, OtpCreated, RequestDecided
from kipuka_core.model.record import OneTimePassword, RecordedCertificate, RequestState, Reservation, StoredRequest
from kipuka_core.testing.samples import NOW

ISSUER = "a1" * 32
FINGERPRINT = "f0" * 32
POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.interop)
DATABASES = ["sqlite", POSTGRESQL]
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For what only SQLite does, or says in its own words."""
on_postgresql = pytest.mark.parametrize("database", [POSTGRESQL], indirect=True)


def engine_of(url: str) -> Engine:
    """An engine beside those of a store."""
    parsed = make_url(url)
    driver = "sqlite" if parsed.drivername == "sqlite" else "postgresql+psycopg"
    return create_engine(parsed.set(drivername=driver), poolclass=NullPool)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> datetime:
        self.now += timedelta(**duration)
        return self.now


def engine_behind(run: Callable[..., Any]) -> Engine:
    """The engine of the thread that a store's ``_read`` or ``_write`` runs jobs in."""
    assert inspect.ismethod(run)
    thread = run.__self__
    assert isinstance(thread, JobThread)
    return thread._engine


def record(serial_hex: str = "1", **fields: Any) -> RecordedCertificate:
    values: dict[str, Any] = {
        "issuer_key_id": ISSUER,
        "serial_hex": serial_hex,
        "ca_id": "default",
        "label": "",
        "entity_id": "device",
        "subject": "CN=device,O=Example",
        "sans": ("dns:device.example",),
        "key_type": "ecdsa256",
        "not_before": NOW,
        "not_after": NOW + timedelta(days=365),
        "issued_at": NOW,
        "certificate_der": b"certificate " + serial_hex.encode(),
        "request_id": f"request-{serial_hex}",
        "authenticator": "otp",
        "csr_fingerprint": FINGERPRINT,
    }
    return RecordedCertificate(**(values | fields))


def issued_event(certificate: RecordedCertificate) -> CertificateIssued:
    return CertificateIssued(
        time=certificate.issued_at,
        request_id=certificate.request_id,
        actor=certificate.entity_id,
        operation="simpleenroll",
        authenticator=certificate.authenticator,
        ca_id=certificate.ca_id,
        serial=certificate.serial_hex,
        subject=certificate.subject,
        not_after=certificate.not_after.isoformat(),
        key_type=certificate.key_type,
    )


def otp(otp_id: str = "otp-1", **fields: Any) -> OneTimePassword:
    values: dict[str, Any] = {
        "id": otp_id,
        "token_hash": hashlib.sha256(otp_id.encode()).digest(),
        "entity_id": "device",
        "label": None,
        "created_at": NOW,
        "expires_at": NOW + timedelta(hours=24),
        "max_usage": 1,
    }
    return OneTimePassword(**(values | fields))


def otp_event(otp_id: str = "otp-1") -> OtpCreated:
    return OtpCreated(time=NOW, actor="operator", otp_id=otp_id, entity_id="device", expires_at="2030-01-02")


def waiting(request_id: str = "first", **fields: Any) -> StoredRequest:
    values: dict[str, Any] = {
        "id": request_id,
        "key": "key",
        "state": RequestState.WAITING,
        "operation": "simpleenroll",
        "label": "",
        "entity_id": "device",
        "authenticator": "otp",
        "names": ("dns:device.example",),
        "csr_der": b"csr",
        "reason": "an operator decides",
        "created_at": NOW,
    }
    return StoredRequest(**(values | fields))


def waiting_event(request_id: str = "first") -> EnrolmentWaiting:
    return EnrolmentWaiting(time=NOW, request_id=request_id, operation="simpleenroll", authenticator="otp")


def rejected_event(request_id: str = "first") -> RequestDecided:
    return RequestDecided(time=NOW, request_id=request_id, actor="operator", decision="rejected")


async def reserve(store: Store, request_id: str = "first", **fields: Any) -> Reservation:
    values: dict[str, Any] = {"label": "", "csr_fingerprint": FINGERPRINT, "now": NOW, "lease_seconds": 60}
    otp_id = fields.pop("otp_id", "otp-1")
    return await store.reserve(otp_id, request_id=request_id, **(values | fields))


async def usage_count(store: Store, otp_id: str = "otp-1") -> int:
    return next(each.usage_count for each in await store.list_otps() if each.id == otp_id)
