"""Opens the backend: credentials, TLS, a first login and the engine's certificates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from cryptography import x509

from kipuka_core import CaBackend, CaChain, ConfigurationError, Provider, Services, read_secret_file
from kipuka_vault.access import VaultAccess, connect
from kipuka_vault.backend import VaultCa
from kipuka_vault.chains import ChainFiles
from kipuka_vault.errors import VaultCallError
from kipuka_vault.logins import login_of
from kipuka_vault.settings import VaultSettings


@asynccontextmanager
async def _open(settings: VaultSettings, services: Services) -> AsyncIterator[VaultCa]:
    where = f"ca.{settings.id}" if settings.id else "ca"
    if settings.timeout >= services.call_timeout_seconds:
        raise ConfigurationError(f"{where}.timeout", "must be shorter than [plugins] timeout")
    files = ChainFiles(settings, services, where)
    login = login_of(settings, services, where)
    connected = partial(
        connect,
        settings.url,
        namespace=settings.namespace,
        verify=True if settings.trust_anchors is None else _readable(settings, services, where, "trust_anchors"),
        cert=_client_certificate(settings, services, where),
        timeout_seconds=settings.timeout,
    )
    access = VaultAccess(connected, login, services.run_blocking, settings.timeout)
    keeper: asyncio.Task[None] | None = None
    try:
        chain = await _chain(access, files, settings, where)
        keeper = asyncio.create_task(access.keep_token())
        yield VaultCa(settings, services, access, chain)
    finally:
        if keeper is not None:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper


async def _chain(access: VaultAccess, files: ChainFiles, settings: VaultSettings, where: str) -> CaChain:
    mount = settings.mount_point
    try:
        await access.call(lambda client: client.auth.token.lookup_self())  # whether the token is good
        answer = await access.call(lambda client: client.secrets.pki.read_certificate("ca_chain", mount_point=mount))
        found = _certificates(answer)
        if not found:  # a root by itself, in older versions
            answer = await access.call(lambda client: client.secrets.pki.read_certificate("ca", mount_point=mount))
            found = _certificates(answer)
    except VaultCallError as error:
        raise ConfigurationError(where, f"Vault cannot be asked for its certificates: {error}") from error
    if not found:
        raise ConfigurationError(f"{where}.mount_point", "Vault has no CA certificate there")
    return files.chain(found[0], found[1:])


def _certificates(answer: Mapping[str, Any]) -> list[x509.Certificate]:
    data = answer.get("data")
    text = data.get("certificate") if isinstance(data, Mapping) else None
    try:
        return x509.load_pem_x509_certificates(text.encode()) if isinstance(text, str) and text else []
    except ValueError:
        return []


def _client_certificate(settings: VaultSettings, services: Services, where: str) -> tuple[str, str] | None:
    if settings.client_cert is None or settings.client_key is None:
        return None
    read_secret_file(services.base_dir / settings.client_key, services)
    return str(_readable(settings, services, where, "client_cert")), str(services.base_dir / settings.client_key)


def _readable(settings: VaultSettings, services: Services, where: str, setting: str) -> Any:
    path = services.base_dir / str(getattr(settings, setting))
    try:
        x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{where}.{setting}", f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{where}.{setting}", f"{path} does not hold PEM certificates") from error
    return path


PROVIDER: Provider[CaBackend] = Provider(name="vault", settings=VaultSettings, open=_open)
