"""Event sink ``syslog``: RFC 5424 messages over UDP, TCP or TLS.

How safe an event is depends on the way: over UDP it may be lost without anybody noticing; over TCP and TLS it is safe
when the other host's TCP has acknowledged it, which is before the syslog server has written it down. Where that is not
enough, let a `jsonl` sink be the required one and syslog the copy.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from kipuka_builtin.batched_sink import BatchedSink
from kipuka_builtin.syslog_message import FACILITIES, SyslogHeader, header_word
from kipuka_builtin.syslog_transport import Tcp, Transport, Udp, connect_tcp, connect_tls
from kipuka_core import ConfigurationError, Duration, Event, EventSink, Provider, Services, Settings
from kipuka_core.hooks.secret_files import check_permissions, shown

_PORTS = {"udp": 514, "tcp": 601, "tls": 6514}
"""RFC 5426 3.3, RFC 3195 (which TCP without TLS has borrowed), RFC 5425 4.1."""


def _facility(name: str) -> str:
    if name not in FACILITIES:
        raise ValueError(f"must be one of {', '.join(FACILITIES)}")
    return name


def _sd_id(text: str) -> str:
    name, _, number = text.partition("@")
    if not name or not number.isdigit() or len(text) > 32 or header_word(text, 32) != text:
        raise ValueError('must be a name, "@" and a private enterprise number, such as kipuka@32473')
    return text


class SyslogSettings(Settings):
    """``[[audit.sink]]`` with ``use = "syslog"``."""

    address: str = Field(description="The syslog server: host, or host:port. An IPv6 address with a port in brackets.")
    protocol: Literal["udp", "tcp", "tls"] = Field(
        default="tls",
        description=(
            "`tls` (RFC 5425, port 6514), `tcp` (RFC 6587 with octet counting, port 601) or `udp` (RFC 5426, port 514: "
            "may lose events unnoticed)."
        ),
    )
    facility: Annotated[str, AfterValidator(_facility)] = Field(
        default="authpriv", description="The syslog facility, by name (RFC 5424 6.2.1)."
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file with the CAs that the server's certificate may come from. Required for `tls`.",
    )
    server_name: str | None = Field(
        default=None, description="The name in the server's certificate. Default: the host of `address`. For `tls`."
    )
    cert: Path | None = Field(default=None, description="PEM file with a certificate to present. For `tls`.")
    key: Path | None = Field(default=None, description="PEM file with its key, not encrypted. For `tls`.")
    host_name: str | None = Field(default=None, description="HOSTNAME of the messages. Default: this host's name.")
    sd_id: Annotated[str, AfterValidator(_sd_id)] = Field(
        default="kipuka@32473",
        description=(
            "SD-ID of the structured data. The number is the one that RFC 5612 keeps for examples; put your "
            "organization's private enterprise number in its place where it matters."
        ),
    )
    timeout: Duration = Field(default=5, description="For connecting, and for the other host's acknowledgement.")

    @model_validator(mode="after")
    def _keys_fit_the_protocol(self) -> Self:
        if self.protocol == "tls":
            if self.ca_file is None:
                raise ValueError('protocol "tls" needs ca_file, the CAs that the server\'s certificate may come from')
        else:
            given = [name for name in ("ca_file", "server_name", "cert", "key") if getattr(self, name) is not None]
            if given:
                raise ValueError(f'{given[0]} is for protocol "tls"')
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key are set together")
        self.host_and_port()
        return self

    def host_and_port(self) -> tuple[str, int]:
        """``address`` taken apart. Raises ValueError."""
        host, port = self.address, ""
        if host.startswith("["):
            host, _, port = host[1:].partition("]")
            port = port.removeprefix(":")
        elif host.count(":") == 1:
            host, _, port = host.partition(":")
        if not host or (port and not (port.isdigit() and 0 < int(port) < 65536)):
            raise ValueError("address must be host or host:port")
        return host, int(port or _PORTS[self.protocol])


class SyslogSink(BatchedSink):
    """Sends events in batches; a lost connection fails the batch that was on it, and the next one has a new one."""

    def __init__(self, header: SyslogHeader, transport: Transport, *, is_datagram: bool) -> None:
        super().__init__()
        self._transport = transport
        self.encode_message = header.datagram if is_datagram else header.message

    def encode(self, event: Event) -> bytes:
        """The message. Raises OSError for one that is too long for UDP."""
        return self.encode_message(event)

    def write(self, batch: Sequence[bytes]) -> None:
        """Send the messages."""
        self._transport.send(batch)

    async def ping(self) -> None:
        """Raise OSError when the server is not there; over UDP that cannot be told."""
        await self.in_thread(self._transport.check)

    def ended(self) -> None:
        """End the connection."""
        self._transport.close()


def _context(settings: SyslogSettings, services: Services) -> ssl.SSLContext:
    """What verifies the server, and presents ``cert``. Raises ConfigurationError."""
    assert settings.ca_file is not None  # noqa: S101  # the model's validator has seen to it
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    ca_file = services.base_dir / settings.ca_file
    try:
        context.load_verify_locations(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(shown(ca_file), f"cannot be used: {error.strerror or error.reason}") from None  # type: ignore[attr-defined]  # the one of SSLError
    if settings.cert is not None and settings.key is not None:
        cert, key = services.base_dir / settings.cert, services.base_dir / settings.key
        check_permissions(key, services)
        try:
            # An encrypted key would ask on the terminal otherwise.
            context.load_cert_chain(str(cert), str(key), password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(shown(cert), f"cannot be used with its key: {error.strerror}") from None
    return context


def _transport(settings: SyslogSettings, services: Services) -> Transport:
    address, timeout = settings.host_and_port(), float(settings.timeout)
    if settings.protocol == "udp":
        return Udp(address)
    if settings.protocol == "tcp":
        return Tcp(partial(connect_tcp, address, timeout), timeout)
    context = _context(settings, services)
    name = settings.server_name or address[0]
    return Tcp(partial(connect_tls, address, timeout, context, name), timeout)


@asynccontextmanager
async def _open(settings: SyslogSettings, services: Services) -> AsyncIterator[EventSink]:
    host_name = settings.host_name or socket.gethostname()
    header = SyslogHeader(facility=settings.facility, host_name=header_word(host_name, 255), sd_id=settings.sd_id)
    sink = SyslogSink(header, _transport(settings, services), is_datagram=settings.protocol == "udp")
    try:
        yield sink
    finally:
        await sink.close()


PROVIDER: Provider[EventSink] = Provider("syslog", SyslogSettings, _open)
