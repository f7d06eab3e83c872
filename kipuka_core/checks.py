"""What only shows when everything is open: settings that are right alone and wrong together."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import mldsa

from kipuka_core.config import Config
from kipuka_core.domain.ports import Authenticator, CaBackend
from kipuka_core.errors import ConfigurationError
from kipuka_core.hooks.manager import BUILTIN, Plugins
from kipuka_core.model.certificate import CaChain
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
    for ca_id, backend in cas.items():
        if backend.may_set:
            raise ConfigurationError(
                f"ca {ca_id!r}", "its backend sets certificate fields by itself (may_set), which is not available yet"
            )
    for label in labels:
        where = f"est.label {label.name!r}" if label.name else "the path without a label"
        _check_hash(label, cas[label.ca_id], where)
        if config.tls.client_auth.mode != "none" and _renews_by_mtls(label):
            _check_renewable(config, label, chains[label.ca_id], anchors, where)


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
