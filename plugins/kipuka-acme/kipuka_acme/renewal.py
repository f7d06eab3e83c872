"""RFC 9773: telling the CA which certificate an order replaces."""

from __future__ import annotations

import base64

from cryptography import x509


def certificate_id(certificate: x509.Certificate) -> str | None:
    """What the CA knows a certificate by (RFC 9773 4.1); None where it has no authority key identifier."""
    try:
        authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        return None
    if authority.key_identifier is None:
        return None
    serial = certificate.serial_number
    serial_der = serial.to_bytes(
        serial.bit_length() // 8 + 1, "big"
    )  # the content of a DER INTEGER: the sign has a bit
    return f"{_base64url(authority.key_identifier)}.{_base64url(serial_der)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
