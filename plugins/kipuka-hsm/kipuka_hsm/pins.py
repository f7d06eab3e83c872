"""Where PINs come from."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kipuka_core import ConfigurationError, Services, read_secret_file


class Pin:
    """A PIN that no repr shows."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "<PIN>"


@dataclass(frozen=True, slots=True)
class PinSource:
    """Where a PIN is read from, each time anew: it may have been changed. ``where`` is what a message calls it."""

    where: str
    read_text: Callable[[], str | None]

    def read(self) -> Pin:
        """Raises ConfigurationError where there is none."""
        text = self.read_text()
        if not text:
            raise ConfigurationError(self.where, "holds no PIN")
        if not text.isprintable():
            raise ConfigurationError(self.where, "holds more than one line, or characters that no PIN has")
        return Pin(text)


def pin_of_value(value: str) -> PinSource:
    """A PIN that stands in the URI."""
    return PinSource("pin-value", lambda: value)


def pin_of_environment(name: str) -> PinSource:
    """A PIN in an environment variable."""
    return PinSource(f"environment variable {name!r}", lambda: os.environ.get(name))


def pin_of_file(path: Path, services: Services) -> PinSource:
    """A PIN in a file, in its one line."""

    def read() -> str:
        try:
            return read_secret_file(path, services).decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise ConfigurationError(str(path), "is not UTF-8") from None

    return PinSource(str(path), read)


def pin_of_credential(name: str, services: Services) -> PinSource:
    """A PIN that systemd handed over (``LoadCredential=NAME:…``, systemd.exec(5)). Raises ConfigurationError."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory is None:
        raise ConfigurationError(f"credential {name!r}", "there are no systemd credentials: use LoadCredential=")
    if not name or "/" in name or name in {".", ".."}:
        raise ConfigurationError(f"credential {name!r}", "is not the name of a credential")
    return pin_of_file(Path(directory) / name, services)


def pin_of_source(source: str, services: Services) -> PinSource:
    """``pin-source`` of a URI (RFC 7512 2.4): ``file:`` URI, a path, or ``credential:NAME``.

    Raises ConfigurationError for everything else. A command (``|…``) is not run: whoever can write a URI into a
    configuration could run programs.
    """
    if source.startswith("|"):
        raise ConfigurationError("pin-source", "commands are not run; write the PIN into a file")
    if source.startswith("credential:"):
        return pin_of_credential(source.removeprefix("credential:"), services)
    try:
        parts = urlsplit(source)
    except ValueError:
        raise ConfigurationError("pin-source", "is neither a file: URI, nor a path, nor credential:NAME") from None
    if parts.scheme.lower() == "file" and parts.netloc in {"", "localhost"}:
        path = unquote(parts.path)
        if not path.isprintable():
            raise ConfigurationError("pin-source", "has a character in it that cannot be shown")
        return pin_of_file(services.base_dir / path, services)
    if parts.scheme:
        raise ConfigurationError("pin-source", f"{parts.scheme}: is not read; there are file: and credential:")
    return pin_of_file(services.base_dir / source, services)
