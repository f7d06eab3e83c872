"""After the handshake in mode required: a connection whose client certificate is revoked ends as a failed handshake."""

from __future__ import annotations

import sqlite3
import ssl
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.domain.standing import CertificateStanding
from kipuka_core.edges.blocking import BlockingWork
from kipuka_core.edges.revocation import RevocationSettings, open_revocation
from kipuka_core.edges.store import SqlStore, open_store
from kipuka_core.edges.store.engine import default_sqlite_url
from kipuka_core.edges.tls.admission import refuse_revoked
from kipuka_core.testing.pki import Leaf, make_root
from tests.edges.revocation.revocation_kit import chain_of, crl_der

CA = make_root("Device CA")
GOOD, BAD = CA.leaf("good"), CA.leaf("bad")
ENDS = GOOD.certificate.not_valid_after_utc


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    async with open_store(default_sqlite_url(tmp_path)) as opened:
        yield opened


def extensions(leaf: Leaf | None) -> dict[str, Any]:
    chain = (
        [] if leaf is None else [ssl.DER_cert_to_PEM_cert(each.public_bytes(Encoding.DER)) for each in chain_of(leaf)]
    )
    return {"tls": {"client_cert_chain": chain, "client_cert_error": None}}


async def outcome(store: SqlStore, crl: Path, leaf: Leaf | None, *, soft_fail: bool = False, **more: Any) -> str:
    """``admitted``, or the code and text of the error."""
    settings = RevocationSettings(check="crl", crls=(crl,))
    async with open_revocation(settings, BlockingWork().run) as source:
        standing = CertificateStanding(store=store, source=source, soft_fail=soft_fail, own_issuers=tuple)
        try:
            await refuse_revoked(standing, **more)(extensions(leaf))
        except ssl.SSLError as error:  # what the listener counts as a failed handshake
            return f"{getattr(error, 'code', '')}: {error}"
    return "admitted"


async def test_a_revoked_certificate_is_named_with_a_code_for_the_cause(store: SqlStore, tmp_path: Path) -> None:
    crl = tmp_path / "ca.crl"
    crl.write_bytes(crl_der(CA, BAD))
    assert await outcome(store, crl, GOOD) == "admitted"
    assert await outcome(store, crl, BAD) == "certificate_revoked: the client certificate of CN=bad is revoked"


async def test_an_unknown_status_is_a_cause_of_its_own(store: SqlStore, tmp_path: Path) -> None:
    crl = tmp_path / "ca.crl"
    crl.write_bytes(crl_der(make_root("Another CA")))
    text = "revocation_unknown: it cannot be found out whether the client certificate of CN=good is revoked"
    assert await outcome(store, crl, GOOD) == text
    assert await outcome(store, crl, GOOD, soft_fail=True) == "admitted"
    assert await outcome(store, crl, GOOD, soft_fail=True, timeout_seconds=0.0) == text


async def test_without_a_certificate_that_counts_the_requests_are_left_to_the_application(
    store: SqlStore, tmp_path: Path
) -> None:
    crl = tmp_path / "ca.crl"
    crl.write_bytes(crl_der(CA, GOOD))
    assert await outcome(store, crl, None) == "admitted"
    late = ENDS + timedelta(seconds=1)
    assert await outcome(store, crl, GOOD, clock=lambda: late) == "admitted"
    assert "revoked" in await outcome(store, crl, GOOD, clock=lambda: datetime.now(UTC))


async def test_while_the_database_is_away_the_application_says_so(store: SqlStore, tmp_path: Path) -> None:
    crl = tmp_path / "ca.crl"
    crl.write_bytes(crl_der(CA))
    with closing(sqlite3.connect(tmp_path / "kipuka.db", timeout=30)) as database, database:
        database.execute("ALTER TABLE certificates RENAME TO certificates_away")
    assert await outcome(store, crl, GOOD) == "admitted"
