"""Names as clients choose them: long ones, and characters that one of the databases does not take."""

import os
from typing import Any

import pytest

from kipuka_core.domain.ports import LockoutLimits
from kipuka_core.edges.store import SqlStore
from kipuka_core.model.event import EnrolmentRefused
from kipuka_core.model.search import CertificateQuery, EventQuery, PageWanted
from kipuka_core.testing.samples import NOW
from tests.edges.store.store_samples import ISSUER, issued_event, otp, otp_event, record

LIMITS = LockoutLimits(max_failures=2, failure_window_seconds=60, lockout_seconds=600, address_failures=5)
LONG = os.urandom(4000).hex()
"""Longer than what an index of PostgreSQL takes, and no compression makes it short enough."""


async def found(store: SqlStore, **query: Any) -> list[str]:
    page = await store.page_of_certificates(CertificateQuery(**query), PageWanted())
    return [each.serial_hex for each in page.items]


@pytest.mark.parametrize("name", [LONG, "ü" * 1500 + LONG, "💡" * 700])
async def test_a_name_of_any_length_is_recorded_and_found(store: SqlStore, name: str) -> None:
    certificate = record("1", subject=f"OU={name},CN=x", sans=(f"uri:{name}", "dns:short"))
    await store.commit(certificate, issued_event(certificate))
    assert await store.find_certificate(ISSUER, "1") == certificate
    for subject in (name, name.title(), name[:100] + "*", "short"):
        assert await found(store, subject=subject) == ["1"], subject[:10]
    assert await found(store, subject="short" + name) == []
    for target in (certificate.subject, "1"):
        page = await store.page_of_events(EventQuery(target=target), PageWanted())
        assert [fact["subject"] for fact in page.items] == [certificate.subject]


async def test_an_actor_of_any_length_is_recorded_and_found(store: SqlStore) -> None:
    await store.add_event(EnrolmentRefused(time=NOW, actor=LONG, code="x"))
    page = await store.page_of_events(EventQuery(actor=LONG), PageWanted())
    assert [fact["actor"] for fact in page.items] == [LONG]


async def test_a_nul_finds_nothing_and_breaks_nothing(store: SqlStore) -> None:
    certificate = record("1")
    await store.commit(certificate, issued_event(certificate))
    await store.add_otp(otp(), otp_event())
    for field in ("subject", "serial_hex", "identity", "label", "ca_id"):
        assert await found(store, **{field: "\0"}) == []
    for field in ("event", "actor", "target"):
        query: dict[str, Any] = {field: "\0"}
        assert (await store.page_of_events(EventQuery(**query), PageWanted())).items == []
    assert (await store.page_of_otps(PageWanted(), entity_id="dev\0ice", usable_at=None)).items == []
    assert await store.get_otp("otp-1\0") is None
    assert await store.get_request("\0") is None
    assert not await store.knows_otp_entity("device\0")
    assert await store.locked_until("192.0.2.1", "\0", NOW) is None
    assert await store.count_failure("192.0.2.1", "\0", limits=LIMITS, now=NOW) is None
    assert await store.count_failure("192.0.2.1", "\0", limits=LIMITS, now=NOW) is not None
    await store.add_event(EnrolmentRefused(time=NOW, actor="a\0b", code="x"))
    assert (await store.search_events(limit=1))[0]["actor"] == "a\0b"
