"""The authentication key of a CFSSL profile, and what is made with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from typing import Any

from kipuka_cfssl.settings import CfsslSettings
from kipuka_core import ConfigurationError, Services, read_secret_file

_SERIAL_BITS = 159
"""RFC 5280 4.1.2.2: positive and at most 20 octets, of which DER spends one bit on the sign."""


class AuthKey:
    """Signs requests, as CFSSL's ``standard`` provider verifies them. The key itself is in no repr."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def authenticated(self, request: Mapping[str, Any]) -> dict[str, str]:
        """The body of an authenticated request: the request and an HMAC over its bytes."""
        text = json.dumps(request).encode()
        token = hmac.digest(self._key, text, hashlib.sha256)
        return {"token": base64.b64encode(token).decode(), "request": base64.b64encode(text).decode()}

    def serial(self, request_id: str) -> int:
        """The serial number that belongs to a request: 158 bits that nobody without the key could guess.

        No request begins as the text that is authenticated here does, so no token gives a serial away.
        """
        digest = hmac.digest(self._key, b"kipuka-cfssl serial number:" + request_id.encode(), hashlib.sha256)
        top = 1 << (_SERIAL_BITS - 1)
        return int.from_bytes(digest) % top | top


def read_auth_key(settings: CfsslSettings, services: Services, where: str) -> AuthKey:
    """The key from its file or variable. Raises ConfigurationError, without anything of the key."""
    if settings.auth_key_file is not None:
        setting, source = "auth_key_file", str(services.base_dir / settings.auth_key_file)
        text = read_secret_file(services.base_dir / settings.auth_key_file, services)
    else:
        setting, source = "auth_key_env", f"the environment variable {settings.auth_key_env}"
        text = os.environb.get(os.fsencode(settings.auth_key_env or ""), b"")
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if not key:
        raise ConfigurationError(f"{where}.{setting}", f"{source} does not hold a key in hexadecimal digits")
    return AuthKey(key)
