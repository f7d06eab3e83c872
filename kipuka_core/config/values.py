"""The types of values in ``kipuka.toml``: how they are read, checked, and shown in the reference.

Each type reads what a person writes and leaves what the code wants (seconds, dotted OIDs, parsed addresses). Its JSON
form is again what a person writes; the reference page and the schema show defaults in that form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from pydantic import BeforeValidator, Field, InstanceOf, PlainSerializer, Strict, StringConstraints

from kipuka_core.hooks.certificate_values import kind_of_json, read_text
from kipuka_core.model.cipher_suites import DEFAULT_CIPHER_SUITES, cipher_suites_problem
from kipuka_core.model.key_type import KeyType, parse_key_type
from kipuka_core.model.oids import HASHES

# -- numbers and switches: TOML has types, so "1" is not 1 and 1 is not true -------------------------------------------
Switch = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(ge=1)]
Days = Annotated[int, Strict(), Field(ge=1, le=36500)]


# -- addresses ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener listens. ``host`` is a name or an IP address without brackets; port 0 means any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether this means every interface."""
        try:
            return ip_address(self.host).is_unspecified
        except ValueError:
            return False

    def collides_with(self, other: Address) -> bool:
        """Whether the operating system would refuse, or a reader would mistake, the two side by side."""
        if self.port != other.port or self.port == 0:
            return False
        return self.host.lower() == other.host.lower() or self.is_wildcard or other.is_wildcard


_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([A-Za-z0-9._-]+)):(\d{1,5})")


def parse_address(value: object) -> Address:
    """``host:port``, ``192.0.2.1:8443`` or ``[::]:8443``. Raises ValueError."""
    if isinstance(value, Address):
        return value
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[3]) > 65535:
        raise ValueError('must be host:port, such as "0.0.0.0:8443" or "[::]:8443"')
    if match[1]:
        try:
            return Address(str(ip_address(match[1])), int(match[3]))
        except ValueError:
            raise ValueError(f"[{match[1]}] is not an IPv6 address") from None
    return Address(match[2], int(match[3]))


ListenAddress = Annotated[
    Address,
    BeforeValidator(parse_address),
    PlainSerializer(str, when_used="json"),
    kind_of_json("address", type="string", pattern="^.+:[0-9]{1,5}$"),
]


Network = IPv4Network | IPv6Network
_MAPPED_PREFIX_BITS = 96


def _networks(value: object) -> object:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list")  # noqa: TRY004  # pydantic turns only ValueError into an error line
    return tuple(map(_network, value))


def _network(value: object) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        network = ip_network(value)  # type: ignore[arg-type]  # whatever it is, it is looked at there
    except ValueError:
        raise ValueError(f'"{value}" is neither an IP address nor a network such as "192.0.2.0/24"') from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_PREFIX_BITS:
        return network
    # An IPv4 client of a dual-stack socket is written like this; here it is an IPv4 client.
    return IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX_BITS))


def _network_text(network: Network) -> str:
    return str(network.network_address) if network.num_addresses == 1 else str(network)


NetworkList = Annotated[
    tuple[Network, ...],
    BeforeValidator(_networks),
    PlainSerializer(lambda networks: [_network_text(each) for each in networks], when_used="json"),
    kind_of_json("list of addresses", type="array", items={"type": "string"}),
]


# -- paths and lists ---------------------------------------------------------------------------------------------------
def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _one_for_one(paths: tuple[Path, ...]) -> str | list[str]:
    return str(paths[0]) if len(paths) == 1 else [str(path) for path in paths]


PathList = Annotated[
    tuple[Path, ...],
    BeforeValidator(_one_or_many),
    PlainSerializer(_one_for_one, when_used="json"),
    kind_of_json("path or list of paths", anyOf=[{"type": "string"}, {"type": "array", "items": {"type": "string"}}]),
]
"""A path or a list of them."""


_URL = re.compile(r"https?://[^/\\s]+.*", re.IGNORECASE)


def _http_url(text: str) -> str:
    if not _URL.fullmatch(text):
        raise ValueError('must be a URL that begins with "http://" or "https://"')
    return text


def _file_or_url(text: str) -> Path | str:
    if "://" in text:
        return _http_url(text)
    if not text:
        raise ValueError("must be a path or a URL")
    return Path(text)


HttpUrl = Annotated[str, read_text(_http_url), kind_of_json("URL", type="string", pattern="^https?://")]
FileOrUrl = Annotated[
    str | Path,
    BeforeValidator(lambda value: _file_or_url(value) if isinstance(value, str) else value),
    PlainSerializer(str, when_used="json"),
    kind_of_json("path or URL", type="string"),
]
FilesOrUrls = Annotated[
    tuple[FileOrUrl, ...],
    BeforeValidator(_one_or_many),
    kind_of_json("list of paths or URLs", anyOf=[{"type": "string"}, {"type": "array", "items": {"type": "string"}}]),
]


# -- certificates ------------------------------------------------------------------------------------------------------
def _hash(text: str) -> str:
    name = re.sub(r"[^a-z0-9]", "", text.lower())
    if name not in HASHES:
        raise ValueError(f'"{text}" is not accepted; possible are {", ".join(HASHES)}')
    return name


def _subject_name(value: object) -> object:
    if isinstance(value, x509.Name):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError('must be a subject such as "CN=Ana,O=Example"')
    try:
        return x509.Name.from_rfc4514_string(value)
    except ValueError:
        raise ValueError(f'"{value}" is not an RFC 4514 subject such as "CN=Ana,O=Example"') from None


SubjectName = Annotated[
    InstanceOf[x509.Name],
    BeforeValidator(_subject_name),
    PlainSerializer(x509.Name.rfc4514_string, when_used="json"),
    kind_of_json("RFC 4514 subject", type="string"),
]
KeyTypeName = Annotated[KeyType, read_text(parse_key_type), kind_of_json("key type", type="string")]
HashName = Annotated[str, read_text(_hash), kind_of_json("hash", type="string")]

ID_PLACEHOLDER = "{id}"


def _subject_pattern(text: str) -> str:
    if ID_PLACEHOLDER not in text:
        raise ValueError('must contain "{id}", which stands for the entity id, or it would bind names to nobody')
    try:
        re.compile(text.replace(ID_PLACEHOLDER, "id"))
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    return text


SubjectPattern = Annotated[str, read_text(_subject_pattern), kind_of_json("regular expression", type="string")]


# -- TLS ---------------------------------------------------------------------------------------------------------------
def _cipher_suite(text: str) -> str:
    if problem := cipher_suites_problem([text]):
        raise ValueError(problem)
    return text


CipherSuite = Annotated[
    str, read_text(_cipher_suite), kind_of_json("IANA cipher suite", type="string", enum=list(DEFAULT_CIPHER_SUITES))
]

_TLS_VERSIONS = ("1.2", "1.3")


def _tls_version(text: str) -> str:
    if text not in _TLS_VERSIONS:
        raise ValueError('must be "1.2" or "1.3": TLS 1.0 and 1.1 must not be used (RFC 8996)')
    return text


TlsVersion = Annotated[
    Literal["1.2", "1.3"], read_text(_tls_version), kind_of_json("TLS version", type="string", enum=list(_TLS_VERSIONS))
]

# -- names -------------------------------------------------------------------------------------------------------------
ProviderName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"), kind_of_json("name", type="string")
]
CA_ID_PATTERN = r"^[a-z0-9][a-z0-9_-]*$"
CaId = Annotated[
    str, StringConstraints(pattern=CA_ID_PATTERN), kind_of_json("id", type="string", pattern=CA_ID_PATTERN)
]


def _order(value: object) -> object:
    return [_one_or_many(entry) for entry in value] if isinstance(value, list) else value


def _order_text(order: tuple[tuple[str, ...], ...]) -> list[str | list[str]]:
    return [entry[0] if len(entry) == 1 else list(entry) for entry in order]


_ORDER_ITEM = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
AuthOrder = Annotated[
    tuple[Annotated[tuple[ProviderName, ...], Field(min_length=1)], ...],
    BeforeValidator(_order),
    Field(min_length=1),
    PlainSerializer(_order_text, when_used="json"),
    kind_of_json("list of names", type="array", items=_ORDER_ITEM, minItems=1),
]
"""Authenticator names; every name of an inner tuple must agree."""
