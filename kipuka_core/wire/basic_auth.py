"""HTTP Basic credentials (RFC 7617, RFC 7030 3.2.3). No error here repeats anything of a credential."""

from __future__ import annotations

import binascii
import re

from kipuka_core.errors import Malformed
from kipuka_core.model.identity import BasicCredentials

MAX_HEADER_CHARACTERS = 4096

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse_basic(header: str) -> BasicCredentials | None:
    """Read the value of an Authorization header; None for another scheme than Basic.

    The user name ends at the first colon and may be empty. Raises Malformed for a Basic header that is longer than
    :data:`MAX_HEADER_CHARACTERS`, is not base64 of UTF-8, has no colon, or has control characters (RFC 7617 2).
    """
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    if len(header) > MAX_HEADER_CHARACTERS:
        raise Malformed(f"the Authorization header is longer than {MAX_HEADER_CHARACTERS} characters")
    text = _decode(token.strip())
    if text is None:
        raise Malformed("the Basic credentials are not base64 of UTF-8 text")
    username, colon, password = text.partition(":")
    if not colon:
        raise Malformed("the Basic credentials have no colon between user name and password")
    if _CONTROL.search(text):
        raise Malformed("the Basic credentials hold control characters")
    return BasicCredentials(username, password)


def _decode(token: str) -> str | None:
    # None instead of raising from here: the exceptions hold the credentials, and a chained one may be logged.
    try:
        return binascii.a2b_base64(token, strict_mode=True).decode()
    except ValueError:
        return None
