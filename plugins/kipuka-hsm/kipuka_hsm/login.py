"""Logging in: one process of the host at a time, and never twice with a PIN that may be wrong.

A token counts wrong PINs and locks itself for ever, and a server has several processes. So a PIN that has never worked
is written down, salted and hashed, in the state directory before the token sees it; when it works, that it did is
written instead. One that was refused, or got no clear answer, is not tried again, by no process and after no restart.
The lock is for finding the token and logging in, since modules that keep their tokens in files (SoftHSM) write to them
at a login, and another process that looks just then sees no token.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from kipuka_core import ConfigurationError, sync_directory
from kipuka_hsm.pins import Pin

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}
_MOST_REMEMBERED = 32
_LOCK_PAUSE_SECONDS = 0.02


class PinStanding(Enum):
    """What is known of a PIN."""

    NEW = auto()
    WORKED = auto()
    REFUSED = auto()
    """It was refused, or tried without a clear answer."""


class LoginGivenUp(Exception):
    """Whoever wanted the session does not any more."""


@dataclass(frozen=True, slots=True)
class _Memory:
    """What the file of one token holds: hashes in hexadecimal, all with the same salt."""

    salt: str
    refused: tuple[str, ...] = ()
    worked: str = ""


@dataclass(slots=True)
class LoginGuard:
    """What processes that share ``directory`` know of one another's logins."""

    directory: Path
    lock_seconds: float = 60.0
    """How long to wait for other processes that open sessions."""
    _hashes: dict[tuple[str, bytes], str] = field(default_factory=dict, repr=False)
    """A hash that was computed once; its PIN is known by a hash with a key of this process."""
    _own_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @contextmanager
    def one_at_a_time(self, library: str, is_over: Callable[[], bool]) -> Iterator[None]:
        """Wait until no other process logs in through this module.

        Raises ConfigurationError when that takes too long, LoginGivenUp when ``is_over`` says so meanwhile.
        """
        file = self.directory / f"{hashlib.sha256(os.fsencode(library)).hexdigest()[:16]}.lock"
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(str(self.directory), f"cannot be written: {error.strerror}") from None
        try:
            self._lock(descriptor, file, is_over)
            yield
        finally:
            os.close(descriptor)

    def standing(self, token_serial: str, pin: Pin) -> PinStanding:
        """What is known of this PIN at this token. Raises ConfigurationError for a memory that cannot be read."""
        memory = self._read(token_serial)
        hashed = self._hash(pin, memory.salt)
        if hashed in memory.refused:
            return PinStanding.REFUSED
        return PinStanding.WORKED if hashed == memory.worked else PinStanding.NEW

    def about_to_try(self, token_serial: str, pin: Pin) -> None:
        """Remember it as one that may be wrong, durably. Raises ConfigurationError: then it must not be tried."""
        self._remember(token_serial, pin, is_refused=True)

    def refused(self, token_serial: str, pin: Pin) -> None:
        """The token says that it is wrong, also one that has worked before. Raises ConfigurationError."""
        self._remember(token_serial, pin, is_refused=True)

    def accepted(self, token_serial: str, pin: Pin) -> None:
        """It is right. Raises ConfigurationError."""
        self._remember(token_serial, pin, is_refused=False, has_worked=True)

    def not_judged(self, token_serial: str, pin: Pin) -> None:
        """The token did not look at it. Raises ConfigurationError."""
        self._remember(token_serial, pin, is_refused=False)

    def _remember(self, token_serial: str, pin: Pin, *, is_refused: bool, has_worked: bool = False) -> None:
        memory = self._read(token_serial)
        hashed = self._hash(pin, memory.salt)
        refused = tuple(each for each in memory.refused if each != hashed)
        if is_refused:
            refused = (*refused[-_MOST_REMEMBERED:], hashed)
        others_worked = "" if is_refused and memory.worked == hashed else memory.worked
        self._write(token_serial, _Memory(memory.salt, refused, hashed if has_worked else others_worked))

    def file(self, token_serial: str) -> Path:
        """The memory of one token; removing it forgets everything."""
        return self.directory / f"{_UNSAFE.sub('_', token_serial) or 'token'}.pins"

    def _lock(self, descriptor: int, file: Path, is_over: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.lock_seconds
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if is_over():
                    raise LoginGivenUp from None
                if time.monotonic() >= deadline:
                    raise ConfigurationError(
                        str(file),
                        f"another process has held it for {self.lock_seconds:g} s while logging in to a token; see"
                        " which one (fuser, lslocks) and end it",
                    ) from None
            time.sleep(_LOCK_PAUSE_SECONDS)

    def _read(self, token_serial: str) -> _Memory:
        file = self.file(token_serial)
        try:
            fields = json.loads(file.read_bytes())
            return _Memory(str(fields["salt"]), tuple(map(str, fields["refused"])), str(fields["worked"]))
        except FileNotFoundError:
            return _Memory(secrets.token_hex(16))
        except OSError as error:
            raise ConfigurationError(str(file), f"cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise ConfigurationError(
                str(file), "is damaged, so that refused PINs are not known: see that the PIN is right, and remove it"
            ) from None

    def _write(self, token_serial: str, memory: _Memory) -> None:
        file = self.file(token_serial)
        fresh = file.with_suffix(f".{os.getpid()}-{secrets.token_hex(4)}")
        text = json.dumps({"salt": memory.salt, "refused": memory.refused, "worked": memory.worked})
        try:
            try:
                descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "w", encoding="ascii") as opened:
                    opened.write(text)
                    opened.flush()
                    os.fsync(opened.fileno())
                fresh.replace(file)
                sync_directory(self.directory)
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigurationError(
                str(file), f"cannot be written ({error.strerror}), and no PIN is tried that is not written down"
            ) from None

    def _hash(self, pin: Pin, salt: str) -> str:
        known_as = (salt, hashlib.blake2b(pin.text.encode(), key=self._own_key).digest())
        if known_as not in self._hashes:
            self._hashes[known_as] = hashlib.scrypt(pin.text.encode(), salt=bytes.fromhex(salt), **_SCRYPT).hex()
        return self._hashes[known_as]
