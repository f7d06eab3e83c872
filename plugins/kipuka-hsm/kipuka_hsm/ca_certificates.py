"""CA certificates and CSRs by keys in a token, for ceremonies (RFC 5280 4.2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes

from kipuka_core import ConfigurationError, signing_hash
from kipuka_hsm.text import shown

ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)

_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True, slots=True)
class CaProfile:
    """What a CA certificate says. ``path_length`` None: any number of CAs may follow."""

    subject: x509.Name
    days: int
    path_length: int | None


def parse_subject(text: str) -> x509.Name:
    """An RFC 4514 name that is not empty (RFC 5280 4.1.2.6). Raises ConfigurationError."""
    try:
        name = x509.Name.from_rfc4514_string(text)
    except ValueError:
        raise ConfigurationError("--subject", f'"{shown(text)}" is no name such as "CN=Example Root"') from None
    if not list(name):
        raise ConfigurationError("--subject", 'a CA needs a name, such as "CN=Example Root,O=Example"')
    return name


def make_csr(key: Any, profile: CaProfile) -> x509.CertificateSigningRequest:
    """A CSR that asks for a CA certificate. Blocks."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(profile.subject)
    for extension in _extensions(profile.path_length):
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, signing_hash(key.public_key()))


def make_self_signed(key: Any, profile: CaProfile, now: datetime) -> x509.Certificate:
    """A root. Blocks."""
    return _certificate(key, profile, now, public_key=key.public_key(), issuer=None)


def make_subordinate(
    key: Any, issuer: x509.Certificate, csr: x509.CertificateSigningRequest, profile: CaProfile, now: datetime
) -> x509.Certificate:
    """A CA below ``issuer``, whose key is ``key``. Blocks. Raises ConfigurationError for what cannot be certified."""
    try:
        is_signed, is_the_issuer = csr.is_signature_valid, key.public_key() == issuer.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError("CSR or issuer", f"has a key that cannot be read: {type(error).__name__}") from None
    if not is_signed:
        raise ConfigurationError("CSR", "is not signed by the key that it asks a certificate for")
    if not is_the_issuer:
        raise ConfigurationError("key", "is not the key of the issuer's certificate")
    if not list(profile.subject):
        raise ConfigurationError("CSR", "has an empty subject, and a CA needs a name (RFC 5280 4.1.2.6)")
    _check_issuer(issuer, profile, now)
    return _certificate(key, profile, now, public_key=csr.public_key(), issuer=issuer)


def _check_issuer(issuer: x509.Certificate, profile: CaProfile, now: datetime) -> None:
    """Whether certificates below this CA would be believed (RFC 5280 6.1.4). Raises ConfigurationError."""
    constraints = _extension(issuer, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise ConfigurationError("issuer", "is no CA (basicConstraints)")
    usage = _extension(issuer, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise ConfigurationError("issuer", "may not sign certificates (keyUsage lacks keyCertSign)")
    if not issuer.not_valid_before_utc <= now < issuer.not_valid_after_utc:
        period = f"from {issuer.not_valid_before_utc:%Y-%m-%d %H:%M} to {issuer.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        raise ConfigurationError("issuer", f"is not valid now, but {period}")
    below = constraints.path_length
    if below is None:
        return
    if below == 0:
        raise ConfigurationError("issuer", "may not certify CAs (the path length of its basicConstraints is 0)")
    if profile.path_length is None or profile.path_length >= below:
        raise ConfigurationError("--path-length", f"has to be below {below}, which is the issuer's own")


def _certificate(
    key: Any, profile: CaProfile, now: datetime, *, public_key: Any, issuer: x509.Certificate | None
) -> x509.Certificate:
    end = _end(now, profile.days)
    if issuer is not None:
        end = min(end, issuer.not_valid_after_utc)
    ski = x509.SubjectKeyIdentifier.from_public_key(public_key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(profile.subject)
        .issuer_name(issuer.subject if issuer else profile.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(end)
        .add_extension(ski, critical=False)
    )
    for extension in _extensions(profile.path_length):
        builder = builder.add_extension(extension, critical=True)
    if issuer is not None:
        builder = builder.add_extension(_authority(issuer), critical=False)
    return builder.sign(key, signing_hash(key.public_key()))


def _end(now: datetime, days: int) -> datetime:
    """Raises ConfigurationError for a moment that no certificate can name."""
    try:
        return now + timedelta(days=days)
    except OverflowError:
        raise ConfigurationError("--days", f"{days} days are beyond the year 9999") from None


def _authority(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The issuer's own identifier, or one of its key where its certificate has none (RFC 5280 4.2.1.1)."""
    above = _extension(issuer, x509.SubjectKeyIdentifier)
    if above is None:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(
            cast("CertificateIssuerPublicKeyTypes", issuer.public_key())
        )
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above)


def _extension(certificate: x509.Certificate, kind: type[ExtensionT]) -> ExtensionT | None:
    """Raises ConfigurationError for extensions that cannot be read."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ConfigurationError("issuer", f"has extensions that cannot be read: {type(error).__name__}") from None


def _extensions(path_length: int | None) -> list[x509.ExtensionType]:
    usage = {"key_cert_sign", "crl_sign"}
    return [
        x509.BasicConstraints(ca=True, path_length=path_length),
        x509.KeyUsage(**{name: name in usage for name in _USAGES}),
    ]
