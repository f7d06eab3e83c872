"""strongSwan's ``pki`` as EST client: CA certificates, first enrolment with a one-time password, renewal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.testing.server import RunningServer, make_deployment, running_server
from tests.interop.programs import run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(make_deployment(tmp_path_factory.mktemp("strongswan"))) as running:
        yield running


def _options(server: RunningServer) -> list[str | Path]:
    """The server, its root for TLS, and the issuing CA, which ``pki`` wants to know before it accepts an answer."""
    ca = server.deployment.directory / "state" / "ca"
    return [
        "--url",
        f"https://localhost:{server.est_port}",
        "--cacert",
        ca / "root.pem",
        "--cacert",
        ca / "issuing.pem",
    ]


def _est(server: RunningServer, csr: bytes, *options: str | Path) -> x509.Certificate:
    answer = run("pki", "--est", *_options(server), *options, "--outform", "pem", stdin=csr).stdout
    return x509.load_pem_x509_certificate(answer)


def test_pki_fetches_the_ca_certificates(server: RunningServer, tmp_path: Path) -> None:
    root = server.deployment.root_pem

    run(
        "pki", "--estca", "--url", f"https://localhost:{server.est_port}", "--cacert", root,
        "--caout", tmp_path / "ca.pem", "--outform", "pem",
    )  # fmt: skip

    fetched = {x509.load_pem_x509_certificate(file.read_bytes()) for file in tmp_path.glob("ca*.pem")}
    on_disk = [root, root.with_name("issuing.pem")]
    assert fetched == {x509.load_pem_x509_certificate(file.read_bytes()) for file in on_disk}


@pytest.mark.parametrize(("key_type", "size"), [("rsa", "2048"), ("ecdsa", "256"), ("ecdsa", "384")])
def test_pki_enrols_and_renews(key_type: str, size: str, server: RunningServer, tmp_path: Path) -> None:
    name = f"{key_type}{size}-device"
    token = server.deployment.otp(name)
    key, certificate = tmp_path / "device.key", tmp_path / "device.pem"
    key.write_bytes(run("pki", "--gen", "--type", key_type, "--size", size, "--outform", "pem").stdout)
    request: list[str | Path] = ["pki", "--req", "--in", key, "--type", key_type, "--dn", f"CN={name}", "--san", name]
    csr = run(*request, "--outform", "der").stdout

    enrolled = _est(server, csr, "--userpass", f"{name}:{token}")
    certificate.write_bytes(enrolled.public_bytes(Encoding.PEM))
    renewed = _est(server, csr, "--cert", certificate, "--key", key)

    assert enrolled.subject == renewed.subject == x509.load_der_x509_csr(csr).subject
    assert enrolled.public_key() == renewed.public_key() == x509.load_der_x509_csr(csr).public_key()
    assert enrolled.serial_number != renewed.serial_number


def test_pki_gets_nothing_with_a_wrong_password(server: RunningServer, tmp_path: Path) -> None:
    server.deployment.otp("refused-device")
    key = tmp_path / "device.key"
    key.write_bytes(run("pki", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem").stdout)
    csr = run("pki", "--req", "--in", key, "--type", "ecdsa", "--dn", "CN=refused-device", "--outform", "der").stdout

    refused = run(
        "pki", "--est", *_options(server), "--userpass", "refused-device:wrong", stdin=csr, check=False
    )  # fmt: skip

    assert refused.returncode != 0
    assert refused.stdout == b""
    assert b"401" in refused.stderr
