"""The certificate of kipuka's own OCSP responder: the one way to the usage OCSPSigning in kipuka (RFC 6960 4.2.2.2).

It is put together here and from no request, signed by the very key whose certificates the responder speaks of, and
recorded before it is used, like everything that a CA of kipuka signs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kipuka_core.domain.ca_ports import RunBlocking, StatusAuthority
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.ports import EventHub, Store
from kipuka_core.domain.status_ports import authority_key_id
from kipuka_core.domain.template import BACKDATED_BY
from kipuka_core.errors import PostcheckFailed, Unavailable
from kipuka_core.model.event import CertificateIssued
from kipuka_core.model.fingerprints import issuer_key_id, serial_hex
from kipuka_core.model.key_type import describe_key, key_type_of
from kipuka_core.model.key_usage import key_usage_extension
from kipuka_core.model.record import RecordedCertificate

ENTITY_ID = "kipuka-ocsp"
"""Whose certificates they are, in the store and in events."""
OPERATION = "ocsp_responder"
VALIDITY = timedelta(days=7)
"""Short, because nobody asks whether it was revoked (id-pkix-ocsp-nocheck)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponderCertificates:
    """Has them signed, held against what was wanted, announced and recorded (invariant 2)."""

    guard: Guard
    store: Store
    events: EventHub
    run_blocking: RunBlocking
    clock: Callable[[], datetime]

    async def issue(
        self, ca_id: str, authority: StatusAuthority, key: CertificateIssuerPrivateKeyTypes
    ) -> x509.Certificate:
        """A certificate for this key.

        Raises PluginFailed, PostcheckFailed, Unavailable or StoreUnavailable; then nothing was recorded.
        """
        now, public_key = self.clock(), cast("CertificatePublicKeyTypes", key.public_key())
        if now >= authority.issuer.not_valid_after_utc:
            raise Unavailable("the CA's own certificate has ended", code="ca_ended")
        builder = _builder(authority.issuer, public_key, now)
        run = authority.signer.run_blocking or self.run_blocking

        async def sign() -> x509.Certificate:
            signed: x509.Certificate = await run(builder.sign, authority.signer.private_key, authority.hash_algorithm)
            return signed

        certificate = await self.guard.call(ca_id, sign, expect=x509.Certificate)
        try:
            certificate.verify_directly_issued_by(authority.issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise PostcheckFailed("the certificate of the OCSP responder is not signed by the CA") from error
        event = _event(certificate, ca_id, now)
        await self.events.announce(event)
        await self.store.commit(_record(certificate, authority.issuer, event), event)
        return certificate


def _builder(issuer: x509.Certificate, key: CertificatePublicKeyTypes, now: datetime) -> x509.CertificateBuilder:
    not_before = max(now - BACKDATED_BY, issuer.not_valid_before_utc).replace(microsecond=0)
    issuer_names = issuer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    of_whom = str(issuer_names[0].value)[:50] if issuer_names else "CA"
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"OCSP of {of_whom}")]))
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(min(now + VALIDITY, issuer.not_valid_after_utc).replace(microsecond=0))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage_extension({"digitalSignature"}), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
        .add_extension(x509.OCSPNoCheck(), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(authority_key_id(issuer), critical=False)
    )


def _event(certificate: x509.Certificate, ca_id: str, now: datetime) -> CertificateIssued:
    public_key = certificate.public_key()
    return CertificateIssued(
        time=now,
        actor=ENTITY_ID,
        operation=OPERATION,
        authenticator=ENTITY_ID,
        ca_id=ca_id,
        serial=serial_hex(certificate),
        subject=certificate.subject.rfc4514_string(),
        not_after=certificate.not_valid_after_utc.isoformat(),
        key_type=key_type_of(public_key) or describe_key(public_key),
    )


def _record(certificate: x509.Certificate, issuer: x509.Certificate, event: CertificateIssued) -> RecordedCertificate:
    return RecordedCertificate(
        issuer_key_id=issuer_key_id(issuer),
        serial_hex=event.serial,
        ca_id=event.ca_id,
        label="",
        entity_id=ENTITY_ID,
        subject=event.subject,
        sans=(),
        key_type=event.key_type,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        issued_at=event.time,
        certificate_der=certificate.public_bytes(Encoding.DER),
        authenticator=ENTITY_ID,
    )
