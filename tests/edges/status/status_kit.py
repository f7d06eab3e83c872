"""A store, an issuer with a key, and what tells the status of its certificates, on a clock that tests move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlalchemy import text

from kipuka_core.domain.ca_ports import Signer, StatusAuthority
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.responder_certificate import ResponderCertificates
from kipuka_core.domain.status_ports import StatusTimes
from kipuka_core.edges.events import ConfiguredSink, Events
from kipuka_core.edges.status.crls import CrlPublisher
from kipuka_core.edges.status.ocsp import OcspAnswer, OcspDesk
from kipuka_core.edges.status.responder import Responder
from kipuka_core.edges.store import SqlStore
from kipuka_core.edges.store.revocations import count_change
from kipuka_core.errors import Unavailable
from kipuka_core.model.event import CertificateRevoked
from kipuka_core.model.fingerprints import issuer_key_id
from kipuka_core.model.signing_hash import signing_hash
from kipuka_core.testing.pki import Authority, make_root
from tests.edges.store.store_samples import Clock, issued_event, record

VALIDITY, REFRESH = timedelta(days=7), timedelta(days=1)
TIMES = StatusTimes(crl_validity=VALIDITY, crl_refresh=REFRESH, ocsp_validity=timedelta(hours=1))


async def run_blocking(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(function, *arguments)


@dataclass
class Token:
    """Where the issuer's key lives; it can be away."""

    is_away: bool = False
    signatures: int = 0

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.is_away:
            raise Unavailable("the token is away")
        self.signatures += 1
        return await asyncio.to_thread(function, *arguments)


@dataclass
class StatusSite:
    """One issuer. ``authority`` is what a CA backend would offer."""

    store: SqlStore
    clock: Clock
    issuer: Authority = field(default_factory=make_root)
    token: Token = field(default_factory=Token)
    sinks: Sequence[ConfiguredSink] = ()
    times: StatusTimes = TIMES
    guard: Guard = field(default_factory=Guard)

    @property
    def key_id(self) -> str:
        return issuer_key_id(self.issuer.certificate)

    @property
    def authority(self) -> StatusAuthority:
        return StatusAuthority(
            issuer=self.issuer.certificate,
            signer=Signer(self.issuer.key, run_blocking=self.token.run),
            hash_algorithm=signing_hash(self.issuer.key),
            times=self.times,
        )

    def publisher(self, store: SqlStore | None = None) -> CrlPublisher:
        return CrlPublisher(
            "default",
            self.authority,
            store=store or self.store,
            guard=self.guard,
            run_blocking=run_blocking,
            clock=self.clock,
        )

    def responder(self) -> Responder:
        certificates = ResponderCertificates(
            guard=self.guard,
            store=self.store,
            events=Events(self.sinks, self.store, self.guard),
            run_blocking=run_blocking,
            clock=self.clock,
        )
        return Responder("default", self.authority, certificates, run_blocking=run_blocking, clock=self.clock)

    def desk(self, responder: Responder | None = None) -> OcspDesk:
        return OcspDesk({"default": [responder or self.responder()]}, self.store, self.clock)

    async def issued(self, number: int, *, not_after: datetime | None = None) -> x509.Certificate:
        """A certificate on record. ``not_after`` is what the record says."""
        leaf = self.issuer.leaf(f"device-{number}").certificate
        await self.on_record(f"{leaf.serial_number:x}", not_after=not_after)
        return leaf

    async def on_record(self, serial_hex: str, *, not_after: datetime | None = None) -> None:
        more = {"not_after": not_after} if not_after else {}
        row = record(serial_hex, issuer_key_id=self.key_id, request_id=f"of-{serial_hex}", **more)
        await self.store.commit(row, issued_event(row))

    async def revoke(self, serial: int | str, reason: int = 1, *, store: SqlStore | None = None) -> None:
        serial_hex = serial if isinstance(serial, str) else f"{serial:x}"
        event = CertificateRevoked(time=self.clock(), serial=serial_hex, ca_id="default")
        done = await (store or self.store).revoke_certificate(
            self.key_id, serial_hex, reason=reason, now=self.clock(), event=event
        )
        assert done

    async def release(self, serial: int) -> None:
        """Take a hold back, as whatever does so has to: counted, in one transaction."""

        def released(batch: Any) -> None:
            number = count_change(batch.connection, self.key_id)
            statement = (
                "UPDATE certificates SET status = 'active', revoked_at = NULL, revocation_reason = NULL,"
                " status_change = :number WHERE serial_hex = :serial"
            )
            batch.connection.execute(text(statement), {"number": number, "serial": f"{serial:x}"})

        await self.store._write(released)


def read_crl(der: bytes, issuer: Authority) -> x509.CertificateRevocationList:
    """A CRL whose signature holds."""
    crl = x509.load_der_x509_crl(der)
    assert crl.is_signature_valid(issuer.certificate.public_key())  # type: ignore[arg-type]
    return crl


def serials(crl: x509.CertificateRevocationList) -> set[int]:
    return {entry.serial_number for entry in crl}


def ocsp_request(
    leaf: x509.Certificate,
    issuer: Authority,
    *,
    nonce: bytes | None = None,
    algorithm: hashes.HashAlgorithm | None = None,
) -> bytes:
    algorithm = algorithm or hashes.SHA1()
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer.certificate, algorithm)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def read_ocsp(answer: OcspAnswer, issuer: Authority) -> ocsp.OCSPResponse:
    """A successful answer whose signature and signer hold (RFC 6960 4.2.2.2)."""
    response = ocsp.load_der_ocsp_response(answer.der)
    assert response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    (signer,) = response.certificates
    signer.verify_directly_issued_by(issuer.certificate)
    usages = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    return response
