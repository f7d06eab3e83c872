"""What tests ask of the plain HTTP listener, with programs of others too."""

from __future__ import annotations

import base64
import http.client
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from kipuka_core.testing.client import Answer
from kipuka_core.testing.pki import Leaf
from tests.interop.programs import run
from tests.system.system_kit import System

HTTP = 'http_listen = "127.0.0.1:0"\n'
"""For ``[server]``."""
ADMIN = """
[admin.client_auth]
trust_anchors = "admin-ca.pem"
"""


def plain(
    system: System, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """A request to the plain HTTP listener."""
    assert system.server.http_port is not None
    connection = http.client.HTTPConnection("127.0.0.1", system.server.http_port, timeout=60)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def crl_of(system: System, ca_id: str = "default") -> x509.CertificateRevocationList:
    answer = plain(system, "GET", f"/crl/{ca_id}.crl")
    assert answer.status == 200, answer.text
    return x509.load_der_x509_crl(answer.body)


def is_on_crl(system: System, serial: int, ca_id: str = "default") -> bool:
    return serial in {entry.serial_number for entry in crl_of(system, ca_id)}


def request_about(certificate: x509.Certificate, issuer: x509.Certificate, nonce: bytes | None = None) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def get_path(request: bytes, prefix: str = "/ocsp/") -> str:
    """RFC 6960 A.1."""
    return prefix + quote(base64.b64encode(request).decode(), safe="")


def status_of(system: System, certificate: x509.Certificate, issuer: x509.Certificate | None = None) -> str:
    """What OCSP says, by GET."""
    answer = plain(system, "GET", get_path(request_about(certificate, issuer or system.issuing_ca)))
    response = ocsp.load_der_ocsp_response(answer.body)
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return response.response_status.name
    return response.certificate_status.name


def seconds_until(condition: object, *, limit: float = 60) -> float:
    """How long a callable takes to become true."""
    assert callable(condition)
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < limit
        time.sleep(0.01)
    return time.monotonic() - began


def pem_file(directory: Path, leaf: Leaf | x509.Certificate) -> Path:
    certificate = leaf.certificate if isinstance(leaf, Leaf) else leaf
    file = directory / f"{certificate.serial_number:x}-only.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    return file


def openssl_ocsp(system: System, certificate: Path, *options: str, path: str = "/ocsp") -> str:
    """``openssl ocsp`` by POST, the answer verified up to the root."""
    issuing = system.deployment.root_pem.with_name("issuing.pem")
    url = f"http://127.0.0.1:{system.server.http_port}{path}"
    asked: list[str | Path] = ["openssl", "ocsp", "-issuer", issuing, "-cert", certificate, "-url", url, *options]
    done = run(*asked, "-CAfile", system.deployment.root_pem, "-verify_other", issuing)
    assert b"Response verify OK" in done.stderr
    return done.stdout.decode()
