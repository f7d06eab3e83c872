"""Which providers a configuration uses, and from which tables."""

from __future__ import annotations

from collections.abc import Iterator

from kipuka_core.config.model import Config
from kipuka_core.config.section import PluginTable


def used_tables(config: Config) -> Iterator[tuple[str, PluginTable]]:
    """Every table that becomes a port when the server starts, with the kind of that port."""
    by_kind = {
        "ca_backend": config.ca_backends,
        "authenticator": config.authenticators,
        "policy": config.policies,
        "key_store": config.key_stores,
        "event_sink": config.event_sinks,
        "tls_material": (config.tls_material,),
    }
    for kind, tables in by_kind.items():
        yield from ((kind, table) for table in tables)
    if config.admin_tls_material.toml_path != config.tls_material.toml_path:
        yield "tls_material", config.admin_tls_material
