"""A small EST client for tests: what a device does, and what a careless one does."""

from __future__ import annotations

import base64
import http.client
import ssl
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

from kipuka_core.testing.pki import Leaf


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body of an error."""
        return self.body.decode()

    def certificates(self) -> list[x509.Certificate]:
        """The certificates of a certs-only answer."""
        assert self.status == 200, f"{self.status}: {self.text}"  # noqa: S101  # a test's helper
        return pkcs7.load_der_pkcs7_certificates(base64.b64decode(self.body))

    def certificate(self) -> x509.Certificate:
        """The one certificate of an enrolment's answer (RFC 7030 4.2.3)."""
        (only,) = self.certificates()
        return only


class EstClient:
    """Talks to one server; every call opens a connection of its own unless ``keep`` holds one open."""

    def __init__(
        self,
        port: int,
        root_pem: Path,
        *,
        leaf: Leaf | None = None,
        directory: Path | None = None,
        tls: ssl.TLSVersion | None = None,
        base_path: str = "/.well-known/est",
    ) -> None:
        """``leaf`` is the client certificate to present; its files are written into ``directory`` for OpenSSL."""
        self.base_path = base_path
        self._port = port
        self.context = ssl.create_default_context(cafile=str(root_pem))
        if tls is not None:
            self.context.minimum_version = self.context.maximum_version = tls
        if leaf is not None:
            if directory is None:
                raise ValueError("a client certificate needs a directory for its files")
            certificate, key = write_leaf(leaf, directory)
            self.context.load_cert_chain(certificate, key)

    def connect(self) -> http.client.HTTPSConnection:
        """A connection of its own, for several requests or for odd ones; close it."""
        return http.client.HTTPSConnection("localhost", self._port, context=self.context, timeout=60)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        connection: http.client.HTTPSConnection | None = None,
    ) -> Answer:
        """Any request; ``path`` is below the base path unless it begins with a slash."""
        used = connection or self.connect()
        try:
            used.request(
                method, path if path.startswith("/") else f"{self.base_path}/{path}", body, dict(headers or {})
            )
            response = used.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            if connection is None:
                used.close()

    def enrol(
        self,
        csr_der: bytes,
        *,
        user: str | None = None,
        password: str = "",
        label: str = "",
        operation: str = "simpleenroll",
        connection: http.client.HTTPSConnection | None = None,
    ) -> Answer:
        """Simpleenroll or simplereenroll, as RFC 7030 and 8951 have it."""
        headers = {"Content-Type": "application/pkcs10"}
        if user is not None:
            headers["Authorization"] = basic(user, password)
        path = f"{label}/{operation}" if label else operation
        return self.request("POST", path, base64.encodebytes(csr_der), headers, connection=connection)

    def reenrol(self, csr_der: bytes, *, label: str = "") -> Answer:
        """Simplereenroll with the client certificate."""
        return self.enrol(csr_der, label=label, operation="simplereenroll")


def basic(user: str, password: str) -> str:
    """An Authorization header (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def write_leaf(leaf: Leaf, directory: Path) -> tuple[Path, Path]:
    """Certificate chain and key as PEM files; their paths."""
    name = f"{leaf.certificate.serial_number:x}"
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    certificate.write_bytes(leaf.chain_pem if leaf.chain else leaf.certificate_pem)
    key.write_bytes(leaf.key_pem)
    key.chmod(0o600)
    return certificate, key


def openssl(*arguments: str, stdin: bytes = b"") -> str:
    """Run ``openssl`` and return what it prints."""
    command = ["openssl", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)  # noqa: S603  # no shell
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.decode()}")
    return done.stdout.decode()
