"""strongSwan and curl, which speak EST only, get and renew certificates of CFSSL, which does not speak it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from kipuka_core.testing.pki import key_pem, make_csr, make_key
from kipuka_core.testing.server import RunningServer, running_server
from tests.cfssl.cfssl_server import Cfssl, make_cfssl, running_cfssl
from tests.cfssl.cfssl_site import make_site
from tests.interop.programs import run
from tests.interop.strongswan import enrol_and_renew

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def cfssl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cfssl]:
    with running_cfssl(make_cfssl(tmp_path_factory.mktemp("cfssl") / "cfssl")) as running:
        yield running


@pytest.fixture(scope="module")
def server(cfssl: Cfssl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    anchors = 'trust_anchors = ["state/ca/root.pem", "cfssl-root.pem"]\n'
    site = make_site(tmp_path_factory.mktemp("site") / "site", cfssl.settings_with_serials, client_auth=anchors)
    (site.directory / "cfssl-root.pem").write_bytes(cfssl.root.pem)
    with running_server(site) as running:
        yield running


@pytest.mark.parametrize(("key_type", "size"), [("ecdsa", "256"), ("rsa", "2048")])
def test_strongswan_enrols_and_renews(
    server: RunningServer, cfssl: Cfssl, tmp_path: Path, key_type: str, size: str
) -> None:
    csr, enrolled, renewed = enrol_and_renew(
        server, f"{key_type}-pump", cfssl.authority.chain, key_type, size, directory=tmp_path
    )

    first, second = map(x509.load_pem_x509_certificate, (enrolled, renewed))
    assert first.serial_number != second.serial_number
    for each in (first, second):
        each.verify_directly_issued_by(cfssl.authority.certificate)
        assert each.public_key() == x509.load_der_x509_csr(csr).public_key()
    assert {first, second} <= set(cfssl.issued())


def test_curl_enrols_and_renews(server: RunningServer, cfssl: Cfssl, tmp_path: Path) -> None:
    key, name = make_key(), "curl-pump"
    (tmp_path / "device.key").write_bytes(key_pem(key))
    (tmp_path / "device.csr").write_bytes(base64.encodebytes(make_csr(key, name, [f"dns:{name}"])))
    curl: list[str | Path] = [
        "curl", "-sS", "--fail-with-body", "--cacert", server.deployment.root_pem,
        "-H", "Content-Type: application/pkcs10", "--data-binary", "@device.csr",
    ]  # fmt: skip
    token = server.deployment.otp(name)

    answer = run(*curl, "-u", f"{name}:{token}", f"{server.est_url}/simpleenroll", cwd=tmp_path).stdout
    (first,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))
    (tmp_path / "device.pem").write_bytes(first.public_bytes(Encoding.PEM))
    mine = ["--cert", "device.pem", "--key", "device.key"]
    answer = run(*curl, *mine, f"{server.est_url}/simplereenroll", cwd=tmp_path).stdout
    (second,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))

    assert first.serial_number != second.serial_number
    assert {first, second} <= set(cfssl.issued())
