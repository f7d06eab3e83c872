"""Issued certificates before two judges, pkilint and OpenSSL: every key type of a device under every one of a CA.

No finding of pkilint has to be left out. OpenSSL before 3.5 does not know ML-DSA keys and does not verify a certificate
that holds one; it still prints it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.testing.client import EstClient
from kipuka_core.testing.pki import key_pem, make_csr, make_key, make_root
from kipuka_core.testing.samples import all_key_types, write_private
from kipuka_core.testing.server import RunningServer, make_deployment, running_server
from tests.interop.programs import run

CA_KEY_TYPES = ("ecdsa256", "ecdsa384", "rsa2048", "ed25519")
DEVICE = "device.example"

_make_key = cache(make_key)


@dataclass(frozen=True, slots=True)
class Site:
    """A server with a CA and a label per CA key type, and one password that is good for all."""

    server: RunningServer
    token: str

    def enrol(self, ca: str, key: CertificateIssuerPrivateKeyTypes) -> x509.Certificate:
        client = EstClient(self.server.est_port, self.server.deployment.root_pem)
        answer = client.enrol(make_csr(key, DEVICE, [f"dns:{DEVICE}"]), user=DEVICE, password=self.token, label=ca)
        return answer.certificate()

    def ca_files(self, ca: str) -> tuple[Path, Path]:
        """The root, and the issuing CA."""
        directory = self.server.deployment.directory
        return directory / f"{ca}-root.pem", directory / f"{ca}.pem"


def _table(directory: Path, key_type: str) -> str:
    root = make_root(f"Root CA {key_type}", key_type)
    issuing = root.subordinate(f"Issuing CA {key_type}", key_type)
    (directory / f"{key_type}-root.pem").write_bytes(root.pem)
    (directory / f"{key_type}.pem").write_bytes(issuing.pem)
    write_private(directory / f"{key_type}.key", key_pem(issuing.key))
    return (
        f'[[ca]]\nid = "{key_type}"\ncert = "{key_type}.pem"\nkey = "{key_type}.key"\nchain = "{key_type}-root.pem"\n'
        f'cdp_urls = ["http://pki.example/{key_type}.crl"]\naia_urls = ["http://pki.example/{key_type}.cer"]\n'
        'ocsp_urls = ["http://ocsp.example/"]\n'
        f'[[est.label]]\nname = "{key_type}"\nca = "{key_type}"\n'
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    deployment = make_deployment(tmp_path_factory.mktemp("profiles"))
    tables = "".join(_table(deployment.directory, key_type) for key_type in CA_KEY_TYPES)
    deployment.configure(f"[enrollment]\nallowed_key_types = {json.dumps(all_key_types())}\n{tables}")
    token = deployment.otp(DEVICE, "--max-usage", "1000")
    with running_server(deployment) as server:
        yield Site(server, token)


@pytest.mark.parametrize("ca", CA_KEY_TYPES)
@pytest.mark.parametrize("key_type", all_key_types())
def test_a_certificate_has_no_fault_that_pkilint_or_openssl_finds(
    key_type: str, ca: str, site: Site, tmp_path: Path
) -> None:
    file = tmp_path / "device.pem"
    certificate = site.enrol(ca, _make_key(key_type))
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    root, issuing = site.ca_files(ca)

    assert _pkilint(file) == set()
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(issuing.read_bytes()))
    if _openssl_knows(key_type):
        run("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", root, "-untrusted", issuing, file)
    text = run("openssl", "x509", "-in", file, "-noout", "-text").stdout.decode()
    assert f"Subject: CN = {DEVICE}" in text
    assert "X509v3 Basic Constraints: critical\n                CA:FALSE" in text
    assert f"DNS:{DEVICE}" in text
    assert "TLS Web Client Authentication" in text


def test_pkilint_does_find_faults(tmp_path: Path) -> None:
    file = tmp_path / "faulty.pem"
    file.write_bytes(make_root().leaf(san=["dns:not a name"]).certificate_pem)

    assert "pkix.invalid_domain_name_syntax" in _pkilint(file)


@cache
def _openssl_knows(key_type: str) -> bool:
    known = run("openssl", "list", "-public-key-algorithms").stdout.decode().lower()
    return not key_type.startswith("ml-dsa") or "ml-dsa" in known


def _pkilint(file: Path) -> set[str]:
    """The codes of every finding of severity ERROR or worse."""
    program = Path(sys.executable).with_name("lint_pkix_cert")
    done = run(program, "lint", "-s", "ERROR", "-f", "JSON", file, check=False)
    findings = json.loads(done.stdout)["results"]
    return {each["code"] for finding in findings for each in finding["finding_descriptions"]}
