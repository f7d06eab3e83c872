"""A device's life as its operator sees it: a password from the browser, curl, the certificate, and its end."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from playwright.sync_api import Browser

from kipuka_core.testing.client import write_leaf
from kipuka_core.testing.pki import Leaf, make_csr, make_key
from tests.interop.console_window import Window, browser_context
from tests.interop.programs import run
from tests.system.admin_site import AdminSite, admin_site
from tests.system.status_kit import HTTP, openssl_ocsp, pem_file

pytestmark = [pytest.mark.interop, pytest.mark.long]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminSite]:
    with admin_site(tmp_path_factory.mktemp("story"), server=HTTP) as running:
        yield running


def curl(site: AdminSite, operation: str, csr: bytes, directory: Path, *credential: str | Path) -> tuple[int, bytes]:
    """The status and the body."""
    answer = directory / "answer"
    done = run(
        "curl", "-sS", "--cacert", site.system.deployment.root_pem, *credential, "-o", answer, "-w", "%{http_code}",
        "-H", "Content-Type: application/pkcs10", "--data-binary", "@-", f"{site.system.server.est_url}/{operation}",
        stdin=base64.encodebytes(csr),
    )  # fmt: skip
    return int(done.stdout), answer.read_bytes()


def issued(status_and_body: tuple[int, bytes]) -> x509.Certificate:
    status, body = status_and_body
    assert status == 200, body
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
    return certificate


def verified_with_crl(site: AdminSite, certificate: Path, directory: Path) -> subprocess.CompletedProcess[bytes]:
    """What ``openssl verify -crl_check`` says with the CRL as it is now."""
    crl = directory / "ca.crl"
    run("curl", "-sS", "--fail", "-o", crl, f"http://127.0.0.1:{site.system.server.http_port}/crl/default.crl")
    issuing = site.system.deployment.root_pem.with_name("issuing.pem")
    asked: list[str | Path] = ["openssl", "verify", "-crl_check", "-CAfile", site.system.deployment.root_pem]
    asked += ["-untrusted", issuing, "-CRLfile", crl, certificate]
    return subprocess.run(asked, capture_output=True, check=False)


def test_from_the_browser_to_the_device_and_back_to_its_end(site: AdminSite, chromium: Browser, tmp_path: Path) -> None:
    with closing(browser_context(site, chromium)) as context:
        window = Window(site, context, context.new_page()).signed_in()
        page = window.go("passwords")
        page.get_by_label("Whom it is for").fill("pump-12")
        page.get_by_role("button", name="Make a one-time password").click()
        token = page.locator("code.token").inner_text()

        key = make_key()
        csr = make_csr(key, "pump-12")
        certificate = issued(curl(site, "simpleenroll", csr, tmp_path, "-u", f"pump-12:{token}"))
        device, device_key = write_leaf(Leaf(certificate, key), tmp_path)
        credential = ("--cert", device, "--key", device_key)
        renewed = issued(curl(site, "simplereenroll", csr, tmp_path, *credential))
        device, device_key = write_leaf(Leaf(renewed, key), tmp_path)
        credential = ("--cert", device, "--key", device_key)
        alone = pem_file(tmp_path, renewed)
        assert verified_with_crl(site, alone, tmp_path).returncode == 0
        assert ": good" in openssl_ocsp(site.system, alone)

        window.go("certificates?identity=pump-12")
        assert page.locator("tbody tr").count() == 2
        window.go(f"certificates/{renewed.serial_number:x}")
        assert page.get_by_role("heading", name="CN=pump-12").is_visible()
        page.get_by_label("Reason").select_option("keyCompromise")
        page.get_by_label(re.compile("cannot be undone")).check()
        page.get_by_role("button", name="Revoke this certificate").click()
        assert "is revoked" in page.get_by_role("status").inner_text()

        # The first look after the page says so, however quick it comes.
        refusal = verified_with_crl(site, alone, tmp_path)
        assert refusal.returncode != 0
        assert b"certificate revoked" in refusal.stderr
        answer = openssl_ocsp(site.system, alone)
        assert ": revoked" in answer
        assert "keyCompromise" in answer
        status, text = curl(site, "simplereenroll", csr, tmp_path, *credential)
        assert status == 401
        assert b"revoked" in text
        window.check()
    assert renewed.public_bytes(Encoding.DER) != certificate.public_bytes(Encoding.DER)
    (fact,) = site.facts(event="certificate_revoked", target=f"{renewed.serial_number:x}")
    assert fact["actor"]
