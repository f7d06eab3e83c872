"""A deployment from dotted keys, and a raw TLS client that says what it sees of a listener."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from kipuka_core.model.cipher_suites import DEFAULT_CIPHER_SUITES
from kipuka_core.testing.client import write_leaf
from kipuka_core.testing.pki import Authority, Leaf, make_root
from kipuka_core.testing.server import Deployment, make_deployment
from tests.startup.starting import write_server

SITE_ROOT = make_root("Site Root CA")
SITE_CA: Authority = SITE_ROOT.subordinate("Site Server CA")
"""Issues the server certificates: a chain of three, of which the server sends two."""
DEVICE_ROOT = make_root("Device Root CA")
DEVICE_CA: Authority = DEVICE_ROOT.subordinate("Device Issuing CA")
"""Issues the client certificates."""
FIPS_SUITES = DEFAULT_CIPHER_SUITES[:4]
"""For NIAP Common Criteria and FIPS 140: AES-GCM only."""
CACERTS = "/.well-known/est/cacerts"
LIVE = "/admin/health/live"
NO_CONNECTION = "no connection"
"""What a client sees of a handshake that the server ends, or of a connection that it closes without an answer."""

BASE = {
    "server.listen": '"127.0.0.1:0"',
    "server.admin_listen": '"127.0.0.1:0"',
    "server.state_dir": '"state"',
    "tls.cert": '"tls/server.pem"',
    "tls.key": '"tls/server.key"',
    "tls.client_auth.trust_anchors": '"devices.pem"',
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a key, a value as TOML, and what a client then sees.

    ``beside`` are further keys that the value needs. ``value`` None: the key is absent.
    """

    key: str
    value: str | None
    sees: object
    beside: Mapping[str, str | None] | None = None

    @property
    def settings(self) -> dict[str, str | None]:
        """All keys of this row."""
        return {**(self.beside or {}), self.key: self.value}

    def __str__(self) -> str:
        return f"{self.key} = {self.value or 'absent'}"


def toml_list(words: Iterable[str]) -> str:
    """A list of texts as TOML."""
    return json.dumps(list(words))


def make_site(directory: Path, settings: Mapping[str, str | None] | None = None) -> Deployment:
    """A deployment with a server certificate of the site's CA (ECDSA) that trusts the device root."""
    deployment = make_deployment(directory)
    write_server(deployment, server_leaf())
    (directory / "site-root.pem").write_bytes(SITE_ROOT.pem)
    (directory / "devices.pem").write_bytes(DEVICE_ROOT.pem)
    write_settings(deployment, settings or {})
    return deployment


def server_leaf(key_type: str = "ecdsa256", common_name: str = "localhost") -> Leaf:
    """A server certificate for localhost."""
    ekus = SITE_CA.server().certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    return SITE_CA.leaf(common_name, ("dns:localhost", "ip:127.0.0.1"), key_type=key_type, eku=tuple(ekus))


def write_settings(deployment: Deployment, settings: Mapping[str, str | None]) -> None:
    """Write ``kipuka.toml``: the keys of a plain deployment with these over them; None takes a key away."""
    tables: dict[str, list[str]] = {}
    for path, value in {**BASE, **settings}.items():
        table, _, key = path.rpartition(".")
        if value is not None:
            tables.setdefault(table, []).append(f"{key} = {value}\n")
    text = "".join(f"[{table}]\n{''.join(lines)}" for table, lines in tables.items())
    deployment.toml.write_text(text, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client saw of a connection and of the answer to its one request."""

    version: str
    suite: str
    certificate: x509.Certificate
    session: ssl.SSLSession | None
    reused: bool
    status: int


def client_context(
    directory: Path, leaf: Leaf | None = None, *, tls: str | None = None, suites: str | None = None
) -> ssl.SSLContext:
    """A client's context: ``tls`` is ``1.2`` or ``1.3``, ``suites`` an OpenSSL list for TLS 1.2 in its own order."""
    context = ssl.create_default_context(cafile=str(directory / "site-root.pem"))
    if tls is not None:
        version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[tls]
        context.minimum_version = context.maximum_version = version
    if suites is not None:
        context.set_ciphers(suites)
    if leaf is not None:
        context.load_cert_chain(*write_leaf(leaf, directory))
    return context


class RawConnection(http.client.HTTPConnection):
    """A kept connection whose TLS is the test's own; it may resume a session."""

    def __init__(self, port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> None:
        super().__init__("localhost", port, timeout=60)
        self._context = context
        self._session = session

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        try:
            self.tls = self._context.wrap_socket(plain, server_hostname="localhost", session=self._session)
        except BaseException:
            plain.close()
            raise
        self.sock = self.tls

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> int | str:
        """The status of the answer, or that there was none. A server that the client does not trust is an error."""
        try:
            self.request(method, path, body, dict(headers or {}))
            response = self.getresponse()
            response.read()
        except ssl.SSLCertVerificationError:
            raise
        except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
            return NO_CONNECTION
        return response.status


@contextmanager
def connection(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Iterator[RawConnection]:
    """A connection that is closed at the end."""
    raw = RawConnection(port, context, session)
    try:
        yield raw
    finally:
        raw.close()


def look(port: int, context: ssl.SSLContext, path: str = CACERTS, session: ssl.SSLSession | None = None) -> Seen | str:
    """Connect, ask for ``path``, and say what was seen; :data:`NO_CONNECTION` where the server did not want it."""
    with connection(port, context, session) as raw:
        status = raw.ask("GET", path)
        if isinstance(status, str):
            return status
        der = raw.tls.getpeercert(binary_form=True)
        assert der is not None
        return Seen(
            version=str(raw.tls.version()),
            suite=str((raw.tls.cipher() or ("none",))[0]),
            certificate=x509.load_der_x509_certificate(der),
            session=raw.tls.session,
            reused=bool(raw.tls.session_reused),
            status=status,
        )
