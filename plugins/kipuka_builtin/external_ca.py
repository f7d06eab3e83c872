"""What the backends for CAs outside this process share: chains from others, certificates from others, their words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kipuka_core import CaChain, ConfigurationError, issued_by
from kipuka_core.hooks.secret_files import read_file, shown

_LONGEST_TEXT = 200


def shown_text(text: str, limit: int = _LONGEST_TEXT) -> str:
    """What somebody else said, in one printable line of bounded length."""
    words = "".join(character if character.isprintable() else " " for character in text[: 4 * limit]).split()
    line = " ".join(words)
    return line if len(line) <= limit and len(text) <= 4 * limit else f"{line[:limit]}…"


def certificate_for(certificates: Sequence[x509.Certificate], spki_der: bytes) -> x509.Certificate | None:
    """The one that was asked for among those that came; a single one whatever it is, for the core looks at it.

    None: there are several, and none of them or more than one is for this key.
    """
    if len(certificates) == 1:
        return certificates[0]
    fitting = [each for each in dict.fromkeys(certificates) if _spki_der(each) == spki_der]
    return fitting[0] if len(fitting) == 1 else None


def read_chain(path: Path, now: datetime) -> CaChain:
    """A PEM file from the issuing certificate up to the root. Raises ConfigurationError, one line."""
    try:
        certificates = tuple(dict.fromkeys(x509.load_pem_x509_certificates(read_file(path))))
    except ValueError:
        raise ConfigurationError(shown(path), "does not hold PEM certificates") from None
    for lower, upper in pairwise(certificates):
        if not issued_by(upper, lower):
            raise ConfigurationError(
                shown(path),
                f"{_name(upper)} did not issue {_name(lower)}; list the issuers in order, each below the one that it "
                "issued",
            )
    for certificate in certificates:
        if problem := _authority_problem(certificate, now):
            raise ConfigurationError(shown(path), f"the certificate of {_name(certificate)} {problem}")
    root = certificates[-1]
    if not issued_by(root, root):
        raise ConfigurationError(
            shown(path), f"ends before the root; add the certificate of {root.issuer.rfc4514_string()}"
        )
    return CaChain(certificates=certificates)


def chain_in(
    certificates: Iterable[x509.Certificate], now: datetime, *, issued: x509.Certificate | None = None
) -> CaChain:
    """The chain in a set of CA certificates (a certs-only answer has no order), and the others as previous ones.

    The issuing certificate is the one that issued ``issued``; without it, of those that issued no other CA the one that
    is valid from the latest time. Raises ValueError when none of them leads to a root.
    """
    authorities = [each for each in dict.fromkeys(certificates) if not _authority_problem(each, now)]
    paths = {each: path for each in authorities if (path := _path(each, authorities))}
    candidates = [each for each in paths if issued is not None and issued_by(each, issued)]
    candidates = candidates or [each for each in paths if not _issues_other_authorities(each, authorities)]
    if not candidates:
        raise ValueError("no certificate in it is that of a CA whose issuers are there up to the root")
    issuing = max(candidates, key=lambda each: (each.not_valid_before_utc, -len(paths[each]), each.not_valid_after_utc))
    path = paths[issuing]
    return CaChain(certificates=path, previous=tuple(each for each in authorities if each not in path))


def _path(
    certificate: x509.Certificate, authorities: Sequence[x509.Certificate], below: tuple[x509.Certificate, ...] = ()
) -> tuple[x509.Certificate, ...]:
    """The shortest way up to a root; empty: there is none."""
    path = (*below, certificate)
    if issued_by(certificate, certificate):
        return path
    issuers = [each for each in authorities if each not in path and issued_by(each, certificate)]
    ways = [way for each in issuers if (way := _path(each, authorities, path))]
    return min(ways, key=len, default=())


def _issues_other_authorities(certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> bool:
    # Roll-over certificates (RFC 4210 4.4) have the same name as their issuer and are no CA below it.
    return any(each.subject != each.issuer and issued_by(certificate, each) for each in authorities)


def _authority_problem(certificate: x509.Certificate, now: datetime) -> str:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return "is not a CA's: it has no basicConstraints or no keyUsage"
    if not constraints.ca or not usage.key_cert_sign:
        return "is not a CA's: it needs basicConstraints CA:TRUE and keyUsage keyCertSign"
    if now < certificate.not_valid_before_utc:
        return f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    if now > certificate.not_valid_after_utc:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    return ""


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


def _spki_der(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
