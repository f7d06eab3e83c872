"""Verify a client certificate again: what OpenSSL leaves out when it resumes a session (invariant 9).

A resumed session carries the certificate of the handshake that made it, whatever happened since: the anchor may be
gone, the certificate expired. Its verified chain is not kept either. So the leaf is verified anew, against what is
trusted now.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

_MAX_INTERMEDIATES = 256
_INVALID_PURPOSE = 26
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class NoLongerTrusted(Exception):
    """The certificate does not verify (any more); the text says why, ``verify_code`` is OpenSSL's (X509_V_ERR_*)."""

    def __init__(self, reason: str, verify_code: int = _INVALID_PURPOSE) -> None:
        super().__init__(reason)
        self.verify_code = verify_code


class ChainVerifier:
    """Verifies client certificates by the rules of a fresh handshake: partial chains, time, purpose clientAuth.

    Intermediates are learned from chains that fresh handshakes verified, because a resumed session has only its leaf.
    """

    def __init__(self, anchors: Sequence[x509.Certificate]) -> None:
        self._intermediates: OrderedDict[bytes, crypto.X509] = OrderedDict()
        self.trust(anchors)

    def trust(self, anchors: Sequence[x509.Certificate]) -> None:
        """From now on trust these and no others."""
        self._anchors = [crypto.X509.from_cryptography(anchor) for anchor in anchors]
        self._store_at(datetime.now(UTC))  # what cannot be used is an error here

    def learn(self, chain_der: Sequence[bytes]) -> None:
        """Remember the intermediates of a verified chain (leaf first, anchor last); the oldest are forgotten."""
        for der in chain_der[1:-1]:
            if der not in self._intermediates:
                self._intermediates[der] = crypto.load_certificate(crypto.FILETYPE_ASN1, der)
            self._intermediates.move_to_end(der)
        while len(self._intermediates) > _MAX_INTERMEDIATES:
            self._intermediates.popitem(last=False)

    def verify(self, leaf_der: bytes, now: datetime) -> tuple[bytes, ...]:
        """The chain from this leaf to an anchor, DER, leaf first. Raises NoLongerTrusted."""
        leaf = crypto.load_certificate(crypto.FILETYPE_ASN1, leaf_der)
        context = crypto.X509StoreContext(self._store_at(now), leaf, list(self._intermediates.values()))
        try:
            verified = context.get_verified_chain()
        except crypto.X509StoreContextError as error:
            raise NoLongerTrusted(str(error), error.errors[0]) from error
        chain = [certificate.to_cryptography() for certificate in verified]
        _check_purpose(chain)
        return tuple(certificate.public_bytes(serialization.Encoding.DER) for certificate in chain)

    def _store_at(self, now: datetime) -> crypto.X509Store:
        """A store for one verification: OpenSSL takes the time of a store once and ignores every later one."""
        store = crypto.X509Store()
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        store.set_time(now)
        for anchor in self._anchors:
            store.add_cert(anchor)
        return store


def _check_purpose(chain: Sequence[x509.Certificate]) -> None:
    """As OpenSSL's purpose ``sslclient``: pyOpenSSL cannot set a purpose on its store."""
    for certificate in chain:
        usage = _extension(certificate, x509.ExtendedKeyUsage)
        if usage is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
            raise NoLongerTrusted(f"{certificate.subject.rfc4514_string()} is not for client authentication")
    key_usage = _extension(chain[0], x509.KeyUsage)
    if key_usage is not None and not (key_usage.digital_signature or key_usage.key_agreement):
        raise NoLongerTrusted("the key usage of the client's certificate allows no signature")


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
