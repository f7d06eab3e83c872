"""Opens the backend: files, key, TLS, and a first look at CFSSL."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kipuka_cfssl.api import CfsslApi, CfsslError, open_client
from kipuka_cfssl.backend import CfsslCa
from kipuka_cfssl.chains import ChainFiles
from kipuka_cfssl.credentials import read_auth_key
from kipuka_cfssl.lookup import Lookup, lookup_by_certinfo, lookup_in_database
from kipuka_cfssl.settings import CfsslSettings
from kipuka_core import CaBackend, ConfigurationError, Provider, Services, read_secret_file


@asynccontextmanager
async def _open(settings: CfsslSettings, services: Services) -> AsyncIterator[CfsslCa]:
    where = f"ca.{settings.id}" if settings.id else "ca"
    if settings.timeout >= services.call_timeout_seconds:
        raise ConfigurationError(f"{where}.timeout", "must be shorter than [plugins] timeout")
    key = read_auth_key(settings, services, where)
    files = ChainFiles(settings, services, where)
    async with open_client(_tls(settings, services, where), settings.timeout) as client:
        api = CfsslApi(client, settings.url, settings.timeout)
        ca = CfsslCa(settings, services, api, key=key, files=files, lookup=_lookup(settings, services, api))
        await _first_look(ca, files, services, where)
        yield ca


async def _first_look(ca: CfsslCa, files: ChainFiles, services: Services, where: str) -> None:
    try:
        problems = await ca.look()
    except CfsslError as error:
        if files.issuing is None:
            problem = f"CFSSL cannot be asked for its certificate: {error}; with `cert` kipuka starts without it"
            raise ConfigurationError(where, problem) from error
        services.warn(f"{where}: {error}")
        return
    if problems:  # whatever it would issue would be refused afterwards
        setting, _, problem = problems[0].partition(": ")
        raise ConfigurationError(f"{where}.{setting}", problem)


def _lookup(settings: CfsslSettings, services: Services, api: CfsslApi) -> Lookup | None:
    if not settings.client_serials:
        return None
    if settings.certdb is not None:
        return lookup_in_database(services.base_dir / settings.certdb, services.run_blocking)
    return lookup_by_certinfo(api)


def _tls(settings: CfsslSettings, services: Services, where: str) -> ssl.SSLContext | bool:
    if settings.url.startswith("http:"):
        return True
    context = ssl.create_default_context()
    if settings.trust_anchors:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for name in settings.trust_anchors:
            _load(context.load_verify_locations, f"{where}.trust_anchors", services.base_dir / name)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.client_cert is not None and settings.client_key is not None:
        key = services.base_dir / settings.client_key
        read_secret_file(key, services)
        certificate = services.base_dir / settings.client_cert
        _load(context.load_cert_chain, f"{where}.client_cert", certificate, key, "")
    return context


def _load(load: object, where: str, *arguments: object) -> None:
    try:
        load(*arguments)  # type: ignore[operator]
    except OSError as error:  # ssl.SSLError is one
        shown = " and ".join(str(each) for each in arguments if each)
        raise ConfigurationError(where, f"{shown} cannot be used: {error.strerror or type(error).__name__}") from error


PROVIDER: Provider[CaBackend] = Provider(name="cfssl", settings=CfsslSettings, open=_open)
