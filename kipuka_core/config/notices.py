"""What a valid configuration should still tell its operator: at start-up, in ``kipuka check``, on the health page."""

from __future__ import annotations

from collections.abc import Iterable

from kipuka_core.config.labels import labels
from kipuka_core.config.model import Config
from kipuka_core.config.sections.server import ClientAuthMode
from kipuka_core.model.label import Label, SubjectBinding

_WITHOUT_POLICY = {
    "keys": "keys of any type and strength are certified",
    "names": "every client gets a certificate for any name",
}
"""What the core leaves to policies, and what it means that nobody decides it."""


def warnings(config: Config) -> list[str]:
    """One sentence each, which begins with the TOML path to change. Empty: nothing to say."""
    found: list[str] = []
    if config.tls.client_auth.mode is ClientAuthMode.NONE:
        found.append('tls.client_auth.mode: "none" is for development only; no client can renew with its certificate')
    found.extend(_idle_cipher_suites(config))
    if not config.has_admin_credential:
        found.append(
            "admin.client_auth: nobody has an admin credential; the admin listener answers /admin/health/live and "
            "/admin/health/ready only"
        )
    client_auth = config.admin.client_auth
    if config.admin_tokens and client_auth is not None and client_auth.mode is ClientAuthMode.REQUIRED:
        found.append(
            'admin.client_auth.mode: "required" lets nobody in who has a token and no certificate; use "optional"'
        )
    found.extend(
        f'policy.order: "{name}" is not in it, so {consequence}'
        for name, consequence in _WITHOUT_POLICY.items()
        if name not in config.policy.order
    )
    for label in labels(config):
        found.extend(_label_warnings(label))
    found.extend(_without_effect("auth", config.auth.tables, {table.name for table in config.authenticators}))
    found.extend(_without_effect("policy", config.policy.tables, set(config.policy.order)))
    return found


def _idle_cipher_suites(config: Config) -> list[str]:
    listed = {
        "tls": "cipher_suites" in config.tls.model_fields_set and config.tls.min_version,
        "admin.tls": config.admin.tls.cipher_suites is not None and config.admin_tls.min_version,
    }
    return [
        f'{table}.cipher_suites: has no effect, because min_version is "1.3" and TLS 1.3 keeps its own three suites'
        for table, min_version in listed.items()
        if min_version == "1.3"
    ]


def _label_warnings(label: Label) -> list[str]:
    door = f'label "{label.name}"' if label.name else "the door without a label"
    found = []
    if not label.rules.require_proof_of_possession:
        found.append(f"enrollment.require_proof_of_possession: false at {door} is for development only (RFC 7030 3.4)")
    if label.rules.subject_binding is SubjectBinding.ANY:
        found.append(f'enrollment.subject_binding: "any" at {door} lets every client get a certificate for any name')
    return found


def _without_effect(section: str, tables: Iterable[str], used: set[str]) -> list[str]:
    return [
        f"{section}.{name}: has no effect, because {section}.order does not name it"
        for name in tables
        if name not in used
    ]
