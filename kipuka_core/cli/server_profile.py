"""What a server certificate for EST asks for, whoever signs it (RFC 7030 3.6.1, RFC 5280 4.2.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kipuka_core.cli.hosts import general_name
from kipuka_core.cli.keys import OwnKey, hash_of
from kipuka_core.domain.rules import CMC_RA
from kipuka_core.model.key_usage import key_usage_extension

BACKDATED = timedelta(minutes=5)
_MAX_CN = 64  # ub-common-name, RFC 5280 appendix A.1


def server_subject(hosts: Sequence[str]) -> x509.Name:
    """The first name as CN, which nobody matches any more (RFC 9525); empty where it is too long for one."""
    if len(hosts[0]) > _MAX_CN:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])


def server_extensions(
    hosts: Sequence[str], key: OwnKey, subject: x509.Name
) -> Iterator[tuple[x509.ExtensionType, bool]]:
    """Extensions, each with whether it is critical."""
    usages = ["digitalSignature", "keyEncipherment"] if isinstance(key, rsa.RSAPrivateKey) else ["digitalSignature"]
    yield x509.BasicConstraints(ca=False, path_length=None), True
    yield key_usage_extension(usages), True
    yield x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, x509.ObjectIdentifier(CMC_RA)]), False
    # RFC 5280 4.1.2.6: without a subject the names are critical.
    yield x509.SubjectAlternativeName(map(general_name, hosts)), not subject.rdns


def server_csr(hosts: Sequence[str], key: OwnKey, subject: x509.Name) -> x509.CertificateSigningRequest:
    """A PKCS#10 request (RFC 2986) that asks for all of it."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for extension, critical in server_extensions(hosts, key, subject):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hash_of(key))


def self_signed_certificate(hosts: Sequence[str], key: OwnKey, subject: x509.Name, *, days: int) -> x509.Certificate:
    """A certificate by its own key, for development."""
    if not subject.rdns:  # an issuer has a name (RFC 5280 4.1.2.4)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kipuka")])
    start = datetime.now(UTC) - BACKDATED
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    for extension, critical in server_extensions(hosts, key, subject):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hash_of(key))
