"""The first keys and certificates of a deployment: an embedded CA, and a server certificate fit for EST."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from kipuka_core.cli.keys import OwnKey, certificate_pem, hash_of, key_pem, new_key
from kipuka_core.cli.new_files import NewFile, make_private_directory, write_all_new, write_new
from kipuka_core.cli.server_profile import BACKDATED, server_extensions, server_subject
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.key_type import KeyType
from kipuka_core.model.key_usage import key_usage_extension

_ROOT_DAYS = 7300
_ISSUING_DAYS = 3650
_SERVER_DAYS = 397


@dataclass(frozen=True, slots=True)
class _Issuer:
    certificate: x509.Certificate
    key: OwnKey


def make_embedded_ca(directory: Path, key_type: KeyType, *, organization: str) -> None:
    """A root CA and an issuing CA under it: ``root.pem``, ``root.key``, ``issuing.pem``, ``issuing.key``.

    Raises ConfigurationError when one of the files is there already.
    """
    make_private_directory(directory)
    root_key, issuing_key = new_key(key_type), new_key(key_type)
    root_name, issuing_name = _ca_name("Root CA", organization), _ca_name("Issuing CA", organization)
    root = _ca_certificate(root_name, root_key, None, days=_ROOT_DAYS, path_length=None)
    issuing = _ca_certificate(issuing_name, issuing_key, _Issuer(root, root_key), days=_ISSUING_DAYS, path_length=0)
    write_new(directory / "root.key", key_pem(root_key), 0o600)
    write_new(directory / "root.pem", certificate_pem(root), 0o644)
    write_new(directory / "issuing.key", key_pem(issuing_key), 0o600)
    write_new(directory / "issuing.pem", certificate_pem(issuing), 0o644)


def make_server_certificate(ca_directory: Path, certificate_file: Path, key_file: Path, hosts: Sequence[str]) -> None:
    """A certificate with serverAuth and id-kp-cmcRA (RFC 7030 3.6.1) for these host names and addresses."""
    issuer = _load_issuer(ca_directory)
    key, subject = new_key(KeyType.ECDSA256), server_subject(hosts)
    builder = _builder(subject, key, issuer, datetime.now(UTC) - BACKDATED, _SERVER_DAYS)
    for extension, critical in server_extensions(hosts, key, subject):
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(issuer.key, hash_of(issuer.key))
    make_private_directory(key_file.parent)
    write_all_new(
        [
            NewFile(key_file, key_pem(key), 0o600),
            NewFile(certificate_file, certificate_pem(certificate) + certificate_pem(issuer.certificate), 0o644),
        ]
    )


def _ca_name(what: str, organization: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{organization} {what}"),
        ]
    )


def _ca_certificate(
    subject: x509.Name, key: OwnKey, issuer: _Issuer | None, *, days: int, path_length: int | None
) -> x509.Certificate:
    signing_key = issuer.key if issuer else key
    return (
        _builder(subject, key, issuer, datetime.now(UTC) - BACKDATED, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage_extension(["keyCertSign", "cRLSign", "digitalSignature"]), critical=True)
        .sign(signing_key, hash_of(signing_key))
    )


def _builder(
    subject: x509.Name, key: OwnKey, issuer: _Issuer | None, start: datetime, days: int
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
