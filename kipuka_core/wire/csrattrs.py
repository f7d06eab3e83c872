"""The CSR attributes response (RFC 7030 4.5.2 as replaced by RFC 8951 4): ``SEQUENCE OF AttrOrOID``."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat import asn1

from kipuka_core.errors import Malformed
from kipuka_core.model.certificate import AttributeHint, CsrAttributes, WantedExtension
from kipuka_core.wire import der
from kipuka_core.wire.csr_names import EXTENSION_REQUEST


@asn1.sequence
class _CsrAttrs:
    entries: list[x509.ObjectIdentifier | der.Attribute]


def encode(attributes: CsrAttributes) -> bytes | None:
    """The DER of CsrAttrs, or None when there is nothing to say (204).

    OIDs come first, then attributes, one for each type with the values of all its hints, then all wanted extensions
    as the one value of one id-ExtensionReq. A hint without values is a bare OID, since an attribute has a value.

    Raises ValueError for an OID or a value that is none, for one extension wanted with two values, and for a hint of
    the type id-ExtensionReq, which only extensions may fill.
    """
    values_by_oid: dict[str, list[bytes]] = {}
    for hint in attributes.attributes:
        values_by_oid.setdefault(hint.oid, []).extend(hint.values_der)
    if EXTENSION_REQUEST.dotted_string in values_by_oid:
        raise ValueError("extensions are advertised as WantedExtension, not as a hint of the type id-ExtensionReq")
    bare = (*attributes.oids, *(oid for oid, values in values_by_oid.items() if not values))
    entries: list[x509.ObjectIdentifier | der.Attribute] = [x509.ObjectIdentifier(oid) for oid in dict.fromkeys(bare)]
    entries += [_attribute(x509.ObjectIdentifier(oid), values) for oid, values in values_by_oid.items() if values]
    if attributes.extensions:
        entries.append(_attribute(EXTENSION_REQUEST, [_extensions_value(attributes.extensions)]))
    return der.unwrap(asn1.encode_der(_CsrAttrs(entries=entries))) if entries else None


def decode(csrattrs_der: bytes) -> CsrAttributes:
    """Read CsrAttrs as a client does. Raises Malformed.

    An id-ExtensionReq without exactly one ``Extensions`` value (as in the example of RFC 8951 4, where it holds the
    OID of macAddress) is left as an attribute.
    """
    try:
        entries = asn1.decode_der(_CsrAttrs, der.wrap(csrattrs_der)).entries
    except ValueError as error:
        raise Malformed("the CSR attributes are not a CsrAttrs value (RFC 8951 section 4)") from error
    oids: list[str] = []
    hints: list[AttributeHint] = []
    extensions: list[WantedExtension] = []
    for entry in entries:
        if isinstance(entry, x509.ObjectIdentifier):
            oids.append(entry.dotted_string)
            continue
        hint = _hint(entry)
        wanted = _wanted_extensions(hint)
        extensions += wanted
        if not wanted:
            hints.append(hint)
    return CsrAttributes(oids=tuple(oids), attributes=tuple(hints), extensions=tuple(extensions))


def _attribute(oid: x509.ObjectIdentifier, values_der: Sequence[bytes]) -> der.Attribute:
    return der.Attribute(type=oid, values=asn1.SetOf([der.tlv(value) for value in dict.fromkeys(values_der)]))


def _extensions_value(wanted: Sequence[WantedExtension]) -> bytes:
    extensions = dict.fromkeys(wanted)
    oids = [extension.oid for extension in extensions]
    repeated = sorted({oid for oid in oids if oids.count(oid) > 1})
    if repeated:
        raise ValueError(f"the extension {repeated[0]} is wanted with two values")
    return der.encode_extensions(
        [
            der.Extension(oid=x509.ObjectIdentifier(each.oid), critical=each.critical, value=each.value_der)
            for each in extensions
        ]
    )


def _hint(attribute: der.Attribute) -> AttributeHint:
    return AttributeHint(
        attribute.type.dotted_string, tuple(asn1.encode_der(value) for value in attribute.values.as_list())
    )


def _wanted_extensions(hint: AttributeHint) -> tuple[WantedExtension, ...]:
    if hint.oid != EXTENSION_REQUEST.dotted_string or len(hint.values_der) != 1:
        return ()
    try:
        extensions = der.decode_extensions(hint.values_der[0])
    except ValueError:
        return ()
    return tuple(WantedExtension(each.oid.dotted_string, each.value, each.critical) for each in extensions)
