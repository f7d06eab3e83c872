"""The bare cryptography of an operation: what no EST server can do without, with nothing around it.

An enrolment: read the base64, parse the CSR, verify its signature, build and sign the certificate with the extensions
that kipuka issues, wrap it into PKCS#7 and base64. A new connection: the server's half of a full TLS 1.3 handshake.
``cacerts`` on a kept connection: decrypting the request's record and encrypting the answer's.
"""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.edges.tls.anchors import load_anchors
from kipuka_core.edges.tls.context import ServerTls, build_context
from kipuka_core.model.key_usage import key_usage_extension

_VALIDITY = timedelta(days=365)
_LEAST_SAMPLES = 5


class BareIssuer:
    """Answers an enrolment with no authentication, no policy and no record."""

    def __init__(self, ca_directory: Path) -> None:
        self.certificate = x509.load_pem_x509_certificate((ca_directory / "issuing.pem").read_bytes())
        key = serialization.load_pem_private_key((ca_directory / "issuing.key").read_bytes(), None)
        self.key = cast("CertificateIssuerPrivateKeyTypes", key)
        self._root = x509.load_pem_x509_certificate((ca_directory / "root.pem").read_bytes())
        ski = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        self._same_for_all = (
            x509.CertificateBuilder()
            .issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(key_usage_extension(["digitalSignature"]), critical=True)
        )

    def enrol(self, body: bytes) -> bytes:
        """From a request body to a response body."""
        csr = x509.load_der_x509_csr(base64.b64decode(body))
        if not csr.is_signature_valid:
            raise ValueError("the CSR is not signed by its key")
        start = datetime.now(UTC).replace(microsecond=0)
        public_key = csr.public_key()
        san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        certificate = (
            self._same_for_all.subject_name(csr.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + _VALIDITY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(san, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return base64.encodebytes(pkcs7.serialize_certificates([certificate], Encoding.DER))

    def cacerts(self) -> bytes:
        """The body of ``/cacerts``."""
        return base64.encodebytes(pkcs7.serialize_certificates([self.certificate, self._root], Encoding.DER))


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """Certificate and key of a client, PEM."""

    certificate: Path
    key: Path


class BareServer:
    """The cryptography of a deployment's server, measured in CPU milliseconds of the calling thread."""

    def __init__(self, directory: Path) -> None:
        self.issuer = BareIssuer(directory / "state" / "ca")
        self._tls = server_context(directory)

    def enrol_ms(self, bodies: Sequence[bytes], seconds: float) -> float:
        """One enrolment on a connection that is there."""
        remaining = cycle(bodies)

        def once() -> float:
            body = next(remaining)
            start = time.thread_time()
            self.issuer.enrol(body)
            return time.thread_time() - start

        return _mean_ms(once, seconds)

    def handshake_ms(self, seconds: float, client: ClientFiles | None = None) -> float:
        """The server's half of a TLS 1.3 handshake on P-256; with a client certificate where one is given."""
        context = client_context(client)
        return _mean_ms(lambda: _Connection(self._tls, context).server_seconds, seconds)

    def cacerts_ms(self, request: bytes, seconds: float) -> float:
        """One request's record in, one answer's record out, and the base64 of the answer."""
        connection = _Connection(self._tls, client_context(None))
        return _mean_ms(lambda: connection.exchange(request, self.issuer.cacerts), seconds)


class _Connection:
    """Two ends in memory; the time of the server's end is counted."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._client = client.wrap_bio(to_client, to_server)
        start = time.thread_time()
        self._server = server.wrap_bio(to_server, to_client, server_side=True)
        self.server_seconds = time.thread_time() - start
        for _ in range(2):  # ClientHello, ServerHello to Finished; the client's Finished, the session ticket
            _step(self._client)
            start = time.thread_time()
            _step(self._server)
            self.server_seconds += time.thread_time() - start

    def exchange(self, request: bytes, answer: Callable[[], bytes]) -> float:
        self._client.write(request)
        start = time.thread_time()
        self._server.read()
        self._server.write(answer())
        spent = time.thread_time() - start
        self._client.read()
        return spent


def issued_certificate(answer: bytes) -> x509.Certificate:
    """The one certificate of an enrolment's answer."""
    (only,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))
    return only


def server_context(directory: Path) -> ssl.SSLContext:
    """The TLS of a deployment as kipuka sets it up: optional client certificates by its own CA."""
    ca = directory / "state" / "ca"
    anchors = load_anchors((ca / "root.pem", ca / "issuing.pem"), where="bench", now=datetime.now(UTC))
    return build_context(
        ServerTls(
            certificate_file=str(directory / "tls" / "server.pem"),
            key_file=str(directory / "tls" / "server.key"),
            anchors=anchors,
        )
    )


def client_context(files: ClientFiles | None) -> ssl.SSLContext:
    """TLS 1.3 on P-256 without verifying the server: the load is not about clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_ecdh_curve("prime256v1")
    context.set_alpn_protocols(["http/1.1"])
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    return context


def _step(end: ssl.SSLObject) -> None:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return


def _mean_ms(once: Callable[[], float], seconds: float) -> float:
    once()  # caches of the libraries
    spent: list[float] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or len(spent) < _LEAST_SAMPLES:
        spent.append(once())
    return 1000 * sum(spent) / len(spent)
