"""The key store for ``pkcs11:`` URIs."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import ClassVar, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from kipuka_core import ConfigurationError, KeyStore, Provider, Services, Signer, TokenHealth, Unavailable
from kipuka_hsm.access import TokenAccess, TokenPlace
from kipuka_hsm.key_lookup import key_from
from kipuka_hsm.keys import TokenKey
from kipuka_hsm.probe import probe
from kipuka_hsm.process import ProcessGone, TokenFailed
from kipuka_hsm.settings import HsmSettings
from kipuka_hsm.uri import Pkcs11Uri, parse_uri, without_pin

_FAILURES = (TokenFailed, ProcessGone, Unavailable, UnsupportedAlgorithm)
_GENERATE_SECONDS = 120.0


class Pkcs11KeyStore(KeyStore):
    """Opens keys of any number of modules and tokens; those of one token share its signer processes."""

    schemes: ClassVar[tuple[str, ...]] = ("pkcs11",)

    def __init__(self, settings: HsmSettings, services: Services) -> None:
        self._settings = settings
        self._services = services
        self._tokens: dict[TokenPlace, asyncio.Task[TokenAccess]] = {}
        self._keys: list[tuple[TokenAccess, TokenKey, str]] = []

    async def signer(self, key_uri: str) -> Signer:
        """Open a key: it exists once, is kept by its token, may sign, and does. Raises ConfigurationError."""
        uri = self._read(key_uri)
        access = await self._access(uri, key_uri)
        where = without_pin(key_uri)
        try:
            key = await access.threads.run(_open_key, access, uri, where, self._services)
            if not await access.threads.run(probe, key):
                raise ConfigurationError(where, "makes signatures that its own public key does not verify")
        except _FAILURES as error:
            raise ConfigurationError(where, _told(error)) from None
        self._keys.append((access, key, where))
        return Signer(
            cast("CertificateIssuerPrivateKeyTypes", key),
            hsm_backed=True,
            blocking=True,
            run_blocking=access.threads.run,
        )

    async def generate(self, key_uri: str, key_type: str) -> Signer:
        """Make a key pair that never leaves the token. Raises ConfigurationError, also when the name is taken."""
        uri = self._read(key_uri)
        where = without_pin(key_uri)
        if not uri.object_label:
            raise ConfigurationError(where, "needs object=NAME: what the new key is called")
        access = await self._access(uri, key_uri)
        try:
            await access.threads.run(_generate, access, key_type, uri.object_label, uri.object_id)
        except _FAILURES as error:
            raise ConfigurationError(where, _told(error)) from None
        return await self.signer(key_uri)

    async def tokens(self) -> Sequence[TokenHealth]:
        """How every token is that has been opened."""
        return [task.result().health for task in self._tokens.values() if _is_open(task)]

    async def ping(self) -> None:
        """All sessions are open, and every key makes a signature that verifies. Raises Unavailable."""
        for access in [task.result() for task in self._tokens.values() if _is_open(task)]:
            if problem := access.health.problem:
                raise Unavailable(problem)
        for access, key, where in self._keys:
            try:
                is_right = await access.threads.run(probe, key)
            except _FAILURES as error:
                raise Unavailable(f"{where}: {_told(error)}") from None
            if not is_right:
                raise Unavailable(f"{where} makes signatures that its own public key does not verify")

    async def close(self) -> None:
        """End all signer processes."""
        tasks, self._tokens = list(self._tokens.values()), {}
        for task in tasks:
            with suppress(Exception):
                await asyncio.to_thread((await task).close)

    def _read(self, key_uri: str) -> Pkcs11Uri:
        uri = parse_uri(key_uri)
        if uri.pin_value is not None:
            self._services.warn(
                f"{without_pin(key_uri)}: the PIN stands in the configuration; write it into a file and name that as"
                " pin-source"
            )
        for name in uri.ignored:
            self._services.warn(f"{without_pin(key_uri)}: {name!r} is no attribute that is known, and ignored")
        return uri

    async def _access(self, uri: Pkcs11Uri, key_uri: str) -> TokenAccess:
        """The token, opened once for all of its keys."""
        try:
            place = TokenPlace.of(uri, self._settings, self._services)
            task = self._tokens.get(place)
            if task is None:
                task = asyncio.create_task(self._open_token(place, uri))
                self._tokens[place] = task
                task.add_done_callback(lambda done: self._forget_failed(place, done))
            return await asyncio.shield(task)
        except ConfigurationError as error:
            where = without_pin(key_uri)
            raise ConfigurationError(
                where, f"{error.where}: {error.problem}" if error.where else error.problem
            ) from None

    async def _open_token(self, place: TokenPlace, uri: Pkcs11Uri) -> TokenAccess:
        access = TokenAccess(place, uri, self._settings, self._services, asyncio.get_running_loop())
        await asyncio.to_thread(access.open)
        return access

    def _forget_failed(self, place: TokenPlace, task: asyncio.Task[TokenAccess]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._tokens.pop(place, None)


def _told(error: Exception) -> str:
    """What the operator may know, which the text of an Unavailable is not: that is for clients."""
    return getattr(error, "detail", "") or str(error)


def _is_open(task: asyncio.Task[TokenAccess]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _open_key(access: TokenAccess, uri: Pkcs11Uri, where: str, services: Services) -> TokenKey:
    facts = access.pool.look(lambda session: session.find(uri.object_label, uri.object_id))
    _, key = key_from(facts, access.sign, access.mechanisms, where, services)
    return key


def _generate(access: TokenAccess, key_type: str, label: str, key_id: bytes | None) -> None:
    session = access.open_for_writing()
    try:
        session.generate(key_type, label, key_id or secrets.token_bytes(8), _GENERATE_SECONDS)
    finally:
        session.close()


@asynccontextmanager
async def _open(settings: HsmSettings, services: Services) -> AsyncIterator[KeyStore]:
    store = Pkcs11KeyStore(settings, services)
    try:
        yield store
    finally:
        await store.close()


PROVIDER: Provider[KeyStore] = Provider("pkcs11", HsmSettings, _open)
