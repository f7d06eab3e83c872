"""What is asked about: a certificate, its issuer, and where the certificate says that its status can be found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from kipuka_core.model.fingerprints import serial_hex
from kipuka_core.model.revocation import RevocationStatus

CLOCK_SKEW = timedelta(minutes=5)
"""How far the clock of a CA may be ahead of ours; what it says is not believed earlier. Ends are taken exactly."""
MALFORMED = (ValueError, TypeError, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType)
"""What cryptography raises for extensions that cannot be read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one source says; ``until`` is the moment at which it has to be asked again."""

    status: RevocationStatus
    detail: str
    until: datetime | None = None
    is_ours: bool = False
    """It is unknown because this server is too busy, so it is not worth remembering."""


def unknown(detail: str, *, is_ours: bool = False) -> Finding:
    """No answer; ``detail`` says why."""
    return Finding(RevocationStatus.UNKNOWN, detail, is_ours=is_ours)


@dataclass(frozen=True, slots=True)
class DistributionPoint:
    """One CRL distribution point (RFC 5280 4.2.1.13).

    ``names`` are all its full names, ``urls`` those that can be fetched: alternatives for the same CRL. ``is_partial``:
    its CRL covers only some reasons.
    """

    names: tuple[x509.GeneralName, ...]
    urls: tuple[str, ...]
    is_partial: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A certificate of a verified chain, and the issuer that stands next in this chain."""

    certificate: x509.Certificate
    issuer: x509.Certificate
    is_ca: bool | None
    """None: it cannot be read."""
    points: tuple[DistributionPoint, ...]
    responders: tuple[str, ...]
    note: str = ""
    """Why the certificate cannot say where its status is found."""

    def __str__(self) -> str:
        return f"{self.certificate.subject.rfc4514_string()} (serial {serial_hex(self.certificate)})"


def ask_about(certificate: x509.Certificate, issuer: x509.Certificate) -> Asked:
    """Read where the certificate's status can be found. Its chain has to be verified."""
    try:
        extensions = certificate.extensions
        return Asked(
            certificate=certificate,
            issuer=issuer,
            is_ca=_is_ca(extensions),
            points=_points(extensions),
            responders=_responders(extensions),
        )
    except MALFORMED:
        # OpenSSL verified it all the same. A configured CRL or responder may still know it.
        return Asked(certificate, issuer, is_ca=None, points=(), responders=(), note="its extensions cannot be read")


def _is_ca(extensions: x509.Extensions) -> bool:
    try:
        return extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _points(extensions: x509.Extensions) -> tuple[DistributionPoint, ...]:
    try:
        points = extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(
        DistributionPoint(
            names=tuple(point.full_name or ()), urls=_http(point.full_name or ()), is_partial=point.reasons is not None
        )
        for point in points
        if not point.crl_issuer  # an indirect CRL, which another authority signs (RFC 5280 4.2.1.13): not read here
    )


def _responders(extensions: x509.Extensions) -> tuple[str, ...]:
    try:
        access = extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return ()
    return _http(each.access_location for each in access if each.access_method == AuthorityInformationAccessOID.OCSP)


def _http(names: Iterable[x509.GeneralName]) -> tuple[str, ...]:
    """The http and https URLs among names; ldap and others are not fetched."""
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    return tuple(uri for uri in uris if uri.lower().startswith(("http://", "https://")))
