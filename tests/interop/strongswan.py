"""A device that strongSwan's ``pki`` gives a certificate and a new one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.testing.server import RunningServer
from tests.interop.programs import run


def enrol_and_renew(
    server: RunningServer,
    name: str,
    issuers: Iterable[x509.Certificate],
    key_type: str,
    size: str,
    *,
    directory: Path,
) -> tuple[bytes, bytes, bytes]:
    """The CSR as DER, and both certificates as PEM. ``issuers`` are those of the CA, for pki to trust."""
    token = server.deployment.otp(name)
    key, certificate = directory / "device.key", directory / "device.pem"
    key.write_bytes(run("pki", "--gen", "--type", key_type, "--size", size, "--outform", "pem").stdout)
    request: list[str | Path] = ["pki", "--req", "--in", key, "--type", key_type, "--dn", f"CN={name}", "--san", name]
    csr = run(*request, "--outform", "der").stdout
    est: list[str | Path] = ["pki", "--est", "--url", f"https://localhost:{server.est_port}", "--outform", "pem"]
    est += ["--cacert", server.deployment.root_pem]
    for number, issuer in enumerate(issuers):
        anchor = directory / f"{number}.pem"
        anchor.write_bytes(issuer.public_bytes(Encoding.PEM))
        est += ["--cacert", anchor]
    enrolled = run(*est, "--userpass", f"{name}:{token}", stdin=csr).stdout
    certificate.write_bytes(enrolled)
    return csr, enrolled, run(*est, "--cert", certificate, "--key", key, stdin=csr).stdout
