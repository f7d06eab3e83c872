"""A CA of the server's own with the real store behind it, as TLS material ``self`` is lent it."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from kipuka_builtin import tls_self
from kipuka_core import Approved, CaBackend, CaChain, Issued, ServerIdentity, Services, TlsMaterial, Unavailable, Wait
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.issuance import Issuance
from kipuka_core.domain.server_certificate import ServerCertificates
from kipuka_core.edges.events import Events
from kipuka_core.edges.store import SqlStore, default_sqlite_url, open_store
from kipuka_core.edges.tls.files import load_certificates
from kipuka_core.model.event import CertificateRevoked
from kipuka_core.model.fingerprints import issuer_key_id, serial_hex
from kipuka_core.model.record import RecordedCertificate
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.tls_material import serve_with
from kipuka_core.testing.services import make_services
from kipuka_core.wire.reader import WireReader
from tests.plugins.local_ca_kit import opened, write_ca

NAMES = ("est.example.com", "192.0.2.7")


class AwayCa(CaBackend):
    """A CA that says who it is and does not issue."""

    def __init__(self, chain: CaChain) -> None:
        self._chain = chain

    async def chain(self) -> CaChain:
        return self._chain

    async def issue(self, approved: Approved) -> Issued | Wait:
        raise Unavailable("the CA is out for lunch")


@dataclass
class OwnCa:
    """What a test turns: the time, the CAs, and whether anything may be changed."""

    directory: Path
    store: SqlStore
    cas: dict[str, CaBackend]
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    warnings: list[str] = field(default_factory=list)

    def certificates(self, *, dry_run: bool = False) -> ServerCertificates:
        guard = Guard(30)
        events = Events([], self.store, guard)
        return ServerCertificates(
            cas=self.cas,
            default_ca_id="main",
            guard=guard,
            issuance=Issuance(self.cas, guard, self.store, events),
            reader=WireReader(),
            clock=lambda: self.now,
            dry_run=dry_run,
        )

    def services(self, *, dry_run: bool = False, **fields: Any) -> Services:
        certificates = self.certificates(dry_run=dry_run)
        lent: dict[str, Any] = {
            "store": self.store,
            "clock": lambda: self.now,
            "warn": self.warnings.append,
            "ca_chain": certificates.chain,
            "issue_server_certificate": certificates.issue,
            "dry_run": dry_run,
        }
        return make_services(self.directory, **(lent | fields))

    def later(self, days: float) -> None:
        self.now += timedelta(days=days)

    async def take_ca_away(self) -> CaBackend:
        """Let the CA issue nothing; returns it, to be put back."""
        ca = self.cas["main"]
        self.cas["main"] = AwayCa(await ca.chain())
        return ca

    async def records(self) -> list[RecordedCertificate]:
        """Everything on record, oldest first."""
        return list(reversed(await self.store.search_certificates()))

    async def revoke(self, certificate: x509.Certificate) -> None:
        issuer, serial = (await self.cas["main"].chain()).issuing, serial_hex(certificate)
        event = CertificateRevoked(time=self.now, serial=serial, ca_id="main")
        assert await self.store.revoke_certificate(issuer_key_id(issuer), serial, reason=1, now=self.now, event=event)

    @asynccontextmanager
    async def material(self, *, dry_run: bool = False, **settings: Any) -> AsyncIterator[TlsMaterial]:
        """TLS material ``self`` on this CA, in one of any number of processes."""
        values = tls_self.TlsSelfSettings.model_validate({"names": NAMES} | settings)
        async with tls_self.PROVIDER.open(values, self.services(dry_run=dry_run)) as port:
            yield port


@asynccontextmanager
async def own_ca(
    directory: Path, authority: pki.Authority | None = None, *, now: datetime | None = None, **table: Any
) -> AsyncIterator[OwnCa]:
    """A directory with a database and the CA ``main``; ``table`` has further keys of its ``[[ca]]``."""
    files = write_ca(directory, authority or pki.make_root().subordinate())
    now = now or datetime.now(UTC)
    async with (
        open_store(default_sqlite_url(directory)) as store,
        opened(directory, files | table, clock=lambda: now) as backend,
    ):
        yield OwnCa(directory, store, {"main": backend}, now)


async def serving(port: TlsMaterial) -> x509.Certificate:
    """The certificate that a listener serves with this material; certificate and key fit."""
    return chain_of(await port.server_identity())[0]


def chain_of(identity: ServerIdentity) -> tuple[x509.Certificate, ...]:
    """What a client gets to see."""
    assert isinstance(serve_with(identity), ssl.SSLContext)
    return load_certificates(identity.certificate_file)


def files_in(directory: Path) -> set[str]:
    return {entry.name for entry in os.scandir(directory)}
