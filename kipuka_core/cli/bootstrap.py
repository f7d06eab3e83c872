"""The first keys and certificates of a deployment: an embedded CA, and a server certificate fit for EST."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kipuka_core.domain.rules import CMC_RA
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.key_type import KeyType
from kipuka_core.model.key_usage import key_usage_extension

IssuerKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_ROOT_DAYS = 7300
_ISSUING_DAYS = 3650
_SERVER_DAYS = 397
_CURVES: dict[KeyType, ec.EllipticCurve] = {
    KeyType.ECDSA256: ec.SECP256R1(),
    KeyType.ECDSA384: ec.SECP384R1(),
    KeyType.ECDSA521: ec.SECP521R1(),
}
_HASHES: dict[int, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = {384: hashes.SHA384(), 521: hashes.SHA512()}


@dataclass(frozen=True, slots=True)
class _Issuer:
    certificate: x509.Certificate
    key: IssuerKey


def make_embedded_ca(directory: Path, key_type: KeyType, *, organization: str) -> None:
    """A root CA and an issuing CA under it: ``root.pem``, ``root.key``, ``issuing.pem``, ``issuing.key``.

    Raises ConfigurationError when one of the files is there already.
    """
    make_private_directory(directory)
    root_key, issuing_key = _new_key(key_type), _new_key(key_type)
    root_name, issuing_name = _ca_name("Root CA", organization), _ca_name("Issuing CA", organization)
    root = _ca_certificate(root_name, root_key, None, days=_ROOT_DAYS, path_length=None)
    issuing = _ca_certificate(issuing_name, issuing_key, _Issuer(root, root_key), days=_ISSUING_DAYS, path_length=0)
    write_new(directory / "root.key", _key_pem(root_key), 0o600)
    write_new(directory / "root.pem", _pem(root), 0o644)
    write_new(directory / "issuing.key", _key_pem(issuing_key), 0o600)
    write_new(directory / "issuing.pem", _pem(issuing), 0o644)


def make_server_certificate(ca_directory: Path, certificate_file: Path, key_file: Path, hosts: Sequence[str]) -> None:
    """A certificate with serverAuth and id-kp-cmcRA (RFC 7030 3.6.1) for these host names and addresses."""
    issuer = _load_issuer(ca_directory)
    key = ec.generate_private_key(ec.SECP256R1())
    start = datetime.now(UTC) - timedelta(minutes=5)
    certificate = (
        _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])]), key, issuer, start, _SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage_extension(["digitalSignature"]), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, x509.ObjectIdentifier(CMC_RA)]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        .sign(issuer.key, _hash_of(issuer.key))
    )
    make_private_directory(key_file.parent)
    write_new(key_file, _key_pem(key), 0o600)
    write_new(certificate_file, _pem(certificate) + _pem(issuer.certificate), 0o644)


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is not there yet, with its mode from the first moment.

    Raises ConfigurationError when it is there, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise ConfigurationError(str(path), "exists already; nothing is overwritten") from None
    except OSError as error:
        raise ConfigurationError(str(path), f"cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def make_private_directory(directory: Path) -> None:
    """Make a directory that only its owner can look into; what is missing above it gets the usual mode.

    Raises ConfigurationError.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(str(directory), f"cannot be made: {error.strerror}") from None


def _new_key(key_type: KeyType) -> IssuerKey:
    if key_type in _CURVES:
        return ec.generate_private_key(_CURVES[key_type])
    return rsa.generate_private_key(65537, int(key_type.removeprefix("rsa")))


def _ca_name(what: str, organization: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{organization} {what}"),
        ]
    )


def _ca_certificate(
    subject: x509.Name, key: IssuerKey, issuer: _Issuer | None, *, days: int, path_length: int | None
) -> x509.Certificate:
    signing_key = issuer.key if issuer else key
    return (
        _builder(subject, key, issuer, datetime.now(UTC) - timedelta(minutes=5), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage_extension(["keyCertSign", "cRLSign", "digitalSignature"]), critical=True)
        .sign(signing_key, _hash_of(signing_key))
    )


def _builder(
    subject: x509.Name, key: IssuerKey, issuer: _Issuer | None, start: datetime, days: int
) -> x509.CertificateBuilder:
    end = start + timedelta(days=days)
    if issuer is not None:
        end = min(end, issuer.certificate.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is None:
        return builder
    key_id = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id)
    return builder.add_extension(aki, critical=False)


def _load_issuer(directory: Path) -> _Issuer:
    key = serialization.load_pem_private_key((directory / "issuing.key").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ConfigurationError(str(directory / "issuing.key"), "is neither an RSA nor an EC key")
    return _Issuer(x509.load_pem_x509_certificate((directory / "issuing.pem").read_bytes()), key)


def _hash_of(key: IssuerKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
    return _HASHES.get(key.key_size, hashes.SHA256())


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: IssuerKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
