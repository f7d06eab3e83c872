"""Logging in: one process of the host at a time, and never again with a PIN that the token has refused.

A token counts wrong PINs and locks itself for ever, and a server has several processes. So a refused PIN is remembered,
salted and hashed, in the state directory: another PIN is tried, once, and one that works makes the memory go away. The
lock is for the opening as a whole, since modules that keep their tokens in files (SoftHSM) write to them at a login,
and another process that looks just then sees no token.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kipuka_core import ConfigurationError
from kipuka_hsm.pins import Pin

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}


@dataclass(frozen=True, slots=True)
class LoginGuard:
    """What processes that share ``directory`` know of one another's logins."""

    directory: Path

    @contextmanager
    def one_at_a_time(self, library: str) -> Iterator[None]:
        """Wait until no other process opens a token of this module. Raises ConfigurationError."""
        name = hashlib.sha256(os.fsencode(library)).hexdigest()[:16]
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(str(self.directory), f"cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def was_refused(self, token_serial: str, pin: Pin) -> bool:
        """Whether this token has refused this very PIN before."""
        try:
            fields = json.loads(self._file(token_serial).read_bytes())
            return secrets.compare_digest(_hash(pin, bytes.fromhex(fields["salt"])), bytes.fromhex(fields["hash"]))
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError):  # half written by a process that was killed over it
            return True

    def refused(self, token_serial: str, pin: Pin) -> None:
        """The token says that this PIN is wrong. Raises OSError."""
        salt = secrets.token_bytes(16)
        text = json.dumps({"salt": salt.hex(), "hash": _hash(pin, salt).hex()})
        descriptor = os.open(self._file(token_serial), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def accepted(self, token_serial: str) -> None:
        """A PIN is right, so that the wrong one may be forgotten."""
        with suppress(OSError):
            self._file(token_serial).unlink()

    def _file(self, token_serial: str) -> Path:
        return self.directory / f"{_UNSAFE.sub('_', token_serial) or 'token'}.refused-pin"


def _hash(pin: Pin, salt: bytes) -> bytes:
    return hashlib.scrypt(pin.text.encode(), salt=salt, **_SCRYPT)
