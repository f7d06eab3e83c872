"""Request and response bodies: base64 of DER, whatever Content-Transfer-Encoding says (RFC 8951 3)."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass

from kipuka_core.errors import Malformed

DEFAULT_COLUMNS = 64
"""Old clients (libest, ``openssl base64 -d``) do not read lines of 1024 characters and more."""

PEM_ARMOUR = "pem_armour"
RAW_DER = "raw_der"

_WHITE_SPACE = b" \t\r\n"
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/= \t\r\n]")
_PEM_BEGIN = b"-----BEGIN "
_PEM_BOUNDARY = re.compile(rb"-----(?:BEGIN|END) ([A-Z0-9 ]{1,64})-----")
_PEM_LABELS = frozenset((b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST", b"PKCS7", b"CMS"))
_SEQUENCE_TAG = 0x30


@dataclass(frozen=True, slots=True)
class DecodedBody:
    """The DER of a request body; ``quirk`` is ``pem_armour`` or ``raw_der`` where the client did not send base64."""

    der: bytes
    quirk: str | None = None


def decode_body(body: bytes) -> DecodedBody:
    """Read one DER SEQUENCE from base64 (RFC 4648 4) with any CR, LF, SP and TAB; from PEM and raw DER as a quirk.

    Raises Malformed, which says what to change and repeats nothing of the body but one character.
    """
    if body[:1] == b"\x30":  # base64 of a SEQUENCE begins with "M", never with "0"
        _check_is_one_sequence(body)
        return DecodedBody(body, RAW_DER)
    if body.lstrip(_WHITE_SPACE).startswith(_PEM_BEGIN):
        start, end = _inside_armour(body)
        quirk = PEM_ARMOUR
    else:
        start, end = 0, len(body)
        quirk = None
    der = _decode_base64(body, start, end)
    _check_is_one_sequence(der)
    return DecodedBody(der, quirk)


def encode_body(der: bytes, columns: int | None = DEFAULT_COLUMNS) -> bytes:
    """Base64 in lines of ``columns`` characters that end in LF, or, for None, one single line that ends in CRLF.

    strongSwan's ``pki`` before 5.9.11 takes the single line: it reads no white space inside, and a final CRLF is fine.
    """
    text = binascii.b2a_base64(der, newline=False)
    if columns is None:
        return text + b"\r\n"
    return b"".join(text[start : start + columns] + b"\n" for start in range(0, len(text), columns))


def _inside_armour(body: bytes) -> tuple[int, int]:
    """The offsets between the BEGIN line and the END line of the one PEM block (RFC 7468 3)."""
    boundaries = list(_PEM_BOUNDARY.finditer(body))
    label = boundaries[0][1] if boundaries else b""
    if b"PRIVATE KEY" in label:
        raise Malformed("the body is a private key; keep it secret, make a new one, and send a certificate request")
    if label not in _PEM_LABELS:
        raise Malformed("the PEM block in the body is not a CERTIFICATE REQUEST")
    ends = b"-----END " + label + b"-----"
    if len(boundaries) != 2 or boundaries[1][0] != ends or body[boundaries[1].end() :].strip(_WHITE_SPACE):
        raise Malformed("the body must hold exactly one PEM block, from its BEGIN line to its END line")
    return boundaries[0].end(), boundaries[1].start()


def _decode_base64(body: bytes, start: int, end: int) -> bytes:
    wrong = _NOT_BASE64.search(body, start, end)
    if wrong:
        raise Malformed(
            f"the body has {_show(wrong[0])} at offset {wrong.start()}, which is no base64 character;"
            " send the DER in base64 (RFC 4648 section 4)"
        )
    text = body[start:end].translate(None, _WHITE_SPACE)
    if not text:
        raise Malformed("the body is empty; send the DER in base64 (RFC 4648 section 4)")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise Malformed(
            "the base64 in the body is cut off or wrongly padded: without white space its length must be a multiple"
            ' of 4, filled up with "=" at the end only'
        ) from None


def _show(character: bytes) -> str:
    return f'"{character.decode()}"' if 0x20 < character[0] < 0x7F else f"the byte 0x{character[0]:02x}"


def _check_is_one_sequence(der: bytes) -> None:
    length = _sequence_length(der)
    if length is None:
        raise Malformed("the decoded body is not a DER SEQUENCE")
    if length > len(der):
        raise Malformed(f"the DER in the body is cut off: {len(der)} bytes of {length} arrived")
    if length < len(der):
        raise Malformed(f"the body has {len(der) - length} bytes after the end of the DER; send one DER value only")


def _sequence_length(der: bytes) -> int | None:
    """The length in bytes that a DER SEQUENCE says it has, header included; None for anything else."""
    if len(der) < 2 or der[0] != _SEQUENCE_TAG:
        return None
    if der[1] < 0x80:
        return 2 + der[1]
    length_size = der[1] & 0x7F
    header_size = 2 + length_size
    if not 1 <= length_size <= 4 or len(der) < header_size:
        return None
    return header_size + int.from_bytes(der[2:header_size], "big")
