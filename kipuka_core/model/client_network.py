"""Who counts as one client where attempts and connections are counted."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network


def client_network(address: str) -> str:
    """An IPv6 address as its /64, of which every host owns at least one (RFC 6177 3); anything else as it is."""
    if ":" not in address:
        return address
    try:
        host = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return address if host.is_link_local or host.is_loopback else str(IPv6Network((host, 64), strict=False))
