"""Where PINs come from; and that a wrong one is tried once, by all processes of a server together."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kipuka_core import ConfigurationError, Services, read_secret_file

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}


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
    parts = urlsplit(source)
    if parts.scheme.lower() == "file" and parts.netloc in {"", "localhost"}:
        return pin_of_file(services.base_dir / unquote(parts.path), services)
    if parts.scheme:
        raise ConfigurationError("pin-source", f"{parts.scheme}: is not read; there are file: and credential:")
    return pin_of_file(services.base_dir / source, services)


class PinRefused(Exception):
    """This PIN was refused by this token before, and is not tried again."""


class LoginGuard:
    """Lets one process log in at a time, and no process with a PIN that was refused before.

    A token counts wrong PINs and locks itself for ever. So the refused PIN is remembered, hashed and salted, in
    ``directory``; another PIN is tried, once, and a PIN that works makes it forgotten.
    """

    def __init__(self, directory: Path, token_serial: str) -> None:
        name = _UNSAFE.sub("_", token_serial) or "token"
        self._lock = directory / f"{name}.login.lock"
        self._refused = directory / f"{name}.refused-pin.json"

    @contextmanager
    def attempt(self, pin: Pin) -> Iterator[Attempt]:
        """Around a login, whose outcome the caller tells. Raises PinRefused, and OSError."""
        self._lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if self._was_refused(pin):
                raise PinRefused
            yield Attempt(self._refused, pin)
        finally:
            os.close(descriptor)

    def _was_refused(self, pin: Pin) -> bool:
        try:
            fields = json.loads(self._refused.read_bytes())
            return secrets.compare_digest(_hash(pin, bytes.fromhex(fields["salt"])), bytes.fromhex(fields["hash"]))
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, TypeError):  # half written by a process that was killed: it had been refused
            return True


@dataclass(frozen=True, slots=True)
class Attempt:
    """A login under way."""

    file: Path
    pin: Pin

    def failed(self) -> None:
        """The token says that the PIN is wrong."""
        salt = secrets.token_bytes(16)
        text = json.dumps({"salt": salt.hex(), "hash": _hash(self.pin, salt).hex()})
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def succeeded(self) -> None:
        """The PIN is right."""
        with suppress(FileNotFoundError):
            self.file.unlink()


def _hash(pin: Pin, salt: bytes) -> bytes:
    return hashlib.scrypt(pin.text.encode(), salt=salt, **_SCRYPT)
