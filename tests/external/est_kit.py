"""Upstream EST servers for tests: a real one, and one that answers as it is told, over real TLS."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from kipuka_builtin.est_ca import PROVIDER, EstCaSettings
from kipuka_core import CaBackend
from kipuka_core.testing import pki
from kipuka_core.testing.client import write_leaf
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.server import Deployment, make_deployment
from kipuka_core.testing.services import make_services

RA_CA = pki.make_root("RA Root CA")
RA = RA_CA.leaf("registration-authority")
UPSTREAM_TOML = """
[[est.label]]
name = "ra"
auth = ["ra"]
subject_binding = "any"
channel_binding = "off"
key_usage = ["digitalSignature"]
max_validity_days = 30
allowed_key_types = ["ecdsa256", "ecdsa384", "rsa2048", "ed25519"]
{more}

[auth.ra]
use = "mtls"
anchors = ["ra-ca.pem"]
"""


def upstream_deployment(directory: Path, *, more: str = "", workers: int = 1) -> Deployment:
    """A kipuka whose label ``ra`` believes a registration authority with a certificate of RA_CA."""
    deployment = make_deployment(directory)
    (directory / "ra-ca.pem").write_bytes(RA_CA.pem)
    deployment.configure(
        UPSTREAM_TOML.format(more=more),
        workers=workers,
        client_auth='trust_anchors = ["state/ca/root.pem", "ra-ca.pem"]\n',
    )
    return deployment


def write_ra(directory: Path, leaf: pki.Leaf = RA) -> dict[str, Any]:
    """The registration authority's credential, and the settings that name it."""
    (directory / "ra.pem").write_bytes(leaf.certificate_pem)
    write_private(directory / "ra.key", leaf.key_pem)
    return {"cert": "ra.pem", "key": "ra.key"}


DECLARED = {"sets_validity_days": 30, "sets_key_usage": ["digitalSignature"], "sets_ext_key_usage": ["clientAuth"]}
"""What the label ``ra`` decides by itself."""


# -- an upstream that does as it is told -------------------------------------------------------------------------------
UPSTREAM_ROOT = pki.make_root("Upstream Root CA")
UPSTREAM_CA = UPSTREAM_ROOT.subordinate("Upstream Issuing CA")


def certs_only(*certificates: x509.Certificate) -> bytes:
    return base64.encodebytes(pkcs7.serialize_certificates(list(certificates), Encoding.DER))


def http_answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join((*lines, "", "")).encode() + body


PKCS7 = "Content-Type: application/pkcs7-mime; smime-type=certs-only"
Talk = Callable[[ssl.SSLSocket, bytes], None]


def says(answer: bytes) -> Talk:
    """Sends these bytes and closes."""
    return lambda connection, _request: connection.sendall(answer)


@dataclass
class ToldUpstream:
    """Accepts one connection after the other. ``enrol`` does what a test wants with each simpleenroll."""

    listener: socket.socket
    context: ssl.SSLContext
    cacerts: bytes
    port: int
    enrol: Talk = field(default=says(http_answer(500)))
    requests: list[bytes] = field(default_factory=list)
    handshake_errors: list[str] = field(default_factory=list)

    @property
    def enrolments(self) -> list[bytes]:
        return [each for each in self.requests if b"/simpleenroll " in each.partition(b"\r\n")[0]]

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(60)
        try:
            connection = self.context.wrap_socket(plain, server_side=True)
        except (ssl.SSLError, OSError) as error:
            self.handshake_errors.append(str(error))
            plain.close()
            return
        with connection, suppress(OSError, ValueError):  # a talk may close the connection
            while request := read_request(connection):
                self.requests.append(request)
                if b"/cacerts " in request.partition(b"\r\n")[0]:
                    connection.sendall(self.cacerts)
                    if not self.cacerts:
                        break
                else:
                    self.enrol(connection, request)
                    break
            connection.unwrap().close()


def read_request(connection: ssl.SSLSocket) -> bytes:
    found = b""
    while b"\r\n\r\n" not in found:
        part = connection.recv(65536)
        if not part:
            return b""
        found += part
    head, _, body = found.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].partition(b":")[2]) if lengths else 0
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def csr_of(request: bytes) -> bytes:
    """The DER that a simpleenroll brought."""
    return base64.b64decode(request.partition(b"\r\n\r\n")[2])


@contextmanager
def told_upstream(directory: Path, *, client_ca: pki.Authority | None = None) -> Iterator[ToldUpstream]:
    """``client_ca``: certificates of its clients are demanded, from this CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_leaf(UPSTREAM_ROOT.server(), directory))
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.pem.decode())
    cacerts = http_answer(200, certs_only(*UPSTREAM_CA.chain), PKCS7)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = ToldUpstream(listener, context, cacerts, listener.getsockname()[1])
        thread = threading.Thread(target=upstream.run, daemon=True)
        thread.start()
        try:
            yield upstream
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def opened(
    directory: Path, port: int, *, services: Mapping[str, Any] | None = None, **settings: Any
) -> AbstractAsyncContextManager[CaBackend]:
    """The backend, asking a told upstream at this port."""
    (directory / "upstream-root.pem").write_bytes(UPSTREAM_ROOT.pem)
    write_private(directory / "password", b"s3cret-password\n")
    table = {
        "id": "upstream",
        "url": f"https://127.0.0.1:{port}/.well-known/est/ra",
        "trust_anchors": "upstream-root.pem",
        "username": "ra",
        "password_file": "password",
        "timeout": 60,
    }
    lent = {"call_timeout_seconds": 90.0} | dict(services or {})
    return PROVIDER.open(EstCaSettings(**(table | settings)), make_services(directory, **lent))


def issuing(*above: x509.Certificate, authority: pki.Authority = UPSTREAM_CA, **fields: Any) -> Talk:
    """Certifies what the CSR asks for."""

    def talk(connection: ssl.SSLSocket, request: bytes) -> None:
        csr = x509.load_der_x509_csr(csr_of(request))
        key: Any = _PublicOnly(csr.public_key())
        leaf = authority.leaf(key=key, san=fields.get("san", ("dns:device.example",)), ca=fields.get("ca", False))
        connection.sendall(http_answer(200, certs_only(leaf.certificate, *above), PKCS7))

    return talk


@dataclass
class _PublicOnly:
    """Stands in for a key whose private half the CA does not have."""

    public: Any

    def public_key(self) -> Any:
        return self.public
