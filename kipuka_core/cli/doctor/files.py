"""Every file that a configuration names, as far as keys, passwords and certificates go."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from urllib.parse import unquote

from kipuka_core.config import Config, PluginTable


class Kind(Enum):
    """What a file holds."""

    SECRET = auto()
    """A private key or a password."""
    USERS = auto()
    """Hashes of passwords: a group may read them."""
    CERTIFICATES = auto()


@dataclass(frozen=True, slots=True)
class ConfiguredFile:
    """A file and the key of ``kipuka.toml`` that names it."""

    toml_path: str
    path: Path
    kind: Kind


_KINDS = {
    "cert": Kind.CERTIFICATES,
    "chain": Kind.CERTIFICATES,
    "previous": Kind.CERTIFICATES,
    "anchors": Kind.CERTIFICATES,
    "trust_anchors": Kind.CERTIFICATES,
    "key": Kind.SECRET,
    "users_file": Kind.USERS,
}
"""By the last word of the key. Plugins that follow these names are looked after too."""
_SECRET_ENDINGS = ("_key", "password_file", "pin_file", "token_file", "secret_file")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
"""Of a URI (RFC 3986 3.1)."""
_PASSWORD_PARAMETER = "password-file="  # noqa: S105  # of a key URI


def configured_files(config: Config) -> list[ConfiguredFile]:
    """All of them, once each."""
    return list(dict.fromkeys(_all(config)))


def _all(config: Config) -> Iterator[ConfiguredFile]:
    for table in (config.tls_material, config.admin_tls_material):
        yield from _of_table(table.toml_path, table.settings, config.base_dir)
    for toml_path, client_auth in (
        ("tls.client_auth", config.tls.client_auth),
        ("admin.client_auth", config.admin.client_auth),
    ):
        for path in client_auth.trust_anchors if client_auth else ():
            yield ConfiguredFile(f"{toml_path}.trust_anchors", path, Kind.CERTIFICATES)
    tables: tuple[PluginTable, ...] = (
        *config.ca_backends,
        *config.key_stores,
        *config.authenticators,
        *config.policies,
        *config.event_sinks,
    )
    for table in tables:
        yield from _of_table(table.toml_path, table.settings, config.base_dir)


def _of_table(toml_path: str, settings: Mapping[str, object], base_dir: Path) -> Iterator[ConfiguredFile]:
    for name, value in settings.items():
        kind = Kind.SECRET if name.endswith(_SECRET_ENDINGS) else _KINDS.get(name)
        for text in value if isinstance(value, list | tuple) else (value,):
            if kind is not None and isinstance(text, str | Path):
                yield from _of_value(f"{toml_path}.{name}", str(text), kind, base_dir)


def _of_value(toml_path: str, text: str, kind: Kind, base_dir: Path) -> Iterator[ConfiguredFile]:
    location, _, query = text.partition("?")
    scheme, colon, rest = location.partition(":")
    if kind is Kind.SECRET and colon and _SCHEME.fullmatch(scheme):
        if scheme != "file":  # a key in a token
            return
        location = unquote("/" + rest.lstrip("/") if rest.startswith("//") else rest)
    yield ConfiguredFile(toml_path, base_dir / location, kind)
    if query.startswith(_PASSWORD_PARAMETER):
        password_file = unquote(query.removeprefix(_PASSWORD_PARAMETER))
        yield ConfiguredFile(f"{toml_path} (password-file)", base_dir / password_file, Kind.SECRET)
