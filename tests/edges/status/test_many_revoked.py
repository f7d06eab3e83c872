"""A hundred thousand revoked certificates: a further one costs one entry, and no certificate is read for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from sqlalchemy import text

from kipuka_core.edges.status.crls import CrlPublisher
from kipuka_core.edges.store.moments import to_micros
from kipuka_core.model.status import StatusChange
from tests.edges.status.status_kit import StatusSite, run_blocking

COUNT = 100_000


async def fill(site: StatusSite) -> None:
    """Rows as they are after as many revocations."""
    await site.on_record("f0f0")
    now = to_micros(site.clock())

    def rows(batch: Any) -> None:
        columns = [row[1] for row in batch.connection.exec_driver_sql("PRAGMA table_info(certificates)")]
        kept = ", ".join(name for name in columns if name not in {"id", "serial_hex", "request_id"})
        batch.connection.execute(
            text(
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {COUNT})"
                f" INSERT INTO certificates (serial_hex, {kept})"
                f" SELECT printf('%x', i + 1152921504606846976), {kept} FROM certificates, n WHERE serial_hex = 'f0f0'"
            )
        )
        batch.connection.execute(
            text(
                "UPDATE certificates SET status = 'revoked', revoked_at = :now, revocation_reason = 1,"
                " status_change = 1 WHERE serial_hex != 'f0f0'"
            ),
            {"now": now},
        )
        batch.connection.execute(
            text("INSERT INTO revocation_changes (issuer_key_id, changes) VALUES (:key, 1)"), {"key": site.key_id}
        )

    await site.store._write(rows)


class Watched:
    """A store that tells how many changes were read."""

    def __init__(self, site: StatusSite) -> None:
        self._store = site.store
        self.read: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def status_changes(self, issuer_key_id: str, *, after: int, ended_since: datetime) -> Sequence[StatusChange]:
        found = await self._store.status_changes(issuer_key_id, after=after, ended_since=ended_since)
        self.read.append(len(found))
        return found

    async def find_certificate(self, *_: Any) -> None:
        raise AssertionError("a CRL is made without reading a certificate")

    search_certificates = find_certificate


async def test_a_further_revocation_reads_one_row(site: StatusSite) -> None:
    await fill(site)
    watched = Watched(site)
    publisher = CrlPublisher(
        "default", site.authority, store=watched, guard=site.guard, run_blocking=run_blocking, clock=site.clock
    )
    first = await publisher.current()
    assert first.facts.entries == COUNT
    await site.revoke("f0f0")
    second = await publisher.current()
    assert second.facts.entries == COUNT + 1
    assert watched.read == [COUNT, 1]
    crl = x509.load_der_x509_crl(second.der)
    assert len(crl) == COUNT + 1
    found = crl.get_revoked_certificate_by_serial_number(0xF0F0)
    assert found is not None
    assert (await site.publisher().current()).der == second.der  # another process takes it as it is
