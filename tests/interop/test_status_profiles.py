"""CRLs, OCSP answers and the responder's certificate before pkilint and OpenSSL, under every kind of CA key."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from kipuka_core.testing.pki import Authority, key_pem, make_root
from kipuka_core.testing.samples import write_private
from tests.interop.programs import run
from tests.system.status_kit import HTTP, get_path, plain, request_about
from tests.system.system_kit import System, deploy, serving

pytestmark = pytest.mark.interop

KEY_TYPES = ("ecdsa256", "ecdsa384", "ecdsa521", "rsa2048", "rsa4096", "ed25519", "ed448")
ROOTS = {key_type: make_root(f"Root CA {key_type}", key_type) for key_type in KEY_TYPES}
CAS: dict[str, Authority] = {
    key_type: root.subordinate(f"Issuing CA {key_type}", key_type) for key_type, root in ROOTS.items()
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    deployment = deploy(tmp_path_factory.mktemp("profiles") / "deployment")
    tables = ""
    for key_type, authority in CAS.items():
        (deployment.directory / f"{key_type}-root.pem").write_bytes(ROOTS[key_type].pem)
        (deployment.directory / f"{key_type}.pem").write_bytes(authority.pem)
        write_private(deployment.directory / f"{key_type}.key", key_pem(authority.key))
        tables += (
            f'[[ca]]\nid = "{key_type}"\ncert = "{key_type}.pem"\nkey = "{key_type}.key"\n'
            f'chain = "{key_type}-root.pem"\n[[est.label]]\nname = "{key_type}"\nca = "{key_type}"\n'
        )
    deployment.configure(tables, server=HTTP)
    with serving(deployment) as running:
        yield running


def findings(program: str, file: Path, *options: str) -> set[str]:
    """The codes of every finding of severity WARNING or worse."""
    path = Path(sys.executable).with_name(program)
    done = run(path, "lint", "-s", "WARNING", "-f", "JSON", *options, file, check=False)
    results = json.loads(done.stdout)["results"]
    return {each["code"] for finding in results for each in finding["finding_descriptions"]}


def revoked(site: System, key_type: str, *reasons: str) -> list[x509.Certificate]:
    leaves = [site.enrolled(f"{reason}.example", label=key_type).certificate for reason in reasons]
    for leaf, reason in zip(leaves, reasons, strict=True):
        site.deployment.kipuka("certs", "revoke", f"{leaf.serial_number:x}", "--reason", reason)
    return leaves


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_the_crl_has_no_fault(site: System, tmp_path: Path, key_type: str) -> None:
    file = tmp_path / "served.crl"
    for reasons in ((), ("keyCompromise", "unspecified")):
        leaves = revoked(site, key_type, *reasons)
        answer = plain(site, "GET", f"/crl/{key_type}.crl")
        file.write_bytes(answer.body)
        serials = {entry.serial_number for entry in x509.load_der_x509_crl(answer.body)}
        assert {leaf.serial_number for leaf in leaves} <= serials
        assert findings("lint_crl", file, "-t", "CRL", "-p", "PKIX") == set()
        authority = site.deployment.directory / f"{key_type}.pem"
        shown = run("openssl", "crl", "-inform", "DER", "-in", file, "-noout", "-CAfile", authority)
        assert b"verify OK" in shown.stderr


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_the_ocsp_answer_and_its_signer_have_no_fault(site: System, tmp_path: Path, key_type: str) -> None:
    issuer, (leaf,) = CAS[key_type], revoked(site, key_type, "superseded")
    good = site.enrolled("good.example", label=key_type).certificate
    directory = site.deployment.directory
    for certificate, word in ((leaf, "revoked"), (good, "good"), (issuer.leaf("never").certificate, "unknown")):
        body = plain(site, "GET", get_path(request_about(certificate, issuer.certificate))).body
        answer = tmp_path / f"{word}.der"
        answer.write_bytes(body)
        assert findings("lint_ocsp_response", answer) == set()
        asked = tmp_path / f"{word}.pem"
        asked.write_bytes(certificate.public_bytes(Encoding.PEM))
        shown = run(
            *("openssl", "ocsp", "-respin", str(answer), "-issuer", str(directory / f"{key_type}.pem")),
            *("-cert", str(asked), "-CAfile", str(directory / f"{key_type}-root.pem")),
            *("-verify_other", str(directory / f"{key_type}.pem")),
        )
        assert b"Response verify OK" in shown.stderr
        assert f": {word}" in shown.stdout.decode()
    (signer,) = ocsp.load_der_ocsp_response(body).certificates
    file = tmp_path / "signer.pem"
    file.write_bytes(signer.public_bytes(Encoding.PEM))
    assert findings("lint_pkix_cert", file) == set()


def test_pkilint_does_find_faults_in_both(tmp_path: Path) -> None:
    root = make_root()
    crl = x509.CertificateRevocationListBuilder().issuer_name(root.certificate.subject)
    start, end = root.certificate.not_valid_before_utc, root.certificate.not_valid_after_utc
    faulty = crl.last_update(start).next_update(end).sign(root.key, root.certificate.signature_hash_algorithm)  # type: ignore[arg-type]
    file = tmp_path / "faulty.crl"
    file.write_bytes(faulty.public_bytes(Encoding.DER))
    assert findings("lint_crl", file, "-t", "CRL", "-p", "PKIX") != set()
