"""A device made of openssl and curl, as docs/getting-started.md types it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from kipuka_core.testing.client import write_leaf
from kipuka_core.testing.pki import Leaf
from tests.examples.deployment_kit import Site
from tests.interop.programs import run


@dataclass(frozen=True, slots=True)
class CurlDevice:
    """Its name is its entity id, its CN and its one DNS name; its files are in ``directory``."""

    site: Site
    directory: Path
    name: str
    curve: str = "P-256"

    def make_request(self) -> None:
        """A new key and a CSR for it."""
        made = run(
            "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{self.curve}", "-nodes",
            "-keyout", self._file("key"), "-subj", f"/CN={self.name}", "-addext", f"subjectAltName=DNS:{self.name}",
            "-outform", "DER",
        )  # fmt: skip
        self._file("csr").write_bytes(run("openssl", "base64", stdin=made.stdout).stdout)

    def bring(self, leaf: Leaf) -> list[str | Path]:
        """Options of curl that present a certificate."""
        certificate, key = write_leaf(leaf, self.directory)
        return ["--cert", certificate, "--key", key]

    def own(self) -> list[str | Path]:
        """Options of curl that present the certificate and the key of now."""
        for kind in ("pem", "key"):
            self._file(kind).rename(self._file(f"old.{kind}"))
        return ["--cert", self._file("old.pem"), "--key", self._file("old.key")]

    def ask(self, operation: str, *options: str | Path) -> x509.Certificate:
        """Make a request, send it, and see that the embedded CA issued what came back."""
        self.make_request()
        host, port = self.site.est
        run(
            "curl", "-sS", "--fail-with-body", "--cacert", self.site.ca_file, *options,
            "--connect-to", f"localhost:{port}:{host}:{port}",
            "-H", "Content-Type: application/pkcs10", "--data-binary", f"@{self._file('csr')}",
            f"{self.site.server.est_url}/{operation}", "-o", self._file("p7"),
        )  # fmt: skip
        der = run("openssl", "base64", "-d", "-in", self._file("p7")).stdout
        run("openssl", "pkcs7", "-inform", "DER", "-print_certs", "-out", self._file("pem"), stdin=der)
        ca = self.site.directory / "state" / "ca"
        run("openssl", "verify", "-CAfile", ca / "root.pem", "-untrusted", ca / "issuing.pem", self._file("pem"))
        return x509.load_pem_x509_certificate(self._file("pem").read_bytes())

    def _file(self, kind: str) -> Path:
        return self.directory / f"{self.name}.{kind}"
