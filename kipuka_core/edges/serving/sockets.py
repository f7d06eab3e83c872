"""Binding addresses: one call, one line of explanation when it fails."""

from __future__ import annotations

import errno
import re
import socket

from kipuka_core.errors import ConfigurationError

_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_PROBLEMS = {
    errno.EADDRINUSE: "is in use by another program",
    errno.EADDRNOTAVAIL: "is not an address of this host",
    errno.EACCES: "needs a permission that this user lacks (ports below 1024: CAP_NET_BIND_SERVICE)",
    errno.EAFNOSUPPORT: "is of an address family that this host does not have",
}


def bind_socket(address: str, where: str = "listen") -> socket.socket:
    """Bind a TCP socket to ``host:port`` or ``[IPv6]:port`` without listening on it yet.

    Who accepts on it calls ``listen()``, so that the port answers only after everything behind it is open. Raises
    ConfigurationError, whose ``where`` is the TOML path given here.
    """
    match = _ADDRESS.fullmatch(address.strip())
    if match is None or int(match["port"]) > 65535:
        raise ConfigurationError(where, f'"{address}" is not an address like "0.0.0.0:8443" or "[::]:8443"')
    family, target = _resolve(match["v6"] or match["host"], int(match["port"]), where)
    bound: socket.socket | None = None
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it: one system call per port instead of one per connection.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.setblocking(False)
        bound.bind(target)
    except OSError as error:
        if bound is not None:
            bound.close()
        raise address_error(address, error, where) from error
    return bound


def normal_address(address: str) -> str:
    """An IPv4 client of a dual-stack socket is the same client as on an IPv4 socket."""
    return address.removeprefix("::ffff:") if "." in address else address


def address_error(address: str, error: OSError, where: str = "listen") -> ConfigurationError:
    """Why an address cannot be served, as a ConfigurationError."""
    problem = _PROBLEMS.get(error.errno or 0, f"cannot be used: {error.strerror}")
    return ConfigurationError(where, f"{address} {problem}")


def _resolve(host: str, port: int, where: str) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationError(where, f'"{host}" is neither an IP address nor a name that resolves') from error
    # A name such as localhost has addresses of both families, in an order that differs from host to host; IPv6 may be
    # switched off, and clients that are told "127.0.0.1" look for the IPv4 one.
    family, _, _, _, target = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, target
