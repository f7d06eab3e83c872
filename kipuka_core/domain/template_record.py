"""An approved template as bytes, so that it outlives the process that approved it.

It is written as a certificate: the one syntax that has a place for all of it. Nobody signed it for anybody; the key
that did is thrown away.
"""

from __future__ import annotations

from functools import cache
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from kipuka_core.model.certificate import Template
from kipuka_core.model.key_usage import key_usage_extension, key_usage_names

_APART = (x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)
_SERIAL = 1


def template_der(template: Template) -> bytes:
    """The template; :func:`template_of` reads it again."""
    key = cast("CertificatePublicKeyTypes", serialization.load_der_public_key(template.spki_der))
    builder = (
        x509.CertificateBuilder()
        .subject_name(template.subject)
        .issuer_name(x509.Name([]))
        .public_key(key)
        .serial_number(_SERIAL)
        .not_valid_before(template.not_before)
        .not_valid_after(template.not_after)
    )
    if template.key_usage:
        builder = builder.add_extension(key_usage_extension(template.key_usage), critical=True)
    if template.ext_key_usage:
        ekus = x509.ExtendedKeyUsage(map(x509.ObjectIdentifier, template.ext_key_usage))
        builder = builder.add_extension(ekus, critical=False)
    if template.san:
        builder = builder.add_extension(x509.SubjectAlternativeName(template.san), critical=False)
    for extension in template.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(_throwaway_key(), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def template_of(der: bytes) -> Template:
    """What :func:`template_der` was given. Raises ValueError for other bytes."""
    written = x509.load_der_x509_certificate(der)
    values = [extension.value for extension in written.extensions]
    usages = next((value for value in values if isinstance(value, x509.KeyUsage)), None)
    ekus = next((value for value in values if isinstance(value, x509.ExtendedKeyUsage)), ())
    san = next((value for value in values if isinstance(value, x509.SubjectAlternativeName)), ())
    return Template(
        subject=written.subject,
        spki_der=written.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        san=tuple(san),
        key_usage=key_usage_names(usages) if usages else frozenset(),
        ext_key_usage=tuple(oid.dotted_string for oid in ekus),
        not_before=written.not_valid_before_utc,
        not_after=written.not_valid_after_utc,
        extensions=tuple(each for each in written.extensions if not isinstance(each.value, _APART)),
    )


@cache
def _throwaway_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
