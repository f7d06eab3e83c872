"""CA certificates and CSRs by keys in a token, for ceremonies (RFC 5280 4.2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from kipuka_core import ConfigurationError

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
    """An RFC 4514 name. Raises ConfigurationError."""
    try:
        return x509.Name.from_rfc4514_string(text)
    except ValueError:
        raise ConfigurationError("--subject", f'"{text}" is no name such as "CN=Example Root,O=Example"') from None


def hash_for(public_key: Any) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    """The hash as strong as the key; Ed25519 brings its own."""
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return None
    if isinstance(public_key, rsa.RSAPublicKey) or public_key.curve.key_size <= 256:
        return hashes.SHA256()
    return hashes.SHA384() if public_key.curve.key_size <= 384 else hashes.SHA512()


def make_csr(key: Any, profile: CaProfile) -> x509.CertificateSigningRequest:
    """A CSR that asks for a CA certificate. Blocks."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(profile.subject)
    for extension in _extensions(profile.path_length):
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hash_for(key.public_key()))


def make_self_signed(key: Any, profile: CaProfile, now: datetime) -> x509.Certificate:
    """A root. Blocks."""
    return _certificate(key, profile, now, public_key=key.public_key(), issuer=None)


def make_subordinate(
    key: Any, issuer: x509.Certificate, csr: x509.CertificateSigningRequest, profile: CaProfile, now: datetime
) -> x509.Certificate:
    """A CA below ``issuer``, whose key is ``key``. Blocks. Raises ConfigurationError for what cannot be certified."""
    if not csr.is_signature_valid:
        raise ConfigurationError("CSR", "is not signed by the key that it asks a certificate for")
    if key.public_key() != issuer.public_key():
        raise ConfigurationError("key", "is not the key of the issuer's certificate")
    constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    if not constraints.ca or constraints.path_length == 0:
        raise ConfigurationError("issuer", "may not certify CAs (basicConstraints)")
    return _certificate(key, profile, now, public_key=csr.public_key(), issuer=issuer)


def _certificate(
    key: Any, profile: CaProfile, now: datetime, *, public_key: Any, issuer: x509.Certificate | None
) -> x509.Certificate:
    end = now + timedelta(days=profile.days)
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
        above = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above)
        builder = builder.add_extension(aki, critical=False)
    return builder.sign(key, hash_for(key.public_key()))


def _extensions(path_length: int | None) -> list[x509.ExtensionType]:
    usage = {"key_cert_sign", "crl_sign"}
    return [
        x509.BasicConstraints(ca=True, path_length=path_length),
        x509.KeyUsage(**{name: name in usage for name in _USAGES}),
    ]
