"""Names in certificates, made comparable: ``kind:value`` strings, and names as parsed values, never as bytes."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.x509.oid import NameOID

_KINDS: dict[type[x509.GeneralName], str] = {
    x509.DNSName: "dns",
    x509.IPAddress: "ip",
    x509.UniformResourceIdentifier: "uri",
    x509.RFC822Name: "email",
    x509.DirectoryName: "dirname",
    x509.RegisteredID: "rid",
    x509.OtherName: "other",
}
SAN_KINDS: tuple[str, ...] = tuple(_KINDS.values())


def san_kind(name: x509.GeneralName) -> str:
    """``dns``, ``ip``, ``uri``, ``email``, ``dirname``, ``rid`` or ``other``."""
    return _KINDS[type(name)]


def general_name_text(name: x509.GeneralName) -> str:
    """The value of a SAN entry as people write it; DNS names in lower case (RFC 5280 7.2)."""
    if isinstance(name, x509.DNSName):
        return name.value.lower()
    if isinstance(name, x509.RegisteredID):
        return name.value.dotted_string
    if isinstance(name, x509.OtherName):
        return f"{name.type_id.dotted_string}={name.value.hex()}"
    if isinstance(name, x509.DirectoryName):
        return name.value.rfc4514_string()
    return str(name.value)


def san_entry(name: x509.GeneralName) -> str:
    """A SAN entry as ``kind:value``."""
    return f"{san_kind(name)}:{general_name_text(name)}"


def san_of(certificate: x509.Certificate) -> tuple[x509.GeneralName, ...] | None:
    """The SubjectAltName of a certificate, None when it has none."""
    try:
        return tuple(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return None


def common_names(subject: x509.Name) -> tuple[str, ...]:
    """Every CN of a subject, in order."""
    return tuple(_text(attribute) for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME))


# Subject attributes that name an entity as a CN does: e-mail (RFC 5280 4.1.2.6), uid (RFC 4519), and the serial number
# that is the device's name in IEEE 802.1AR certificates. O, OU and their kin say where it belongs.
_NAMING_ATTRIBUTES = (
    (NameOID.COMMON_NAME, "cn"),
    (NameOID.EMAIL_ADDRESS, "email"),
    (NameOID.USER_ID, "uid"),
    (NameOID.SERIAL_NUMBER, "serialnumber"),
)


def subject_names(subject: x509.Name) -> tuple[str, ...]:
    """The attributes of a subject that name somebody, as ``kind:value`` (CN, e-mail address, UID, serialNumber)."""
    return tuple(
        f"{kind}:{_text(attribute)}"
        for oid, kind in _NAMING_ATTRIBUTES
        for attribute in subject.get_attributes_for_oid(oid)
    )


def held_names(certificate: x509.Certificate) -> frozenset[str]:
    """The names that the holder of a certificate holds: its subject's and its SubjectAltName's."""
    return frozenset((*subject_names(certificate.subject), *map(san_entry, san_of(certificate) or ())))


def same_san(one: Iterable[x509.GeneralName] | None, other: Iterable[x509.GeneralName] | None) -> bool:
    """Whether two SubjectAltNames hold the same entries, in any order (RFC 7030 4.2.2, protocol row 11)."""
    return {san_entry(name) for name in one or ()} == {san_entry(name) for name in other or ()}


def same_subject(one: x509.Name, other: x509.Name) -> bool:
    """Whether two subjects are the same ordered name; the string type of a value does not matter (RFC 5280 7.1)."""
    return [_rdn(rdn) for rdn in one.rdns] == [_rdn(rdn) for rdn in other.rdns]


def _rdn(rdn: x509.RelativeDistinguishedName) -> frozenset[tuple[str, str]]:
    return frozenset((attribute.oid.dotted_string, _text(attribute)) for attribute in rdn)


def _text(attribute: x509.NameAttribute[str | bytes]) -> str:
    value = attribute.value
    return value if isinstance(value, str) else value.hex()
