"""A PKI in memory: authorities, leaves and CSRs in one call each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificatePublicKeyTypes,
)
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID

from kipuka_core.model.signing_hash import signing_hash

_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "ecdsa256": ec.SECP256R1,
    "ecdsa384": ec.SECP384R1,
    "ecdsa521": ec.SECP521R1,
}
_KEY_USAGE_BITS = (
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
_OTHERS = {
    "ed25519": ed25519.Ed25519PrivateKey,
    "ed448": ed448.Ed448PrivateKey,
    "ml-dsa-44": mldsa.MLDSA44PrivateKey,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey,
}


def make_key(key_type: str = "ecdsa256") -> CertificateIssuerPrivateKeyTypes:
    """A fresh private key; ``key_type`` is written as in ``kipuka.toml`` (``rsa1024`` works too, to be refused)."""
    if key_type.startswith("rsa"):
        return rsa.generate_private_key(65537, int(key_type[3:]))
    if key_type in _CURVES:
        return ec.generate_private_key(_CURVES[key_type]())
    return cast("CertificateIssuerPrivateKeyTypes", _OTHERS[key_type].generate())  # type: ignore[attr-defined]


def name(common_name: str | None, **more: str) -> x509.Name:
    """A subject: ``name("a", O="Example")``. Attributes by their RFC 4514 short name, before the CN."""
    oids = {"O": NameOID.ORGANIZATION_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "C": NameOID.COUNTRY_NAME}
    oids |= {"serialNumber": NameOID.SERIAL_NUMBER, "UID": NameOID.USER_ID, "email": NameOID.EMAIL_ADDRESS}
    attributes = [x509.NameAttribute(oids[key], value) for key, value in more.items()]
    if common_name is not None:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def general_name(text: str) -> x509.GeneralName:
    """``dns:a.example``, ``ip:192.0.2.1``, ``uri:…`` or ``email:…``."""
    kind, _, value = text.partition(":")
    if kind == "ip":
        return x509.IPAddress(ip_address(value))
    makers: dict[str, Callable[[str], x509.GeneralName]] = {
        "dns": x509.DNSName,
        "uri": x509.UniformResourceIdentifier,
        "email": x509.RFC822Name,
    }
    return makers[kind](value)


@dataclass(frozen=True, slots=True)
class Leaf:
    """An end-entity certificate with its key and the certificates above it."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes
    chain: tuple[x509.Certificate, ...] = ()
    """The issuers, root last."""

    @property
    def certificate_pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def chain_pem(self) -> bytes:
        """The certificate and its intermediates, without the root, as a TLS peer sends them."""
        return b"".join(
            certificate.public_bytes(serialization.Encoding.PEM) for certificate in (self.certificate, *self.chain[:-1])
        )

    @property
    def key_pem(self) -> bytes:
        """The key, PKCS#8, not encrypted."""
        return key_pem(self.key)


def key_pem(key: CertificateIssuerPrivateKeyTypes, password: bytes | None = None) -> bytes:
    """A private key as PKCS#8 PEM."""
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA; ``above`` are its issuers, root last (empty for a root)."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes
    above: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """This CA's certificate first, the root last."""
        return (self.certificate, *self.above)

    @property
    def pem(self) -> bytes:
        """This CA's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def subordinate(
        self, common_name: str = "Test Issuing CA", key_type: str = "ecdsa256", *, days: int = 1000
    ) -> Authority:
        """A CA below this one."""
        key = make_key(key_type)
        certificate = _sign(
            subject=name(common_name), public_key=key.public_key(), issuer=self, days=days, extensions=_ca_extensions(0)
        )
        return Authority(certificate, key, self.chain)

    def certify(self, other: Authority, *, days: int = 1000) -> Authority:
        """Another certificate for the name and key of a CA: a cross-signed one, or a renewed one by the same issuer."""
        certificate = _sign(
            subject=other.certificate.subject,
            public_key=other.key.public_key(),
            issuer=self,
            days=days,
            extensions=_ca_extensions(0),
        )
        return Authority(certificate, other.key, self.chain)

    def leaf(  # every certificate field that a test may want to set
        self,
        common_name: str | None = "device",
        san: Sequence[str] = (),
        *,
        key: CertificateIssuerPrivateKeyTypes | None = None,
        key_type: str = "ecdsa256",
        eku: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
        days: int = 90,
        not_before: datetime | None = None,
        subject: x509.Name | None = None,
        ca: bool = False,
        more_extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> Leaf:
        """A certificate under this CA; ``more_extensions`` are pairs of value and criticality."""
        key = key or make_key(key_type)
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=ca, path_length=None), True),
            (_key_usage(digital_signature=True), True),
        ]
        if eku:
            extensions.append((x509.ExtendedKeyUsage(eku), False))
        if san:
            extensions.append((x509.SubjectAlternativeName([general_name(text) for text in san]), False))
        extensions.extend(more_extensions)
        certificate = _sign(
            subject=name(common_name) if subject is None else subject,
            public_key=key.public_key(),
            issuer=self,
            days=days,
            not_before=not_before,
            extensions=extensions,
        )
        return Leaf(certificate, key, self.chain)

    def server(self, *san: str) -> Leaf:
        """An EST server certificate: serverAuth and id-kp-cmcRA (RFC 6402 2.10)."""
        ekus = (ExtendedKeyUsageOID.SERVER_AUTH, x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28"))
        return self.leaf("localhost", san or ("dns:localhost", "ip:127.0.0.1"), eku=ekus)


def make_root(common_name: str = "Test Root CA", key_type: str = "ecdsa256", *, days: int = 2000) -> Authority:
    """A self-signed CA."""
    key = make_key(key_type)
    certificate = _sign(
        subject=name(common_name),
        public_key=key.public_key(),
        issuer=None,
        key=key,
        days=days,
        extensions=_ca_extensions(None),
    )
    return Authority(certificate, key)


def make_csr(  # every CSR field that a test may want to set
    key: CertificateIssuerPrivateKeyTypes | None = None,
    common_name: str | None = "device",
    san: Sequence[str] = (),
    *,
    subject: x509.Name | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    challenge_password: bytes | None = None,
    hash_algorithm: hashes.HashAlgorithm | None = None,
) -> bytes:
    """A PKCS#10 request as DER."""
    key = key or make_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(common_name) if subject is None else subject)
    if san:
        alternative = x509.SubjectAlternativeName([general_name(text) for text in san])
        builder = builder.add_extension(alternative, critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    if challenge_password is not None:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge_password)
    algorithm = hash_algorithm or signing_hash(key)
    return builder.sign(key, cast("hashes.SHA256", algorithm)).public_bytes(serialization.Encoding.DER)


def _ca_extensions(path_length: int | None) -> list[tuple[x509.ExtensionType, bool]]:
    return [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (_key_usage(key_cert_sign=True, crl_sign=True), True),
    ]


def _key_usage(**bits: bool) -> x509.KeyUsage:
    return x509.KeyUsage(**{bit: bits.get(bit, False) for bit in _KEY_USAGE_BITS})


def _sign(
    *,
    subject: x509.Name,
    public_key: CertificatePublicKeyTypes,
    issuer: Authority | None,
    days: int,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    key: CertificateIssuerPrivateKeyTypes | None = None,
    not_before: datetime | None = None,
) -> x509.Certificate:
    start = not_before or datetime.now(UTC) - timedelta(hours=1)
    signing_key = cast("CertificateIssuerPrivateKeyTypes", issuer.key if issuer else key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    if issuer:
        ski = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)
        builder = builder.add_extension(aki, critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signing_key, signing_hash(signing_key))
