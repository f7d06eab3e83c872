"""From an open assembly to what its two listeners need of TLS."""

from __future__ import annotations

from datetime import datetime

from kipuka_core.assemble import Assembly, utc_now
from kipuka_core.config import PluginTable
from kipuka_core.domain.ports import ServerIdentity
from kipuka_core.edges.tls.anchors import load_anchors
from kipuka_core.edges.tls.context import ServerTls, inspect_server_certificate
from kipuka_core.edges.tls.files import load_certificates
from kipuka_core.errors import ConfigurationError
from kipuka_core.hooks.lifecycle import naming_the_key


async def est_tls(assembly: Assembly) -> ServerTls:
    """TLS of the EST listener: ``[tls]``; the own CAs are anchors too, so that devices can renew.

    Called again on reload: certificate, key and anchors are as the files are now, for the plugins too.
    """
    config = assembly.config
    client_auth = config.tls.client_auth
    identity = await _identity(assembly, config.tls_material)
    anchors = load_anchors(client_auth.trust_anchors, where="tls.client_auth.trust_anchors", now=utc_now())
    assembly.client_anchors[:] = anchors
    if client_auth.trust_own_cas and client_auth.mode != "none":
        anchors = tuple(dict.fromkeys((*anchors, *assembly.own_issuers)))
    return ServerTls(
        certificate_file=identity.certificate_file,
        key_file=identity.key_file,
        key_password=identity.key_password,
        min_version=config.tls.min_version,
        cipher_suites=config.tls.cipher_suites,
        client_auth=client_auth.mode.value,
        anchors=anchors,
    )


async def admin_tls(assembly: Assembly, now: datetime) -> ServerTls:
    """TLS of the admin listener: ``[admin.tls]`` over ``[tls]``; ``[admin.client_auth]`` inherits nothing."""
    config = assembly.config
    client_auth = config.admin.client_auth
    identity = await _identity(assembly, config.admin_tls_material)
    return ServerTls(
        certificate_file=identity.certificate_file,
        key_file=identity.key_file,
        key_password=identity.key_password,
        min_version=config.admin_tls.min_version,
        cipher_suites=config.admin_tls.cipher_suites,
        client_auth=client_auth.mode.value if client_auth else "none",
        anchors=load_anchors(client_auth.trust_anchors, where="admin.client_auth.trust_anchors", now=now)
        if client_auth
        else (),
    )


def inspect_certificates(tls: ServerTls, now: datetime) -> list[str]:
    """What clients may dislike in the server's certificate.

    Raises ConfigurationError for one that is not in time.
    """
    leaf, *chain = load_certificates(tls.certificate_file)
    return inspect_server_certificate(leaf, tuple(chain), now, tls.certificate_file)


async def _identity(assembly: Assembly, table: PluginTable) -> ServerIdentity:
    material = await assembly.open_tls(table)
    try:
        identity = await material.server_identity()
    except ConfigurationError as error:
        raise naming_the_key(error, table.settings, table.toml_path) from error
    if not identity.certificate_file or not identity.key_file:
        raise ConfigurationError(table.toml_path, "names no certificate and key")
    return identity
