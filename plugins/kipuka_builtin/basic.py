"""Authenticator ``basic``: users of an htpasswd file, with bcrypt or argon2 hashes (RFC 7030 3.2.3, RFC 7617)."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import argon2
import bcrypt
from argon2.exceptions import VerifyMismatchError
from pydantic import Field

from kipuka_builtin.htpasswd import Fingerprint, file_fingerprint, read_users
from kipuka_core import (
    Authenticator,
    ClientIdentity,
    ConfigurationError,
    Offer,
    Provider,
    Services,
    Settings,
    WrongSecret,
)
from kipuka_core.hooks.secret_files import OTHERS, check_permissions, shown

_REMEMBER = timedelta(minutes=5)
_REMEMBERED_AT_MOST = 10_000
_MAX_PASSWORD_BYTES = 1024
_BCRYPT_MAX_BYTES = 72

_argon2 = argon2.PasswordHasher()


class BasicSettings(Settings):
    """``[auth.basic]``."""

    users_file: Path = Field(
        description="htpasswd lines with bcrypt or argon2 hashes. Read again when it changes; one that cannot be read "
        "then leaves the users as they were."
    )


class RecentSuccesses:
    """Remembers verified passwords for five minutes, so that a fleet that polls does not cost an argon2 each time.

    What is kept is an HMAC under a key of this process: neither a password nor anything to try passwords against
    elsewhere. The stored hash goes into it, so that a changed password is not remembered under the old one.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._verified_at: OrderedDict[bytes, datetime] = OrderedDict()

    def proof(self, stored_hash: str, password: bytes) -> bytes:
        """What stands for this password of this user (its salted hash is nobody else's)."""
        return hmac.digest(self._key, stored_hash.encode() + b"\0" + password, "sha256")

    def holds(self, proof: bytes) -> bool:
        """Whether this was verified within the last five minutes."""
        verified_at = self._verified_at.get(proof)
        # A clock that was set back must not prolong the memory.
        return verified_at is not None and timedelta() <= self._clock() - verified_at < _REMEMBER

    def add(self, proof: bytes) -> None:
        """Remember one; the oldest is forgotten when there are too many."""
        self._verified_at[proof] = self._clock()
        self._verified_at.move_to_end(proof)
        if len(self._verified_at) > _REMEMBERED_AT_MOST:
            self._verified_at.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._verified_at.clear()

    def decoy_index(self, username: str, count: int) -> int:
        """A number below ``count`` that is always the same for one name and that nobody can foresee."""
        digest = hmac.digest(self._key, username.encode("utf-8", "surrogatepass"), "sha256")
        return int.from_bytes(digest[:8]) % count


class BasicAuthenticator(Authenticator):
    """Knows the users of one file.

    An unknown user costs as much time as a known one with a wrong password: the hash of some known user is verified
    and the outcome ignored, else the time of the answer would tell which names exist. The price is one verification
    for every foreign user name, so put ``otp`` before ``basic`` in ``[auth] order`` where both are used.
    """

    def __init__(self, path: Path, users: Mapping[str, str], seen: Fingerprint, services: Services) -> None:
        self._path = path
        self._users = users
        self._seen = seen
        self._services = services
        self._reading = asyncio.Lock()
        self._successes = RecentSuccesses(services.clock)

    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        """The user, when the file has one of this name with this password."""
        if offer.credentials is None or not offer.credentials.username:
            return None
        username = offer.credentials.username
        password = offer.credentials.password.encode("utf-8", "surrogatepass")
        users = await self._current_users()
        stored_hash = users.get(username)
        if stored_hash is None:
            await self._verify_decoy(users, username, password)
            return None
        proof = self._successes.proof(stored_hash, password)
        if not self._successes.holds(proof):
            if not await self._services.run_blocking(verify_password, stored_hash, password):
                raise WrongSecret(username)
            self._successes.add(proof)
        return ClientIdentity(authenticator=PROVIDER.name, entity_id=username)

    async def _verify_decoy(self, users: Mapping[str, str], username: str, password: bytes) -> None:
        if users:
            # Always the same hash for one name: an unknown name is then as slow, every time, as some known one.
            stored_hash = list(users.values())[self._successes.decoy_index(username, len(users))]
            await self._services.run_blocking(verify_password, stored_hash, password)

    async def _current_users(self) -> Mapping[str, str]:
        if file_fingerprint(self._path) != self._seen:
            async with self._reading:
                # Taken before reading: a change while it is read is seen at the next request.
                fingerprint = file_fingerprint(self._path)
                if fingerprint != self._seen:
                    await self._read_again(fingerprint)
        return self._users

    async def _read_again(self, fingerprint: Fingerprint) -> None:
        try:
            check_permissions(self._path, self._services, barred=OTHERS)
            self._users = await self._services.run_blocking(read_users, self._path)
        except ConfigurationError as error:
            self._services.warn(f"{error}; the users read before stay in force")
        else:
            self._successes.clear()
        self._seen = fingerprint


def verify_password(stored_hash: str, password: bytes) -> bool:
    """Whether ``password`` (UTF-8) belongs to a bcrypt or argon2 hash. Takes long on purpose: for worker threads."""
    if len(password) > _MAX_PASSWORD_BYTES:
        return False
    if stored_hash.startswith("$argon2"):
        try:
            return _argon2.verify(stored_hash, password)
        except VerifyMismatchError:
            return False
    # bcrypt sees 72 bytes. Cutting a longer password there would accept any other with the same beginning.
    fits = len(password) <= _BCRYPT_MAX_BYTES
    return bcrypt.checkpw(password[:_BCRYPT_MAX_BYTES], stored_hash.encode()) and fits


@asynccontextmanager
async def _open(settings: BasicSettings, services: Services) -> AsyncIterator[Authenticator]:
    path = services.base_dir / settings.users_file
    check_permissions(path, services, barred=OTHERS)
    seen = file_fingerprint(path)
    users = await services.run_blocking(read_users, path)
    if not users:
        services.warn(f"{shown(path)}: holds no users, so nobody can authenticate with a password yet")
    yield BasicAuthenticator(path, users, seen, services)


PROVIDER: Provider[Authenticator] = Provider("basic", BasicSettings, _open)
