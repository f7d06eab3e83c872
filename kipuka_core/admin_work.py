"""The work of administrators put together: from an open assembly, or for a command from the store alone."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from kipuka_core.assemble import Assembly, utc_now
from kipuka_core.config import Config, labels, validate_table
from kipuka_core.domain.admin.administration import Administration
from kipuka_core.domain.admin.certificates import CertificateAdministration, ChainOf, no_chain
from kipuka_core.domain.admin.lockouts import LockoutAdministration
from kipuka_core.domain.admin.passwords import OtpAdministration, OtpDefaults
from kipuka_core.domain.admin.store import AdminStore
from kipuka_core.domain.admin.waiting import RequestAdministration
from kipuka_core.domain.approval import Approvals
from kipuka_core.domain.ports import EventHub
from kipuka_core.domain.pursuit import Pursuit
from kipuka_core.edges.http.admin_api import Api
from kipuka_core.edges.http.admin_certs import certificate_routes
from kipuka_core.edges.http.admin_openapi import openapi_routes
from kipuka_core.edges.http.admin_otp import otp_routes
from kipuka_core.edges.http.admin_people import audit_routes, lockout_routes, request_routes
from kipuka_core.hooks.manager import Plugins
from kipuka_core.wire.reader import WireReader

_OTP = "otp"
_NAMES_POLICY = "names"


def administration_of(assembly: Assembly, chain_of: ChainOf) -> Administration:
    """Everything that administrators do, on an open server."""
    return build_administration(
        assembly.config,
        assembly.plugins,
        assembly.store,
        assembly.events,
        chain_of=chain_of,
        approvals=assembly.approvals,
        pursuit=assembly.pursuit,
    )


def build_administration(
    config: Config,
    plugins: Plugins,
    store: AdminStore,
    events: EventHub,
    *,
    chain_of: ChainOf = no_chain,
    approvals: Approvals | None = None,
    pursuit: Pursuit | None = None,
) -> Administration:
    """The same, of its parts. Raises ConfigurationError for a wrong ``[auth.otp]``."""
    return Administration(
        store=store,
        certificates=CertificateAdministration(store=store, events=events, clock=utc_now, chain_of=chain_of),
        otps=OtpAdministration(
            store=store,
            events=events,
            clock=utc_now,
            defaults=otp_defaults(config, plugins),
            labels=frozenset(label.name for label in labels(config)),
            patterns_are_enforced=any(policy.use == _NAMES_POLICY for policy in config.policies),
        ),
        lockouts=LockoutAdministration(store=store, events=events, clock=utc_now),
        requests=RequestAdministration(
            store=store, clock=utc_now, reader=WireReader(), approvals=approvals, pursuit=pursuit
        ),
    )


def work_routes(administration: Administration) -> tuple[Api, ...]:
    """The routes of the admin API for this, and the document about them."""
    parts = (
        otp_routes(administration.otps),
        certificate_routes(administration.certificates, utc_now),
        lockout_routes(administration.lockouts),
        request_routes(administration.requests),
        audit_routes(administration),
    )
    return (*parts, openapi_routes(parts, version("kipuka")))


def otp_defaults(config: Config, plugins: Plugins) -> OtpDefaults:
    """``[auth.otp]``, as the authenticator that serves it reads it. Raises ConfigurationError."""
    provider = plugins.provider("authenticator", _OTP, "auth.otp")
    table = next((each.settings for each in config.authenticators if each.use == _OTP), {})
    settings: Any = validate_table(provider.settings, table, "auth.otp", base_dir=config.base_dir)
    return OtpDefaults(token_bits=settings.token_bits, ttl_seconds=settings.ttl, max_usage=settings.max_usage)
