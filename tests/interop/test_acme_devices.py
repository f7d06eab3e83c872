"""Devices of others, which speak EST only, get and renew certificates of a CA of others, which speaks ACME only."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from kipuka_core.testing.pki import key_pem, make_csr, make_key
from kipuka_core.testing.server import RunningServer, running_server, wait_until
from tests.acme.acme_site import make_site
from tests.acme.pebble import Pebble, running_pebble
from tests.interop.programs import run
from tests.interop.strongswan import enrol_and_renew

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """Validates, in a world in which every name is 127.0.0.1."""
    with running_pebble(tmp_path_factory.mktemp("pebble"), with_dns=True) as running:
        yield running


@pytest.fixture(scope="module")
def server(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Two workers, which both answer challenges."""
    http_listen = f"127.0.0.1:{pebble.http_port}"
    site = make_site(tmp_path_factory.mktemp("site"), pebble, workers=2, http_listen=http_listen)
    with running_server(site) as running:
        yield running


def _is_pebbles(certificate: x509.Certificate, pebble: Pebble) -> None:
    issuing, _ = x509.load_pem_x509_certificates(pebble.chain_file.read_bytes())
    certificate.verify_directly_issued_by(issuing)
    assert pebble.certificate_status(certificate) == "Valid"


def _asked(*curl: str | Path, cwd: Path) -> bytes:
    """What curl gets, once it is not told to wait (202)."""
    answers: list[bytes] = []

    def is_there() -> bool:
        status = run(*curl, "-o", "answer", "-w", "%{http_code}", cwd=cwd).stdout
        answers.append((cwd / "answer").read_bytes())
        return status == b"200"

    wait_until(is_there)
    return answers[-1]


@pytest.mark.parametrize(("key_type", "size"), [("ecdsa", "256"), ("rsa", "2048")])
def test_strongswan_enrols_and_renews(
    server: RunningServer, pebble: Pebble, tmp_path: Path, key_type: str, size: str
) -> None:
    chain = x509.load_pem_x509_certificates(pebble.chain_file.read_bytes())
    csr, enrolled, renewed = enrol_and_renew(
        server, f"{key_type}-pump.example", chain, key_type, size, directory=tmp_path
    )

    first, second = map(x509.load_pem_x509_certificate, (enrolled, renewed))
    assert first.subject == second.subject == x509.load_der_x509_csr(csr).subject
    assert first.public_key() == second.public_key() == x509.load_der_x509_csr(csr).public_key()
    assert first.serial_number != second.serial_number
    for each in (first, second):
        _is_pebbles(each, pebble)


def test_curl_enrols_and_renews(server: RunningServer, pebble: Pebble, tmp_path: Path) -> None:
    name = "curl-pump.example"
    key = make_key()
    (tmp_path / "device.key").write_bytes(key_pem(key))
    (tmp_path / "device.csr").write_bytes(base64.encodebytes(make_csr(key, name, [f"dns:{name}"])))
    curl: list[str | Path] = [
        "curl", "-sS", "--fail-with-body", "--cacert", server.deployment.root_pem,
        "-H", "Content-Type: application/pkcs10", "--data-binary", "@device.csr",
    ]  # fmt: skip

    token = server.deployment.otp(name)
    answer = _asked(*curl, "-u", f"{name}:{token}", f"{server.est_url}/simpleenroll", cwd=tmp_path)
    (first,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))
    (tmp_path / "device.pem").write_bytes(first.public_bytes(Encoding.PEM))
    mine = ["--cert", "device.pem", "--key", "device.key"]
    answer = _asked(*curl, *mine, f"{server.est_url}/simplereenroll", cwd=tmp_path)
    (second,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))

    assert first.serial_number != second.serial_number
    for each in (first, second):
        _is_pebbles(each, pebble)


def test_pki_fetches_pebbles_certificates(server: RunningServer, pebble: Pebble, tmp_path: Path) -> None:
    run(
        "pki", "--estca", "--url", f"https://localhost:{server.est_port}", "--cacert", server.deployment.root_pem,
        "--cacert", pebble.chain_file, "--caout", tmp_path / "ca.pem", "--outform", "pem",
    )  # fmt: skip
    fetched = {x509.load_pem_x509_certificate(file.read_bytes()) for file in tmp_path.glob("ca*.pem")}
    assert fetched == set(x509.load_pem_x509_certificates(pebble.chain_file.read_bytes()))
