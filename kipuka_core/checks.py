"""What only shows when everything is open: settings that are right alone and wrong together."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import mldsa

from kipuka_core.config import Config
from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.ports import Authenticator
from kipuka_core.errors import ConfigurationError
from kipuka_core.hooks.manager import BUILTIN, Plugins
from kipuka_core.model.certificate import CaChain, CaProfile
from kipuka_core.model.label import Label

_LIBSSL_WITH_ML_DSA = (3, 5)
_ML_DSA = (mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey)


def check_embedded_ca(config: Config) -> None:
    """Raise ConfigurationError where neither a CA is configured nor one was made: a first start without ``init``."""
    certificate = Path(config.cas[0].settings["cert"]) if config.has_embedded_ca else None
    if certificate is not None and not certificate.exists():
        raise ConfigurationError(
            "ca",
            f"there is no [[ca]] table, and no embedded CA ({certificate} does not exist);"
            " make one with `kipuka init`, or add a [[ca]] table with its cert, key and chain",
        )


def check_together(
    config: Config,
    labels: Sequence[Label],
    *,
    cas: Mapping[str, CaBackend],
    chains: Mapping[str, CaChain],
    authenticators: Mapping[str, Authenticator],
    anchors: Sequence[x509.Certificate],
) -> None:
    """Raise ConfigurationError for a combination that could never work."""
    if not authenticators:
        raise ConfigurationError("auth.order", "no authenticator is configured, so nobody could enrol")
    if not config.policies:
        raise ConfigurationError("policy.order", "no policy is configured; name at least one")
    for label in labels:
        where = f"est.label {label.name!r}" if label.name else "the path without a label"
        groups = {group.id: group.members for group in config.ca_group}
        for ca_id in groups.get(label.ca_id, (label.ca_id,)):
            at_ca = replace(label, ca_id=ca_id)
            _check_hash(at_ca, cas[ca_id], where)
            _check_profile(at_ca, cas[ca_id].may_set, where)
            if config.tls.client_auth.mode != "none" and _renews_by_mtls(label):
                _check_renewable(config, at_ca, chains[ca_id], anchors, where)


def idle_providers(config: Config, plugins: Plugins) -> list[str]:
    """Policies and authenticators of enabled plugins that no order names, so that they are never asked."""
    used = {
        "policy": {table.use for table in config.policies},
        "authenticator": {table.use for table in config.authenticators},
    }
    where = {"policy": "policy.order", "authenticator": "auth.order"}
    return [
        f"{where[kind]}: {entry.plugin} brings the {kind} {name!r}, which is not in it and never asked"
        for kind, names in used.items()
        for name, entry in plugins.providers.get(kind, {}).items()
        if entry.plugin.name != BUILTIN and name not in names
    ]


def _check_hash(label: Label, backend: CaBackend, where: str) -> None:
    hash_name = getattr(backend, "hash_name", None)
    if hash_name is not None and hash_name not in label.rules.allowed_signature_algorithms:
        raise ConfigurationError(
            where,
            f"CA {label.ca_id!r} signs with {hash_name}, which allowed_signature_algorithms does not list; add it",
        )


def _check_profile(label: Label, profile: CaProfile, where: str) -> None:
    """What the CA decides by itself has to be what the label accepts."""
    if not profile.decides:
        return
    rules, ca = label.rules, f"CA {label.ca_id!r} decides by itself"
    if not rules.accept_ca_profile:
        raise ConfigurationError(
            where, f"{ca} {', '.join(profile.decides)}: set accept_ca_profile = true if that is good here"
        )
    most = timedelta(days=rules.max_validity_days)
    if profile.validity is not None and profile.validity > most and not rules.accept_ca_validity:
        raise ConfigurationError(
            where,
            f"{ca} to issue for {profile.validity.days} days, which is more than max_validity_days:"
            " set accept_ca_validity = true if that is good here",
        )
    if beyond := set(profile.ext_key_usage or ()) - set(rules.ext_key_usage):
        raise ConfigurationError(
            where, f"{ca} to give the extended key usage {', '.join(sorted(beyond))}: ext_key_usage has to list it"
        )


def _renews_by_mtls(label: Label) -> bool:
    return any("mtls" in names for names in label.auth_order)


def _check_renewable(
    config: Config, label: Label, chain: CaChain, anchors: Sequence[x509.Certificate], where: str
) -> None:
    if isinstance(chain.issuing.public_key(), _ML_DSA) and ssl.OPENSSL_VERSION_INFO[:2] < _LIBSSL_WITH_ML_DSA:
        raise ConfigurationError(
            where,
            f"CA {label.ca_id!r} has an ML-DSA key, and {ssl.OPENSSL_VERSION} cannot verify client certificates"
            ' under it: give this label an auth order without "mtls"',
        )
    trusted = set(anchors)
    if not config.tls.client_auth.trust_own_cas and trusted.isdisjoint(chain.certificates):
        raise ConfigurationError(
            where,
            f"certificates of CA {label.ca_id!r} could never be renewed: set trust_own_cas = true, or put the CA into"
            " tls.client_auth.trust_anchors",
        )
