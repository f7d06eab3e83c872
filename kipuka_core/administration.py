"""From an open assembly and its live TLS to the admin listener's application."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from typing import cast

from cryptography import x509
from quart import Quart

from kipuka_core.admin_work import administration_of, work_routes
from kipuka_core.assemble import Assembly, utc_now
from kipuka_core.config import Config, used_tables
from kipuka_core.domain.port import Port
from kipuka_core.domain.ports import KeyStore, Store
from kipuka_core.domain.standing import CertificateStanding
from kipuka_core.edges.http.admin import admin_app
from kipuka_core.edges.http.admin_bearer import read_bearer_tokens
from kipuka_core.edges.http.admin_cas import CaDirectory, ca_routes
from kipuka_core.edges.http.admin_credentials import AdminRule, idle_anchors
from kipuka_core.edges.http.admin_gate import AdminGate
from kipuka_core.edges.http.admin_health import (
    DATABASE,
    Health,
    HealthChecks,
    HealthStatus,
    Ping,
    audit_part,
    ca_part,
    health_routes,
)
from kipuka_core.edges.http.admin_metrics import metrics_routes
from kipuka_core.edges.http.admin_plugins import PluginDirectory, Use, plugin_routes
from kipuka_core.edges.http.admin_tokens import tokens_status
from kipuka_core.edges.http.console import ConsoleServices, WithConsole, console_app
from kipuka_core.edges.log import get_logger
from kipuka_core.errors import NotAuthenticated, StoreUnavailable
from kipuka_core.live_tls import LiveTls
from kipuka_core.measuring import metrics_page
from kipuka_core.model.fingerprints import issuer_key_id, serial_hex

log = get_logger()


def administration(assembly: Assembly, live: LiveTls) -> Quart | WithConsole:
    """The application of the admin listener.

    Raises ConfigurationError for a plugin's admin routes that cannot be added.
    """
    own_issuers = assembly.standing.own_issuers

    def admin_warnings() -> list[str]:
        return idle_anchors(live.anchors(), own_issuers())

    for warning in admin_warnings():
        log.warning("configuration", warning=warning)
    config = assembly.config
    rule = AdminRule(
        anchors=live.anchors,
        own_issuers=own_issuers,
        operators=config.admin.operators,
        viewers=config.admin.viewers,
    )
    gate = AdminGate(
        rule=rule,
        standing=AdminStanding(assembly.standing),
        events=assembly.events,
        clock=utc_now,
        tokens=read_bearer_tokens(
            config.admin_tokens,
            os.environ,
            strict_permissions=config.server.strict_permissions,
            warn=assembly.warnings.append,
        ),
    )
    guard = assembly.road.guard
    checks = HealthChecks(_pings(assembly), guard)
    health = Health(
        checks=checks,
        version=version("kipuka"),
        database_name=config.database_url.partition(":")[0].partition("+")[0],
        ca_ids=tuple(assembly.cas),
        warnings=lambda: [*live.current_warnings(), *admin_warnings()],
        is_certificate_over=lambda: is_any_over(live, utc_now()),
        tokens=assembly.tokens,
        started_at=time.monotonic(),
    )
    directory = CaDirectory(assembly.cas, config.default_ca.id, guard, checks, assembly.status)
    metrics = metrics_page(assembly, live, checks)
    plugins = PluginDirectory(assembly.plugins, used_providers(config), checks)
    work = administration_of(assembly, directory.chain)
    parts = (
        health_routes(health),
        ca_routes(directory),
        plugin_routes(plugins),
        *work_routes(work),
        metrics_routes(metrics),
    )
    api = admin_app(gate, parts, assembly.plugins.admin_routes, assembly.plugin_settings)
    if not config.admin.console:
        return api
    services = ConsoleServices(
        administration=work, cas=directory, plugins=plugins, health=health, gate=gate, clock=utc_now
    )
    return WithConsole(api, console_app(services))


class AdminStanding:
    """Whether an administrator's certificate still counts: never one that is on record here, and no revoked one."""

    def __init__(self, standing: CertificateStanding) -> None:
        self._standing = standing
        # The store knows what was issued here. The rule has refused that already by the CAs of today, so that without
        # the store only certificates of a former [[ca]] are not recognised; revocation is asked about all the same.
        self._without_store = replace(standing, store=cast("Store", _NothingOnRecord()))

    async def check(self, chain: Sequence[x509.Certificate], now: datetime, *, needs_store: bool) -> None:
        """See :class:`kipuka_core.edges.http.admin_gate.Standing`."""
        try:
            await self._check_unrecorded(chain)
            await self._standing.check(chain, now)
        except StoreUnavailable:
            if needs_store:
                raise
            await self._without_store.check(chain, now)

    async def _check_unrecorded(self, chain: Sequence[x509.Certificate]) -> None:
        leaf, issuer = chain[0], chain[1]  # the rule has refused shorter chains
        if await self._standing.store.find_certificate(issuer_key_id(issuer), serial_hex(leaf)) is not None:
            raise NotAuthenticated(
                "the client certificate was enrolled here: it is no admin credential", code="enrolment_certificate"
            )


class _NothingOnRecord:
    """The store as far as CertificateStanding asks it."""

    async def find_certificate(self, _issuer_key_id: str, _serial_hex: str) -> None:
        return None


def is_any_over(live: LiveTls, now: datetime) -> bool:
    """Whether a server certificate that is served has ended, of either listener."""
    material = live.material
    return any(now > chain.certificates[0].not_valid_after_utc for chain in (material.chain, *material.others))


def used_providers(config: Config) -> dict[Use, list[str]]:
    """Every provider that the configuration names, with the parts of the health checks that came of it."""
    part_of = {
        "ca_backend": ca_part,
        "authenticator": _auth_part,
        "policy": _policy_part,
        "event_sink": audit_part,
    }
    used: dict[Use, list[str]] = {}
    for kind, table in used_tables(config):
        used.setdefault((kind, table.use), []).extend([part_of[kind](table.name)] if kind in part_of else [])
    return used


def _pings(assembly: Assembly) -> dict[str, Ping]:
    pings: dict[str, Ping] = {DATABASE: assembly.store.ping}
    pings |= {ca_part(ca_id): backend.ping for ca_id, backend in assembly.cas.items()}
    pings |= {_auth_part(name): port.ping for name, port in assembly.authenticators.items()}
    pings |= {
        _policy_part(each.name): each.policy.ping
        for each in assembly.policies
        if type(each.policy).ping is not Port.ping  # most ask nobody, and would only fill the page
    }
    pings |= {f"keys {'/'.join(each.schemes)}": _ping_of_keys(each) for each in assembly.key_stores}
    # What an optional sink misses stops nothing; its failures are events and a metric.
    pings |= {audit_part(each.name): each.sink.ping for each in assembly.events.sinks if each.required}
    return pings


def _ping_of_keys(key_store: KeyStore) -> Ping:
    async def ping() -> None:
        """A token that has lost some of its sessions still serves: that is degraded, and not failing."""
        tokens = await key_store.tokens()
        if not tokens or tokens_status(tokens) is HealthStatus.UNHEALTHY:
            await key_store.ping()

    return ping


def _auth_part(name: str) -> str:
    return f"auth {name}"


def _policy_part(name: str) -> str:
    return f"policy {name}"
