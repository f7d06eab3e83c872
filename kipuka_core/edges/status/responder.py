"""The responder of one issuer's key: its own key and certificate, renewed before they end, and its signatures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from kipuka_core.domain.ca_ports import RunBlocking, StatusAuthority
from kipuka_core.domain.responder_certificate import VALIDITY, ResponderCertificates
from kipuka_core.edges.log import get_logger
from kipuka_core.edges.status.crls import trouble_of
from kipuka_core.edges.status.signing import sign
from kipuka_core.errors import KipukaError, Unavailable
from kipuka_core.model.signing_hash import SigningHash, signing_hash
from kipuka_core.wire.signature_algorithms import signature_algorithm

log = get_logger()

_RENEW_AFTER = VALIDITY / 2
_PAUSE_SECONDS = 2.0
"""After a failure nobody tries again for this long."""
_RSA_BITS = 2048
_WITHOUT_CHOICE = (
    (ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey),
    (ed448.Ed448PublicKey, ed448.Ed448PrivateKey),
    (mldsa.MLDSA44PublicKey, mldsa.MLDSA44PrivateKey),
    (mldsa.MLDSA65PublicKey, mldsa.MLDSA65PrivateKey),
    (mldsa.MLDSA87PublicKey, mldsa.MLDSA87PrivateKey),
)


@dataclass(frozen=True, slots=True)
class ResponderIdentity:
    """A key that is nowhere but in this process, and its certificate."""

    key: CertificateIssuerPrivateKeyTypes
    certificate: x509.Certificate
    hash_algorithm: SigningHash | None
    algorithm_der: bytes
    key_hash: bytes
    """SHA-1 of the public key, as answers name the responder (RFC 6960 4.2.1)."""
    renew_at: datetime


class ResponderUnavailable(Unavailable):
    """There is no certificate to answer with; ``detail`` is for the log."""

    code = "ocsp_unavailable"

    def __init__(self, detail: str) -> None:
        super().__init__("the OCSP responder has no certificate")
        self.detail = detail


class Responder:
    """Has a certificate when it is needed. Safe for any number of requests at once."""

    def __init__(
        self,
        ca_id: str,
        authority: StatusAuthority,
        certificates: ResponderCertificates,
        *,
        run_blocking: RunBlocking,
        clock: Callable[[], datetime],
    ) -> None:
        self.authority = authority
        self._ca_id = ca_id
        self._certificates = certificates
        self._run_blocking = run_blocking
        self._clock = clock
        self._identity: ResponderIdentity | None = None
        self._lock = asyncio.Lock()
        self._trouble = ""
        self._pause_until = 0.0

    @property
    def is_in_use(self) -> bool:
        """Whether somebody has asked, so that its certificate is kept renewed."""
        return self._identity is not None

    async def identity(self) -> ResponderIdentity:
        """Key and certificate, the old ones while they are good and no new ones can be had. Raises Unavailable."""
        async with self._lock:
            known, now = self._identity, self._clock()
            if known is not None and now < known.renew_at:
                return known
            if time.monotonic() >= self._pause_until:
                try:
                    self._identity, self._trouble = await self._made(), ""
                except KipukaError as error:
                    self._pause_until = time.monotonic() + _PAUSE_SECONDS
                    self._note(error)
                else:
                    return self._identity
            if known is not None and now < known.certificate.not_valid_after_utc:
                return known
            raise ResponderUnavailable(self._trouble)

    async def sign(self, identity: ResponderIdentity, data: bytes) -> bytes:
        """The signature; a slow one in a worker thread. Raises Unavailable."""
        if isinstance(identity.key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
            return sign(identity.key, identity.hash_algorithm, data)
        signature: bytes = await self._run_blocking(sign, identity.key, identity.hash_algorithm, data)
        return signature

    async def _made(self) -> ResponderIdentity:
        key = await self._run_blocking(_key_like, self.authority.issuer.public_key())
        certificate = await self._certificates.issue(self._ca_id, self.authority, key)
        hash_algorithm = signing_hash(key)
        end = certificate.not_valid_after_utc
        log.info("OCSP responder certificate issued", ca=self._ca_id, until=end.isoformat())
        return ResponderIdentity(
            key=key,
            certificate=certificate,
            hash_algorithm=hash_algorithm,
            algorithm_der=signature_algorithm(key.public_key(), hash_algorithm.name if hash_algorithm else None),
            key_hash=x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest,
            renew_at=min(self._clock() + _RENEW_AFTER, end),
        )

    def _note(self, error: KipukaError) -> None:
        trouble = trouble_of(error)
        if trouble != self._trouble:
            self._trouble = trouble
            log.error("the OCSP responder gets no certificate", ca=self._ca_id, problem=trouble)


def _key_like(public_key: object) -> CertificateIssuerPrivateKeyTypes:
    """A new key of the CA's own kind: who can verify the certificates can verify the answers. RSA takes a while."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return ec.generate_private_key(public_key.curve)
    for public, private in _WITHOUT_CHOICE:
        if isinstance(public_key, public):
            return private.generate()
    return rsa.generate_private_key(65537, _RSA_BITS)
