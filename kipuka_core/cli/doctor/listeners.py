"""What is offered on each listener, and whether its port is free, served or somebody else's."""

from __future__ import annotations

import errno
import os

from kipuka_core.cli.doctor.certificates import remedy_for
from kipuka_core.cli.doctor.finding import Section
from kipuka_core.cli.tls.describe import offered_suites
from kipuka_core.config import Config
from kipuka_core.config.sections.server import ServerTls
from kipuka_core.config.values import Address
from kipuka_core.edges.serving.sockets import bind_socket
from kipuka_core.edges.tls.context import ServerTls as Context
from kipuka_core.edges.tls.files import load_certificates
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.cipher_suites import TLS13_SUITES

_CHACHA = "taken out of TLS 1.3 by the FIPS mode of the operating system only"


def offers(config: Config) -> Section:
    """Versions, suites in order, client authentication; and whether certificate and key belong together."""
    section = Section("Listeners")
    admin_mode = config.admin.client_auth.mode if config.admin.client_auth else "none"
    listeners: tuple[tuple[str, Address, ServerTls, str, str], ...] = (
        ("EST", config.server.listen, config.tls, "tls", config.tls.client_auth.mode),
        ("admin", config.server.admin_listen, config.admin_tls, config.admin_tls_material.toml_path, admin_mode),
    )
    for name, address, tls, toml_path, mode in listeners:
        section.fact(name, f"{address}, TLS {tls.min_version} and newer, client_auth {mode}")
        for version, suites in _suites(section, tls, toml_path).items():
            for suite in suites:
                section.fact(f"{name} TLS {version}", suite)
    section.fact("ChaCha20", _CHACHA)
    return section


def _suites(section: Section, tls: ServerTls, toml_path: str) -> dict[str, list[str]]:
    """As OpenSSL offers them, in order; as configured where certificate and key are not known here."""
    configured = {"1.3": [suite.iana for suite in TLS13_SUITES]}
    if tls.min_version == "1.2":
        configured["1.2"] = list(tls.cipher_suites)
    if tls.material != "files" or tls.cert is None or tls.key is None:
        return configured
    try:
        context = Context(
            certificate_file=str(tls.cert),
            key_file=str(tls.key),
            key_password=_password(tls),
            min_version=tls.min_version,
            cipher_suites=tls.cipher_suites,
            client_auth="none",
        )
        return offered_suites(context, load_certificates(str(tls.cert))[0])
    except ConfigurationError as error:
        section.error(f"{toml_path}: {error}", remedy_for(error), said_as=str(error))
        return configured


def _password(tls: ServerTls) -> bytes | None:
    """Raises ConfigurationError for a file that cannot be read."""
    if tls.key_password_env is not None:
        return os.environb.get(os.fsencode(tls.key_password_env)) or None
    if tls.key_password_file is None:
        return None
    try:
        return tls.key_password_file.read_bytes().partition(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise ConfigurationError(str(tls.key_password_file), f"cannot be read: {error.strerror}") from error


def ports(config: Config, *, is_served: bool | None) -> Section:
    """Each port, tried. ``is_served``: whether a kipuka of this state directory runs; None: that cannot be seen."""
    section = Section("Ports")
    for toml_path, address in (
        ("server.listen", config.server.listen),
        ("server.admin_listen", config.server.admin_listen),
        ("server.http_listen", config.server.http_listen),
    ):
        if address is None:
            continue
        if address.port == 0:
            section.fact(toml_path, f"{address}: any free port")
            continue
        try:
            bind_socket(str(address), toml_path).close()
        except ConfigurationError as error:
            _not_bound(section, error, is_served)
        else:
            _free(section, toml_path, address, is_served)
    return section


def _not_bound(section: Section, error: ConfigurationError, is_served: bool | None) -> None:
    cause = error.__cause__
    code = cause.errno if isinstance(cause, OSError) else None
    if code == errno.EADDRINUSE and is_served is not False:
        whom = "the kipuka that runs" if is_served else "a program that cannot be seen from here"
        section.fact(error.where, error.problem.replace("another program", whom))
        return
    section.fact(error.where, error.problem)
    remedies = {
        errno.EADDRINUSE: "stop what listens there (`ss -ltnp` names it), or take another port",
        errno.EADDRNOTAVAIL: "take an address of this machine (`ip address` shows them), or 0.0.0.0 or [::] for all",
        errno.EACCES: "take a port from 1024 on, or give the service CAP_NET_BIND_SERVICE",
    }
    section.error(str(error), remedies.get(code or 0, f"change {error.where} in kipuka.toml"))


def _free(section: Section, toml_path: str, address: Address, is_served: bool | None) -> None:
    section.fact(toml_path, f"{address} is free")
    if is_served:
        section.warning(
            f"{toml_path}: a kipuka runs with this state_dir and does not listen on {address}",
            "restart it: kipuka.toml is read at start only",
        )
