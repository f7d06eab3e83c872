"""Host names and addresses on a command line, for SubjectAltNames."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

import click
from cryptography import x509

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_MAX_NAME_BYTES = 253  # RFC 1035 2.3.4, less the length octets


def hosts_option(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Callback of ``--host``: every value checked, once each."""
    for value in values:
        if problem := host_problem(value):
            raise click.BadParameter(f"{value!r} {problem}")
    return tuple(dict.fromkeys(value.lower() for value in values))


def host_problem(text: str) -> str:
    """Why a certificate cannot name this host; empty when it can.

    Names are those of RFC 1123 with underscores, a wildcard stands for the whole leftmost label (RFC 9525 6.3).
    """
    if address := _address(text):
        return _address_problem(address)
    if not text.isascii():
        return "is not ASCII: write the labels that have other letters as the DNS has them (xn--…)"
    name = text.removeprefix("*.")
    if "*" in name:
        return "has a wildcard elsewhere than as its whole leftmost label (*.example.com)"
    labels = name.split(".")
    # A name whose last label is all digits would be a mistyped IPv4 address.
    if len(text) > _MAX_NAME_BYTES or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        return "is neither a host name nor an IP address; give it without scheme, port, brackets and final dot"
    return ""


def general_name(host: str) -> x509.GeneralName:
    """The SubjectAltName entry of a host that has no problem."""
    address = _address(host)
    return x509.IPAddress(address) if address else x509.DNSName(host)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _address_problem(address: IPv4Address | IPv6Address) -> str:
    if getattr(address, "scope_id", None):
        return "has a zone, which means something on one machine only; leave out the part from % on"
    if address.is_unspecified:
        return "is no address that a client connects to; name the ones that clients use"
    return ""
