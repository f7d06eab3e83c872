"""PKCS#11 URIs (RFC 7512): which key of which token, by which module, and where its PIN is."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import PurePosixPath
from urllib.parse import unquote_to_bytes

from kipuka_core import ConfigurationError
from kipuka_hsm.text import shown

SCHEME = "pkcs11:"
_MAX_BYTES = {"token": 32, "manufacturer": 32, "serial": 16, "model": 16, "library-manufacturer": 32}
_MAX_BYTES |= {"library-description": 32, "slot-manufacturer": 32, "slot-description": 64}
"""The sizes of PKCS#11's own fields: a longer value could never match, and RFC 7512 2.3 wants it refused."""
_PATH = sorted({*_MAX_BYTES, "object", "id", "type", "slot-id", "library-version"})
_QUERY = ("pin-source", "pin-value", "module-name", "module-path")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_OPEN = {"pin-source", "module-name", "module-path"}
"""Of the query, what may be shown; a PIN stands in an attribute that is named, or spelled, in another way."""
_RUN_ON = re.compile(r"[&;?][^=&;?]*=")
"""The beginning of another attribute, after a separator that does not separate here."""
_NEXT = re.compile(r"[&;?]")
_SIMILAR = 0.8
_MOST_BYTES = 1024
"""Of a label, an id or a path: more is a mistake."""


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
    """Names of query attributes that nobody knows, as far as they may be shown."""


def without_pin(uri: str) -> str:
    """The URI as it may be shown: its path, and of its query the places of PIN and module.

    Whatever else stands in the query may be a PIN, or the rest of one: a name that is spelled almost right is shown
    without its value, and all else is three dots.
    """
    scheme, colon, rest = uri.partition(":")
    path, mark, query = rest.partition("?")
    visible = ";".join(_shown_attribute(each, _PATH) for each in path.split(";")) if "=" in path else shown(path)
    if mark:
        visible += "?" + "&".join(_shown_attribute(each, _OPEN) for each in query.split("&"))
    return shown(f"{scheme}{colon}{visible}", 500)


def _shown_attribute(attribute: str, may_be_shown: Collection[str]) -> str:
    name, equals, value = attribute.partition("=")
    if not equals:
        return attribute and "…"
    if name not in may_be_shown:
        return f"{_name_if_harmless(name)}=…"
    first, *others = _NEXT.split(value, maxsplit=1)
    return f"{name}={shown(first)}{'…' if others else ''}"


def _name_if_harmless(name: str) -> str:
    """A known name, or a misspelled one, else three dots: a PIN with "&" and "=" in it reads like a name too."""
    alike = get_close_matches(name.lower(), [each for each in _QUERY if each[0] == name[:1].lower()], 1, _SIMILAR)
    return name if alike or name in _PATH else "…"


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
        object_id=_object_id(found),
        module_name=_one_line("module-name", asked),
        module_path=_module_path(asked),
        pin_source=_one_line("pin-source", asked),
        pin_value=_optional_text("pin-value", asked),
        ignored=tuple(_name_if_harmless(name) for name in asked if name not in _QUERY),
    )


def _attributes(part: str, separator: str, where: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for attribute in part.split(separator) if part else ():
        name, equals, value = attribute.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise ValueError(f'{where} stands name=value, with "{separator}" between two')
        if name in found:
            raise ValueError(f'"{_name_if_harmless(name)}" stands there twice')
        _check_value(_name_if_harmless(name), value, separator, where)
        found[name] = unquote_to_bytes(value)
    return found


def _check_value(name: str, value: str, separator: str, where: str) -> None:
    if _BAD_ESCAPE.search(value):
        raise ValueError(f'a "%" in the value of "{name}" is not followed by two hexadecimal digits; write %25')
    if separator == ";" and "/" in value:
        raise ValueError(f'"/" in the value of "{name}" has to be written as %2F')
    if (run_on := _RUN_ON.search(value)) is not None:
        character = run_on.group()[0]
        raise ValueError(
            f'"{character}" in the value of "{name}" does not begin another attribute: {where} that is "{separator}",'
            f" and inside a value write %{ord(character):02X}"
        )


def _check_path(found: dict[str, bytes]) -> None:
    for name in found:
        if name not in _PATH:
            hint = "it belongs after the question mark" if name in _QUERY else f"known are {', '.join(_PATH)}"
            raise ValueError(f'unknown attribute "{shown(name)}", so that no key could match; {hint}')
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
    _check_length(name, value)
    return text


def _check_length(name: str, value: bytes) -> None:
    if len(value) > _MOST_BYTES:
        raise ValueError(f'the value of "{name}" has {len(value)} bytes; more than {_MOST_BYTES} are a mistake')


def _optional_text(name: str, found: dict[str, bytes]) -> str | None:
    return _text(name, found[name]) if name in found else None


def _one_line(name: str, found: dict[str, bytes]) -> str | None:
    text = _optional_text(name, found)
    if text is not None and not text.isprintable():
        raise ValueError(f'the value of "{name}" has a character in it that cannot be shown')
    return text


def _object_id(found: dict[str, bytes]) -> bytes | None:
    value = found.get("id")
    if value is None:
        return None
    if not value:
        raise ValueError("id is empty: write the key's CKA_ID in percent encoding (id=%01), or leave it out")
    _check_length("id", value)
    return value


def _slot_id(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise ValueError("slot-id is not a decimal number")
    return int(value)


def _module_path(asked: dict[str, bytes]) -> str | None:
    path = _one_line("module-path", asked)
    if path is not None and not PurePosixPath(path).is_absolute():
        raise ValueError("module-path has to be an absolute path (RFC 7512 2.4)")
    return path
