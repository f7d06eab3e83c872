"""One CRL (RFC 5280 5): read, checked, and indexed by serial number.

All of it is slow for long CRLs and runs in worker threads, except :meth:`Crl.says`, which takes the same time however
many entries there are. (cryptography's own look-up goes through the list.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from kipuka_core.edges.revocation.asked import CLOCK_SKEW, MALFORMED, Asked
from kipuka_core.edges.revocation.signatures import weak_hash

MAX_CRL_BYTES = 64 * 1024 * 1024
_PEM = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
_BEGIN = re.compile(rb"-----BEGIN X509 CRL-----")
_READ_EXTENSIONS = {
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.CRL_NUMBER,
    ExtensionOID.ISSUING_DISTRIBUTION_POINT,
}
_READ_ENTRY_EXTENSIONS = {CRLEntryExtensionOID.CRL_REASON, CRLEntryExtensionOID.INVALIDITY_DATE}


class CrlUnusable(ValueError):
    """Bytes that are no CRL which could say anything; the text is what is wrong, to follow the source's name."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which certificates of its issuer a CRL is about (RFC 5280 5.2.5)."""

    only_users: bool = False
    only_cas: bool = False
    names: tuple[x509.GeneralName, ...] | None = None
    """Of its distribution point; None: it is for all."""

    def covers(self, asked: Asked) -> bool:
        """RFC 5280 6.3.3 (b)(2)."""
        if asked.is_ca is None and (self.only_users or self.only_cas):
            return False
        if (self.only_users and asked.is_ca) or (self.only_cas and not asked.is_ca):
            return False
        if self.names is None:
            return True
        own: set[x509.GeneralName] = {name for point in asked.points if not point.is_partial for name in point.names}
        # Every certificate has one more point, under its issuer's name (RFC 5280 6.3.3, last paragraph).
        return not own.isdisjoint(self.names) or x509.DirectoryName(asked.certificate.issuer) in self.names


@dataclass(frozen=True, slots=True)
class Crl:
    """A CRL that has been read. Times are aware."""

    issuer: x509.Name
    key_id: bytes | None
    """Of the issuer's key, where the CRL says it."""
    this_update: datetime
    next_update: datetime | None
    number: int | None
    """CRLNumber (RFC 5280 5.2.3)."""
    revoked_serials: frozenset[int]
    scope: Scope
    signed: x509.CertificateRevocationList = field(repr=False)
    _signers: dict[bytes, str] = field(default_factory=dict, repr=False)

    def is_for(self, asked: Asked) -> bool:
        """Whether it is of the certificate's issuer, by name and key, and the certificate is in its scope."""
        if self.issuer != asked.issuer.subject:
            return False
        subject_key_id = _subject_key_id(asked.issuer)
        if self.key_id is not None and subject_key_id is not None and self.key_id != subject_key_id:
            return False  # of a former or next key of the same CA
        return self.scope.covers(asked)

    def problem_at(self, now: datetime) -> str:
        """Why this CRL says nothing ``now``; empty when it is current."""
        if self.this_update > now + CLOCK_SKEW:
            return f"is a CRL of the future (thisUpdate {self.this_update:%Y-%m-%d %H:%M:%S} UTC)"
        if self.next_update is not None and self.next_update < now:
            return f"is a CRL that has ended (nextUpdate {self.next_update:%Y-%m-%d %H:%M:%S} UTC)"
        return ""

    def is_newer_than(self, other: Crl) -> bool:
        """By thisUpdate or CRLNumber; both are of the same issuer and scope."""
        if self.number is not None and other.number is not None and self.number > other.number:
            return True
        return self.this_update > other.this_update

    def known_problem_with(self, issuer: x509.Certificate) -> str | None:
        """What :meth:`problem_with` has found before; None when it has to be called."""
        return self._signers.get(_fingerprint(issuer))

    def problem_with(self, issuer: x509.Certificate) -> str:
        """Why ``issuer`` did not or must not sign this CRL; empty when it did. Slow, and remembered."""
        problem = _signature_problem(self.signed, issuer)
        self._signers[_fingerprint(issuer)] = problem
        return problem

    def says(self, certificate: x509.Certificate) -> bool:
        """Whether the certificate is listed as revoked."""
        return certificate.serial_number in self.revoked_serials


def parse_crls(data: bytes) -> tuple[Crl, ...]:
    """Every CRL of a file or answer: PEM, one or several, or one in DER.

    Raises CrlUnusable when one of them cannot be read, is a delta CRL, is indirect, covers only some reasons or
    attribute certificates, or has a critical extension that is unknown here.
    """
    blocks = _PEM.findall(data)
    # A file that was cut off would be fewer CRLs, and no error.
    if blocks and (begun := len(_BEGIN.findall(data))) != len(blocks):
        raise CrlUnusable(f"holds {begun} CRLs, of which only {len(blocks)} can be read")
    try:
        if blocks:
            return tuple(_parsed(x509.load_pem_x509_crl(block)) for block in blocks)
        return (_parsed(x509.load_der_x509_crl(data)),)
    except CrlUnusable:
        raise
    except (*MALFORMED, UnsupportedAlgorithm) as error:
        raise CrlUnusable("holds no CRL that can be read, PEM or DER") from error


def _parsed(crl: x509.CertificateRevocationList) -> Crl:
    extensions = crl.extensions
    for extension in extensions:
        if extension.oid == ExtensionOID.DELTA_CRL_INDICATOR:
            raise CrlUnusable("is a delta CRL; only complete CRLs are read")
        if extension.critical and extension.oid not in _READ_EXTENSIONS:
            raise CrlUnusable(f"has a critical extension that is unknown here ({extension.oid.dotted_string})")
    weak = weak_hash(crl.signature_hash_algorithm)
    if weak is not None:
        raise CrlUnusable(f"is signed with {weak}, which is too weak")
    return Crl(
        issuer=crl.issuer,
        key_id=_authority_key_id(extensions),
        this_update=crl.last_update_utc,
        next_update=crl.next_update_utc,
        number=_number(extensions),
        revoked_serials=frozenset(entry.serial_number for entry in crl if _is_revoked(entry)),
        scope=_scope(extensions),
        signed=crl,
    )


def _is_revoked(entry: x509.RevokedCertificate) -> bool:
    """Also on hold: as long as it lasts, the certificate does not count. Raises CrlUnusable (RFC 5280 5.3)."""
    reason = None
    for extension in entry.extensions:
        if extension.critical and extension.oid not in _READ_ENTRY_EXTENSIONS:
            raise CrlUnusable(f"has an entry with a critical extension unknown here ({extension.oid.dotted_string})")
        if isinstance(extension.value, x509.CRLReason):
            reason = extension.value.reason
    return reason is not x509.ReasonFlags.remove_from_crl


def _scope(extensions: x509.Extensions) -> Scope:
    try:
        point = extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return Scope()
    if point.indirect_crl:
        raise CrlUnusable("is an indirect CRL; only those of the certificates' own issuer are read")
    if point.only_some_reasons is not None:
        raise CrlUnusable("covers only some reasons of revocation")
    if point.only_contains_attribute_certs:
        raise CrlUnusable("is about attribute certificates")
    if point.relative_name is not None:
        raise CrlUnusable("has a distribution point by relative name, which is not read here")
    return Scope(
        only_users=point.only_contains_user_certs,
        only_cas=point.only_contains_ca_certs,
        names=None if point.full_name is None else tuple(point.full_name),
    )


def _fingerprint(issuer: x509.Certificate) -> bytes:
    """Of the whole certificate: two of the same key can differ in what they allow."""
    return issuer.fingerprint(hashes.SHA256())


def _number(extensions: x509.Extensions) -> int | None:
    try:
        return extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return None


def _authority_key_id(extensions: x509.Extensions) -> bytes | None:
    try:
        return extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None


def _subject_key_id(issuer: x509.Certificate) -> bytes | None:
    try:
        return issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, *MALFORMED):
        return None


def _signature_problem(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> str:
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        pass  # then every usage is allowed (RFC 5280 4.2.1.3)
    except MALFORMED:
        return "is of an issuer whose certificate cannot be read"
    else:
        if not usage.crl_sign:
            return "is of an issuer whose certificate does not allow it to sign CRLs (keyUsage)"
    try:
        is_valid = crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # others raise TypeError
    except (*MALFORMED, UnsupportedAlgorithm):
        is_valid = False
    return "" if is_valid else f"is not signed by the key of {issuer.subject.rfc4514_string()}"
