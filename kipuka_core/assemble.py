"""The composition root: the only file that knows every room.

Order of opening: store, event sinks, key stores, CAs, policies, authenticators; TLS and listening are the server's. The
exit stack closes in reverse, also when opening fails half-way.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from pydantic import BaseModel

from kipuka_core import checks
from kipuka_core.config import Config, PluginTable, labels, validate_table, warnings
from kipuka_core.domain.approval import Approvals
from kipuka_core.domain.authenticate import Authentication
from kipuka_core.domain.ca_choice import CaChoice
from kipuka_core.domain.ca_ports import CaBackend, Signer
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.issuance import Issuance
from kipuka_core.domain.judge import Judge, NamedPolicy
from kipuka_core.domain.meter import Meter
from kipuka_core.domain.pipeline import Road
from kipuka_core.domain.ports import Authenticator, EventSink, KeyStore, LockoutLimits, Policy, TlsMaterial, TokenHealth
from kipuka_core.domain.pursuit import Pursuit
from kipuka_core.domain.remembered import RememberedRequests
from kipuka_core.domain.renewal import RenewalRule
from kipuka_core.domain.reservations import Reservations
from kipuka_core.domain.rules import check_label
from kipuka_core.domain.server_certificate import ServerCertificates
from kipuka_core.domain.standing import CertificateStanding
from kipuka_core.domain.telling import RevocationTeller
from kipuka_core.edges.anonymous_refusals import AnonymousRefusals, limits_for
from kipuka_core.edges.beside import running
from kipuka_core.edges.blocking import BlockingWork
from kipuka_core.edges.events import ConfiguredSink, Events
from kipuka_core.edges.http.est import EstApp, EstSettings
from kipuka_core.edges.metrics.counters import Counters
from kipuka_core.edges.metrics.meter import CountingMeter
from kipuka_core.edges.revocation import RevocationChecker, RevocationSettings, open_revocation
from kipuka_core.edges.status import StatusDesk
from kipuka_core.edges.store import SqlStore, open_store
from kipuka_core.edges.tls.anchors import load_anchors
from kipuka_core.edges.tls.exporter import exporter_problem
from kipuka_core.errors import ConfigurationError
from kipuka_core.first_answers import advertised, first_chain, opened_signer
from kipuka_core.groups import ca_groups
from kipuka_core.hooks.lent_records import LentRecords
from kipuka_core.hooks.lifecycle import PortT, open_port
from kipuka_core.hooks.manager import Plugins, load_plugins
from kipuka_core.hooks.provider import Services
from kipuka_core.model.certificate import CaChain
from kipuka_core.model.event import Event
from kipuka_core.model.label import Label
from kipuka_core.plugin_tables import plugin_settings
from kipuka_core.wire.reader import WireReader

_CORE_KEYS = {
    "authenticator": ("use",),
    "policy": ("use",),
    "ca_backend": ("backend", "is_default", "give_up_after"),
    "event_sink": ("use", "required"),
}
"""Keys of a plugin's table that the core takes for itself; good to suggest to somebody who misspelt one."""
_URI_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):")


def utc_now() -> datetime:
    """The clock of the server."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """A server with everything open, before it listens."""

    config: Config
    plugins: Plugins
    plugin_settings: Mapping[str, BaseModel]
    """``[plugin.NAME]`` of the enabled plugins that have such settings."""
    labels: dict[str, Label]
    cas: dict[str, CaBackend]
    key_stores: tuple[KeyStore, ...]
    policies: tuple[NamedPolicy, ...]
    authenticators: dict[str, Authenticator]
    store: SqlStore
    events: Events
    meter: Meter
    counters: Counters | None
    road: Road
    approvals: Approvals
    pursuit: Pursuit
    teller: RevocationTeller
    est: EstApp
    client_anchors: list[x509.Certificate]
    """Shared with the plugins, and replaced in place when the files are read again."""
    own_issuers: tuple[x509.Certificate, ...]
    standing: CertificateStanding
    status: StatusDesk
    revocation: RevocationChecker | None
    """What a reload reads CRLs into; None when ``[revocation] check`` is ``none``."""
    warnings: list[str]
    services: Services
    """What plugins are lent."""
    open_tls: Callable[[PluginTable], Awaitable[TlsMaterial]]
    """Opens a TLS material provider, closed together with all the rest."""

    async def tokens(self) -> list[TokenHealth]:
        """The tokens of every key store. Raises PluginFailed."""
        found: list[TokenHealth] = []
        for key_store in self.key_stores:
            found += await self.road.guard.call(type(key_store).__name__, key_store.tokens, expect=(tuple, list))
        return found


@asynccontextmanager
async def assemble(
    config: Config,
    *,
    clock: Callable[[], datetime] = utc_now,
    database_url: str | None = None,
    counters: Counters | None = None,
) -> AsyncIterator[Assembly]:
    """Open everything that the configuration names.

    ``counters`` take the figures of what goes on; None: nobody wants them. ``database_url`` replaces the configured
    one: a dry run, of ``kipuka check``, which leaves alone what is real.
    Raises ConfigurationError, one line, for the first thing that cannot be opened; what was open by then is closed.
    """
    async with AsyncExitStack() as stack:
        yield await _Builder(
            config,
            clock,
            database_url or config.database_url,
            stack,
            dry_run=database_url is not None,
            counters=counters,
        ).build()


@dataclass(slots=True)
class _Builder:
    config: Config
    clock: Callable[[], datetime]
    database_url: str
    stack: AsyncExitStack
    dry_run: bool
    counters: Counters | None
    meter: Meter = field(default_factory=Meter)
    warnings: list[str] = field(default_factory=list)
    server_certificates: ServerCertificates | None = None
    key_stores: dict[str, KeyStore] = field(default_factory=dict)
    own_issuers: list[x509.Certificate] = field(default_factory=list)
    events: Events | None = None

    async def build(self) -> Assembly:
        config = self.config
        self.warnings.extend(warnings(config))
        if problem := exporter_problem():
            self.warnings.append(f"channel binding is not available on TLS 1.3 connections: {problem}")
        plugins = load_plugins(config.plugins.enable)
        own_settings = plugin_settings(config, plugins)
        all_labels = {label.name: label for label in labels(config)}
        for label in all_labels.values():
            check_label(label)
        if self.counters is not None:
            self.meter = CountingMeter(self.counters, all_labels)
        checks.check_embedded_ca(config)
        store = await self.stack.enter_async_context(open_store(self.database_url))
        guard = Guard(config.plugins.timeout)
        client_auth = config.tls.client_auth
        anchors = list(load_anchors(client_auth.trust_anchors, where="tls.client_auth.trust_anchors", now=self.clock()))
        services = self._services(store, tuple(all_labels.values()), anchors)
        opener = _Opener(plugins, services, config.base_dir, self.stack)

        sinks = await self._sinks(opener)
        anonymous = AnonymousRefusals(limits_for(config.audit.anonymous_in_full))
        self.events = events = Events(sinks, store, guard, anonymous, self.meter)
        await self.stack.enter_async_context(running(anonymous.run(events.tell)))
        await self._open_key_stores(opener)
        cas = {
            table.name: await opener.open("ca_backend", table, CaBackend, id=table.name) for table in config.ca_backends
        }
        chains = {table.name: await first_chain(cas[table.name], table, guard) for table in config.ca_backends}
        self.own_issuers.extend(_issuers(chains))
        policies = tuple(
            [NamedPolicy(table.name, await opener.open("policy", table, Policy)) for table in config.policies]
        )
        # Password hashes have threads of their own: guessing passwords shall not delay signatures, nor stop a reload.
        hashing = replace(opener, services=replace(services, run_blocking=BlockingWork().run))
        authenticators = {
            table.name: await hashing.open("authenticator", table, Authenticator) for table in config.authenticators
        }
        self.warnings.extend(checks.idle_providers(config, plugins))
        checks.check_together(
            config, tuple(all_labels.values()), cas=cas, chains=chains, authenticators=authenticators, anchors=anchors
        )

        revocation = await self._open_revocation()
        standing = CertificateStanding(
            store=store,
            source=revocation,
            soft_fail=config.revocation.soft_fail,
            own_issuers=lambda: self.own_issuers,
        )
        authentication = Authentication(
            authenticators=authenticators,
            guard=guard,
            store=store,
            events=events,
            limits=next(
                (port.lockout_limits for port in authenticators.values() if port.lockout_limits), LockoutLimits()
            ),
            standing=standing if revocation is not None else None,
        )
        road = self._road(store, events, guard, cas, policies, authentication)
        self.server_certificates = ServerCertificates(
            cas=cas,
            default_ca_id=config.default_ca.id,
            guard=guard,
            issuance=road.issuance,
            reader=road.reader,
            clock=self.clock,
            dry_run=self.dry_run,
        )
        est = EstApp(
            road=road,
            labels=all_labels,
            advertised={name: await advertised(label, policies, guard) for name, label in all_labels.items()},
            events=events,
            clock=self.clock,
            settings=EstSettings(
                base_path=config.est.base_path,
                max_body_bytes=config.server.max_body_size,
                body_timeout_seconds=config.server.body_timeout,
            ),
            required_standing=standing if config.tls.client_auth.mode == "required" else None,
            meter=self.meter,
        )
        self.stack.push_async_callback(road.drain)
        return Assembly(
            config=config,
            plugins=plugins,
            plugin_settings=own_settings,
            labels=all_labels,
            cas=cas,
            key_stores=tuple(dict.fromkeys(self.key_stores.values())),
            policies=policies,
            authenticators=authenticators,
            store=store,
            events=events,
            meter=self.meter,
            counters=self.counters,
            road=road,
            approvals=Approvals(road=road, store=store, events=events, labels=all_labels),
            teller=RevocationTeller(cas=cas, guard=guard, store=store, events=events),
            pursuit=Pursuit(
                issuance=road.issuance,
                labels=all_labels,
                reader=road.reader,
                patience={ca.id: timedelta(seconds=ca.give_up_after) for ca in config.cas},
            ),
            est=est,
            client_anchors=anchors,
            own_issuers=tuple(self.own_issuers),
            standing=standing,
            status=StatusDesk(
                cas,
                store=store,
                events=events,
                guard=guard,
                run_blocking=BlockingWork().run,
                clock=self.clock,
            ),
            revocation=revocation,
            warnings=self.warnings,
            services=services,
            open_tls=replace(opener, services=replace(services, run_blocking=BlockingWork().run)).tls_material,
        )

    def _services(self, store: SqlStore, all_labels: tuple[Label, ...], anchors: list[x509.Certificate]) -> Services:
        config = self.config
        return Services(
            store=LentRecords(store),
            clock=self.clock,
            run_blocking=BlockingWork().run,
            open_signer=self._open_signer,
            base_dir=config.base_dir,
            state_dir=config.server.state_dir,
            labels=all_labels,
            client_anchors=anchors,
            own_issuers=lambda: self.own_issuers,
            ca_chain=lambda ca_id: self._open_cas().chain(ca_id),
            issue_server_certificate=lambda *what, **how: self._open_cas().issue(*what, **how),
            dry_run=self.dry_run,
            call_timeout_seconds=config.plugins.timeout,
            accept_unrecorded=_accepts_unrecorded(config),
            strict_permissions=config.server.strict_permissions,
            emit=self._emit,
            warn=self.warnings.append,
        )

    async def _emit(self, event: Event) -> None:
        if self.events is not None:  # what a sink has to say while it is opened, nobody can write down
            await self.events.emit(event)

    def _open_cas(self) -> ServerCertificates:
        if self.server_certificates is None:
            raise ConfigurationError("ca", "no CA is open yet: only TLS material can have a certificate issued")
        return self.server_certificates

    async def _open_revocation(self) -> RevocationChecker | None:
        revocation = self.config.revocation
        if revocation.check == "none":
            return None
        settings = RevocationSettings(
            check=revocation.check,
            crls=revocation.crls,
            responder=revocation.responder,
            cache_ttl_seconds=revocation.cache_ttl,
            timeout_seconds=revocation.timeout,
        )
        return await self.stack.enter_async_context(open_revocation(settings, BlockingWork().run))

    async def _sinks(self, opener: _Opener) -> list[ConfiguredSink]:
        sinks: list[ConfiguredSink] = []
        for table, settings in zip(self.config.event_sinks, self.config.audit.sink, strict=True):
            alike = sum(each.name.partition(" ")[0] == table.name for each in sinks)
            name = f"{table.name} {alike + 1}" if alike else table.name
            sinks.append(ConfiguredSink(name, await opener.open("event_sink", table, EventSink), settings.required))
        return sinks

    async def _open_key_stores(self, opener: _Opener) -> None:
        for table in self.config.key_stores:
            key_store = await opener.open("key_store", table, KeyStore)
            for scheme in key_store.schemes:
                if scheme in self.key_stores:
                    raise ConfigurationError(table.toml_path, f"another key store serves {scheme}: URIs already")
                self.key_stores[scheme] = key_store

    async def _open_signer(self, key_uri: str) -> Signer:
        match = _URI_SCHEME.match(key_uri)
        scheme = match[1] if match else "file"
        if scheme not in self.key_stores:
            known = ", ".join(sorted(self.key_stores))
            hint = '; install kipuka-hsm and add "hsm" to [plugins] enable' if scheme == "pkcs11" else ""
            raise ConfigurationError("", f"no key store serves {scheme}: URIs (known: {known}){hint}")
        return await opened_signer(self.key_stores[scheme], key_uri)

    def _road(  # noqa: PLR0917  # every part of the road
        self,
        store: SqlStore,
        events: Events,
        guard: Guard,
        cas: dict[str, CaBackend],
        policies: tuple[NamedPolicy, ...],
        authentication: Authentication,
    ) -> Road:
        # A lease outlives the slowest road: every plugin once, up to its timeout.
        calls = 2 * len(policies) + 4
        return Road(
            authentication=authentication,
            reader=WireReader(),
            remembered=RememberedRequests(store, events, self.meter),
            reservations=Reservations(store, events, lease_seconds=round(guard.timeout_seconds * calls)),
            renewal=RenewalRule(store, accept_unrecorded=_accepts_unrecorded(self.config)),
            judge=Judge(policies, guard),
            issuance=Issuance(cas, guard, store, events, self.meter),
            cas=cas,
            choice=CaChoice(cas=cas, guard=guard, groups=ca_groups(self.config)),
            guard=guard,
            meter=self.meter,
        )


@dataclass(frozen=True, slots=True)
class _Opener:
    """Opens ports by what the file says of them."""

    plugins: Plugins
    services: Services
    base_dir: Path
    stack: AsyncExitStack
    _tls_materials: dict[str, TlsMaterial] = field(default_factory=dict)

    async def tls_material(self, table: PluginTable) -> TlsMaterial:
        """The material of a listener, opened once: a reload asks the same port again."""
        where = table.toml_path
        if where not in self._tls_materials:
            self._tls_materials[where] = await self.open("tls_material", table, TlsMaterial)
        return self._tls_materials[where]

    async def open(self, kind: str, table: PluginTable, port: type[PortT], **more: str) -> PortT:
        provider = self.plugins.provider(kind, table.use, table.toml_path)
        wanted = {key: value for key, value in more.items() if key in provider.settings.model_fields}
        settings = validate_table(
            provider.settings,
            {**table.settings, **wanted},
            table.toml_path,
            base_dir=self.base_dir,
            other_keys=_CORE_KEYS.get(kind, ()),
        )
        return await open_port(provider, settings, self.services, port=port, where=table.toml_path, stack=self.stack)


def _accepts_unrecorded(config: Config) -> bool:
    """A certificate of an own CA that the store does not know counts when it is checked elsewhere, or by decree."""
    return config.revocation.accept_unrecorded or config.revocation.check != "none"


def _issuers(chains: dict[str, CaChain]) -> list[x509.Certificate]:
    return list(dict.fromkeys(each for chain in chains.values() for each in (*chain.certificates, *chain.previous)))
