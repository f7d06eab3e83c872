"""The routes of the admin API inside a command: on the store alone, or on everything that the configuration names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from quart import Blueprint, Quart

from kipuka_core.admin_work import administration_of, build_administration, work_routes
from kipuka_core.assemble import assemble
from kipuka_core.cli.admin_access import LOCAL
from kipuka_core.config import Config
from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.ports import Store
from kipuka_core.edges.http.admin import admin_app
from kipuka_core.edges.http.messages import Scope
from kipuka_core.edges.store import open_store
from kipuka_core.errors import NotFound
from kipuka_core.hooks.manager import load_plugins
from kipuka_core.model.administrator import Administrator
from kipuka_core.model.certificate import CaChain
from kipuka_core.model.event import Event


@asynccontextmanager
async def app_of_store(config: Config) -> AsyncIterator[Quart]:
    """On the database alone. Facts go to the store; the sinks belong to the server's processes."""
    plugins = load_plugins(config.plugins.enable)
    async with open_store(config.database_url) as store:
        yield _app(work_routes(build_administration(config, plugins, store, _StoreOnly(store))))


@asynccontextmanager
async def app_of_server(config: Config) -> AsyncIterator[Quart]:
    """On an assembly of its own, with CAs, policies and audit sinks. Raises ConfigurationError."""
    async with assemble(config) as assembly:
        chains = _Chains(assembly.cas)
        yield _app(work_routes(administration_of(assembly, chains.of)))


def _app(parts: Sequence[Blueprint]) -> Quart:
    return admin_app(_OwnDoor(), parts)


class _OwnDoor:
    """Whoever can run a command on the database is an operator."""

    challenge = ""

    async def admit(self, scope: Scope, *, method: str, path: str) -> Administrator:
        """The command."""
        return LOCAL


@dataclass(frozen=True, slots=True)
class _StoreOnly:
    """An event hub without log and sinks."""

    store: Store

    async def announce(self, event: Event) -> None:
        """Nobody to tell: the store has the fact with the change."""

    async def emit(self, event: Event) -> None:
        """Into the store."""
        await self.store.add_event(event)


@dataclass(frozen=True, slots=True)
class _Chains:
    cas: dict[str, CaBackend]

    async def of(self, ca_id: str) -> CaChain:
        if ca_id not in self.cas:
            raise NotFound(f"the CA {ca_id} is not in the configuration any more", code="issuer_unknown")
        return await self.cas[ca_id].chain()
