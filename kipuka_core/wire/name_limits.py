"""How long names in a CSR may be, and what they never hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from kipuka_core.errors import CsrRefused
from kipuka_core.wire import der

MAX_SAN_ENTRIES = 100
MAX_NAME_BYTES = 4096
"""Of a whole distinguished name in DER."""

# The upper bounds of RFC 5280 A.1, in characters: a certificate with a longer value would break the standard.
_ATTRIBUTES = {
    NameOID.COMMON_NAME: ("CN", 64),
    NameOID.COUNTRY_NAME: ("C", 2),
    NameOID.JURISDICTION_COUNTRY_NAME: ("jurisdictionCountryName", 2),
    NameOID.ORGANIZATION_NAME: ("O", 64),
    NameOID.ORGANIZATIONAL_UNIT_NAME: ("OU", 64),
    NameOID.SERIAL_NUMBER: ("serialNumber", 64),
    NameOID.TITLE: ("title", 64),
    NameOID.LOCALITY_NAME: ("L", 128),
    NameOID.STATE_OR_PROVINCE_NAME: ("ST", 128),
    NameOID.PSEUDONYM: ("pseudonym", 128),
}
_OTHER_ATTRIBUTE_CHARACTERS = 255
_SAN_CHARACTERS: dict[type[x509.GeneralName], int] = {
    x509.DNSName: 253,  # RFC 1035 2.3.4, as text
    x509.RFC822Name: 255,  # RFC 5280 A.1, ub-emailaddress-length
    x509.UniformResourceIdentifier: 2048,
}
# By tag: UTF8String, UniversalString, BMPString; Numeric-, Printable-, Teletex- and IA5String.
_CODECS = {b"\x0c": "utf-8", b"\x1c": "utf-32-be", b"\x1e": "utf-16-be"} | dict.fromkeys(
    (b"\x12", b"\x13", b"\x14", b"\x16"), "latin-1"
)
_BIT_STRING = b"\x03"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_name(name_der: bytes) -> None:
    """Raise CsrRefused for a distinguished name that cannot be read or is beyond the limits of this module.

    To be called before cryptography reads the name: of an attribute that is empty or too long it only gives a Python
    warning, where the client needs a refusal.
    """
    if len(name_der) > MAX_NAME_BYTES:
        raise CsrRefused(f"a name in the CSR is longer than {MAX_NAME_BYTES} bytes")
    try:
        texts = [(attribute.type, _text(attribute)) for attribute in der.decode_name(name_der)]
    except ValueError as error:
        raise CsrRefused("a name in the CSR cannot be parsed") from error
    for oid, text in texts:
        short_name, limit = _ATTRIBUTES.get(oid, (oid.dotted_string, _OTHER_ATTRIBUTE_CHARACTERS))
        if not text:
            raise CsrRefused(f"the name attribute {short_name} is empty; leave it out")
        if limit == 2 and len(text) < limit:  # a country has exactly two letters (RFC 5280 A.1, X520countryName)
            raise CsrRefused(f"the name attribute {short_name} has 1 character; it needs 2")
        _check_text(text, limit, f"the name attribute {short_name}")


def check_san(names: Sequence[x509.GeneralName]) -> None:
    """Raise CsrRefused for a SubjectAltName that is empty (RFC 5280 4.2.1.6) or beyond the limits of this module."""
    if not names:
        raise CsrRefused("the requested SubjectAltName is empty; put a name into it or leave the extension out")
    if len(names) > MAX_SAN_ENTRIES:
        raise CsrRefused(
            f"the CSR asks for {len(names)} SubjectAltName entries; at most {MAX_SAN_ENTRIES} are possible"
        )
    for name in names:
        if isinstance(name, x509.DirectoryName):
            check_name(_encoded(name.value))
        elif isinstance(name, (x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier)):
            _check_text(name.value, _SAN_CHARACTERS[type(name)], "a SubjectAltName entry")


def _encoded(name: x509.Name) -> bytes:
    try:
        return name.public_bytes()
    except Exception as error:  # cryptography reads string types that it does not write
        raise CsrRefused("a directoryName in the requested SubjectAltName cannot be parsed") from error


def _text(attribute: der.NameAttribute) -> str:
    """The value of an attribute, of a BIT STRING (x500UniqueIdentifier) as hex.

    Raises ValueError for another type: OpenSSL cannot read a certificate with a VisibleString or an OCTET STRING there.
    """
    data, tag = bytes(attribute.value.data), attribute.value.tag_bytes
    if tag not in _CODECS and tag != _BIT_STRING:
        raise ValueError("an attribute of a name is neither a string nor a BIT STRING")
    return data.hex() if tag == _BIT_STRING else data.decode(_CODECS[tag])


def _check_text(text: str, limit: int, what: str) -> None:
    if len(text) > limit:
        raise CsrRefused(f"{what} has {len(text)} characters; at most {limit} are possible")
    if _CONTROL.search(text):
        raise CsrRefused(f"{what} holds a control character; remove it")
