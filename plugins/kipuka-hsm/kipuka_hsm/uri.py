"""PKCS#11 URIs (RFC 7512): which key of which token, by which module, and where its PIN is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import unquote_to_bytes

from kipuka_core import ConfigurationError

SCHEME = "pkcs11:"
_MAX_BYTES = {"token": 32, "manufacturer": 32, "serial": 16, "model": 16, "library-manufacturer": 32}
_MAX_BYTES |= {"library-description": 32, "slot-manufacturer": 32, "slot-description": 64}
"""The sizes of PKCS#11's own fields: a longer value could never match, and RFC 7512 2.3 wants it refused."""
_PATH = sorted({*_MAX_BYTES, "object", "id", "type", "slot-id", "library-version"})
_QUERY = ("pin-source", "pin-value", "module-name", "module-path")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PIN_VALUE = re.compile(r"(pin-value=)[^&]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """A URI, read. What is None matches everything (RFC 7512 2.5)."""

    texts: tuple[tuple[str, str], ...] = ()
    """Attributes of token, slot and library, such as ``("token", "kipuka")``."""
    slot_id: int | None = None
    object_label: str | None = None
    object_id: bytes | None = None
    module_name: str | None = None
    module_path: str | None = None
    pin_source: str | None = None
    pin_value: str | None = field(default=None, repr=False)
    ignored: tuple[str, ...] = ()
    """Names of query attributes that nobody knows."""

    @property
    def key_name(self) -> str:
        """The key as messages show it, without anything of the query."""
        parts = [] if self.object_label is None else [f"object={self.object_label}"]
        if self.object_id is not None:
            parts.append(f"id={self.object_id.hex()}")
        return ";".join(parts) or "any key"


def without_pin(uri: str) -> str:
    """The URI as it may be shown."""
    shown = _PIN_VALUE.sub(r"\1[redacted]", uri)
    return shown if shown.isprintable() else ascii(shown)


def parse_uri(uri: str) -> Pkcs11Uri:
    """Read a URI. Raises ConfigurationError, in which no PIN is repeated, for one that RFC 7512 does not allow."""
    try:
        return _parse(uri)
    except ValueError as error:
        raise ConfigurationError(without_pin(uri), str(error)) from None


def _parse(uri: str) -> Pkcs11Uri:
    if uri[: len(SCHEME)].lower() != SCHEME:
        raise ValueError(f"does not begin with {SCHEME}")
    if "#" in uri:
        raise ValueError('"#" has to be written as %23')
    path, _, query = uri[len(SCHEME) :].partition("?")
    found = _attributes(path, ";", "before the question mark")
    asked = _attributes(query, "&", "after the question mark")
    _check_path(found)
    if "pin-source" in asked and "pin-value" in asked:
        raise ValueError("pin-source and pin-value exclude each other; keep pin-source")
    return Pkcs11Uri(
        texts=tuple((name, _text(name, value)) for name, value in found.items() if name in _MAX_BYTES),
        slot_id=_slot_id(found["slot-id"]) if "slot-id" in found else None,
        object_label=_optional_text("object", found),
        object_id=found.get("id"),
        module_name=_optional_text("module-name", asked),
        module_path=_module_path(asked),
        pin_source=_optional_text("pin-source", asked),
        pin_value=_optional_text("pin-value", asked),
        ignored=tuple(name for name in asked if name not in _QUERY),
    )


def _attributes(part: str, separator: str, where: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for attribute in part.split(separator) if part else ():
        name, equals, value = attribute.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise ValueError(f'{where} stands name=value, with "{separator}" between two')
        if name in found:
            raise ValueError(f'"{name}" stands there twice')
        if _BAD_ESCAPE.search(value):
            raise ValueError(f'a "%" in the value of "{name}" is not followed by two hexadecimal digits; write %25')
        if separator == ";" and "/" in value:
            raise ValueError(f'"/" in the value of "{name}" has to be written as %2F')
        found[name] = unquote_to_bytes(value)
    return found


def _check_path(found: dict[str, bytes]) -> None:
    for name in found:
        if name not in _PATH:
            raise ValueError(f'unknown attribute "{name}", so that no key could match; known are {", ".join(_PATH)}')
    if found.get("type", b"private") != b"private":
        raise ValueError("only type=private is a private key; correct it or leave it out")
    if "library-version" in found:
        raise ValueError("library-version is not compared; leave it out, or name the module")


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise ValueError(f'the value of "{name}" is not UTF-8') from None
    if len(value) > _MAX_BYTES.get(name, len(value)):
        raise ValueError(f'the value of "{name}" is longer than the {_MAX_BYTES[name]} bytes that PKCS#11 has for it')
    return text


def _optional_text(name: str, found: dict[str, bytes]) -> str | None:
    return _text(name, found[name]) if name in found else None


def _slot_id(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise ValueError("slot-id is not a decimal number")
    return int(value)


def _module_path(asked: dict[str, bytes]) -> str | None:
    path = _optional_text("module-path", asked)
    if path is not None and not PurePosixPath(path).is_absolute():
        raise ValueError("module-path has to be an absolute path (RFC 7512 2.4)")
    return path
