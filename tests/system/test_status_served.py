"""CRLs and OCSP end to end: served, seen within a second after a revocation by any process, checked by others."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from kipuka_core.edges.blocking import BlockingWork
from kipuka_core.edges.revocation import RevocationSettings, open_revocation
from kipuka_core.model.revocation import RevocationStatus
from kipuka_core.testing.pki import make_csr, make_root
from tests.interop.programs import run
from tests.system.admin_kit import ADMIN_CA, ANA, admin
from tests.system.status_kit import (
    ADMIN,
    HTTP,
    crl_of,
    get_path,
    is_on_crl,
    openssl_ocsp,
    pem_file,
    plain,
    request_about,
    status_of,
)
from tests.system.system_kit import System, deploy, serving


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    deployment = deploy(tmp_path_factory.mktemp("status") / "deployment", ADMIN, server=HTTP, workers=2)
    (deployment.directory / "admin-ca.pem").write_bytes(ADMIN_CA.pem)
    with serving(deployment) as running:
        yield running


def revoke(site: System, certificate: x509.Certificate, reason: str = "keyCompromise") -> None:
    site.deployment.kipuka("certs", "revoke", f"{certificate.serial_number:x}", "--reason", reason)


def test_what_another_process_revokes_is_on_the_next_crl_and_answer(site: System) -> None:
    leaf = site.enrolled("to-be-revoked")
    serial = leaf.certificate.serial_number
    assert not is_on_crl(site, serial)
    assert status_of(site, leaf.certificate) == "GOOD"
    number = crl_of(site).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    revoke(site, leaf.certificate)
    assert is_on_crl(site, serial)  # the very next answer, not one that comes later
    assert status_of(site, leaf.certificate) == "REVOKED"
    crl = crl_of(site)
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number > number
    by_admin = admin(site, leaf=ANA).request("GET", "cas/default/crl")
    assert (by_admin.status, by_admin.headers["content-type"]) == (200, "application/pkix-crl")
    assert by_admin.body == crl.public_bytes(Encoding.DER)
    assert site.client(leaf).reenrol(make_csr(leaf.key, "to-be-revoked")).status == 401


def test_openssl_verifies_the_crl_and_refuses_what_is_on_it(site: System, tmp_path: Path) -> None:
    good, bad = site.enrolled("crl-good"), site.enrolled("crl-bad")
    revoke(site, bad.certificate, "superseded")
    der, issuing = tmp_path / "issuing.crl", site.deployment.root_pem.with_name("issuing.pem")
    der.write_bytes(plain(site, "GET", "/crl/default.crl").body)
    pem = tmp_path / "issuing.crl.pem"
    shown = run("openssl", "crl", "-in", der, "-inform", "DER", "-CAfile", issuing, "-text", "-out", pem)
    assert b"verify OK" in shown.stderr
    assert "Superseded" in pem.read_text()

    def verify(leaf: Path) -> tuple[int, bytes]:
        done = run(
            *("openssl", "verify", "-crl_check", "-CAfile", site.deployment.root_pem, "-untrusted", issuing),
            *("-CRLfile", pem, leaf),
            check=False,
        )
        return done.returncode, done.stderr

    assert verify(pem_file(tmp_path, good))[0] == 0
    code, why = verify(pem_file(tmp_path, bad))
    assert code != 0
    assert b"certificate revoked" in why


@pytest.mark.parametrize("options", [(), ("-no_nonce",), ("-nonce",), ("-sha256",), ("-sha512", "-no_nonce")])
@pytest.mark.parametrize("path", ["/ocsp", "/ocsp/", "/ocsp/default"])
def test_openssl_asks_by_post_and_verifies_the_answer(
    site: System, tmp_path: Path, options: tuple[str, ...], path: str
) -> None:
    leaf = site.enrolled("ocsp-device")
    file = pem_file(tmp_path, leaf)
    # The hash has to stand before the certificate that it is for.
    hashed = [option for option in options if option.startswith("-sha")]
    others = [option for option in options if option not in hashed]
    issuing = site.deployment.root_pem.with_name("issuing.pem")
    url = f"http://127.0.0.1:{site.server.http_port}{path}"

    def ask() -> str:
        asked: list[str | Path] = ["openssl", "ocsp", *hashed, "-issuer", issuing, "-cert", file, *others]
        done = run(*asked, "-url", url, "-CAfile", site.deployment.root_pem, "-verify_other", issuing)
        assert b"Response verify OK" in done.stderr
        assert b"WARNING: no nonce" not in done.stderr or "-no_nonce" in options
        return done.stdout.decode()

    assert ": good" in ask()
    revoke(site, leaf.certificate)
    answer = ask()
    assert ": revoked" in answer
    assert "Reason: keyCompromise" in answer


def test_openssl_asks_about_several_at_once(site: System, tmp_path: Path) -> None:
    leaves = [site.enrolled(f"several-{number}") for number in range(3)]
    revoke(site, leaves[1].certificate)
    files = [pem_file(tmp_path, leaf) for leaf in leaves]
    more = [option for file in files[1:] for option in ("-cert", str(file))]
    answer = openssl_ocsp(site, files[0], *more)
    assert [line.rpartition(": ")[2] for line in answer.splitlines() if line.startswith(str(tmp_path))] == [
        "good",
        "revoked",
        "good",
    ]


def test_get_is_for_caches_and_ends_with_next_update(site: System) -> None:
    leaf = site.enrolled("by-get")
    request = request_about(leaf.certificate, site.issuing_ca)
    unescaped = "/ocsp/" + base64.b64encode(request).decode()
    for path in (get_path(request), get_path(request, "/ocsp/default/"), unescaped, get_path(request, "/ocsp//")):
        answer = plain(site, "GET", path)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/ocsp-response")
        response = ocsp.load_der_ocsp_response(answer.body)
        assert response.certificate_status is ocsp.OCSPCertStatus.GOOD
        assert response.next_update_utc is not None
        assert answer.headers["expires"] == f"{response.next_update_utc:%a, %d %b %Y %H:%M:%S GMT}"
        assert answer.headers["last-modified"] == f"{response.this_update_utc:%a, %d %b %Y %H:%M:%S GMT}"
        max_age, *words = answer.headers["cache-control"].split(", ")
        assert 0 < int(max_age.removeprefix("max-age=")) <= 300
        assert set(words) == {"public", "no-transform", "must-revalidate"}
    with_nonce = plain(site, "GET", get_path(request_about(leaf.certificate, site.issuing_ca, b"nonce")))
    unknown = plain(site, "GET", get_path(request_about(site.own_ca.leaf("x").certificate, site.issuing_ca)))
    for answer in (with_nonce, unknown):
        assert answer.headers["cache-control"] == "no-store"
        assert "expires" not in answer.headers


def test_errors_of_ocsp_are_answers_of_ocsp(site: System) -> None:
    other = make_root("Another Root")
    foreign = request_about(other.leaf("x").certificate, other.certificate)
    mine = request_about(site.own_ca.leaf("x").certificate, site.issuing_ca)
    post = {"Content-Type": "application/ocsp-request"}
    for body, expected in ((b"", "MALFORMED_REQUEST"), (b"rubbish", "MALFORMED_REQUEST"), (foreign, "UNAUTHORIZED")):
        answer = plain(site, "POST", "/ocsp", body, post)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/ocsp-response")
        assert ocsp.load_der_ocsp_response(answer.body).response_status.name == expected
        assert answer.headers["cache-control"] == "no-store"
    assert status_of(site, other.leaf("x").certificate, other.certificate) == "UNAUTHORIZED"
    assert plain(site, "POST", "/ocsp", mine, {"Content-Type": "text/html"}).status == 415
    assert plain(site, "POST", "/ocsp", bytes(9000), post).status == 413
    assert plain(site, "POST", "/ocsp/elsewhere", mine, post).status == 404
    assert plain(site, "GET", "/ocsp/elsewhere/TUlJ").status == 404
    for path in ("/ocsp", "/ocsp/", "/ocsp/%00", "/ocsp/default/", "/ocsp/not base64!"):
        assert plain(site, "GET", path.replace(" ", "%20")).status == 404


def test_crls_and_certificates_have_their_types_and_can_be_asked_for_again_cheaply(site: System) -> None:
    crl, certificate = plain(site, "GET", "/crl/default.crl"), plain(site, "GET", "/ca/default.cer")
    assert crl.headers["content-type"] == "application/pkix-crl"
    assert certificate.headers["content-type"] == "application/pkix-cert"
    assert x509.load_der_x509_certificate(certificate.body) == site.issuing_ca
    ends = x509.load_der_x509_crl(crl.body).next_update_utc
    assert crl.headers["expires"] == f"{ends:%a, %d %b %Y %H:%M:%S GMT}"
    for path, full in (("/crl/default.crl", crl), ("/ca/default.cer", certificate)):
        again = plain(site, "GET", path, headers={"If-None-Match": f'W/"x", {full.headers["etag"]}'})
        assert (again.status, again.body) == (304, b"")
        assert plain(site, "GET", path, headers={"If-None-Match": '"another"'}).body == full.body
        head = plain(site, "HEAD", path)
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(full.body)))
    since = {"If-Modified-Since": crl.headers["last-modified"]}
    assert plain(site, "GET", "/crl/default.crl", headers=since).status == 200  # two CRLs may be of one second


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/crl",
        "/crl/",
        "/crl/none.crl",
        "/crl/default.cer",
        "/crl/default.crl/",
        "/crl/default.0000000000000000.crl",
        "/crl/../crl/default.crl",
        "/ca/none.cer",
        "/ca/default.crl",
        "/ca/default.cer%00",
        "/.well-known/est/cacerts",
        "/.well-known/est/simpleenroll",
        "/admin/health/live",
        "/admin/cas/default/crl",
        "//crl/default.crl",
    ],
)
def test_there_is_nothing_else_and_never_est(site: System, path: str) -> None:
    answer = plain(site, "GET", path)
    assert (answer.status, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert plain(site, "POST", path, b"MIIB", {"Content-Type": "application/pkcs10"}).status in {404, 405}


def test_other_methods_are_405(site: System) -> None:
    for method, path in (("POST", "/crl/default.crl"), ("DELETE", "/ca/default.cer"), ("PUT", "/ocsp")):
        answer = plain(site, method, path)
        assert answer.status == 405
        assert "GET" in answer.headers["allow"]


def test_a_path_by_key_is_the_same_crl(site: System) -> None:
    (row,) = [line for line in site.deployment.kipuka("crl", "show").stdout.splitlines() if line.startswith("default")]
    key = row.split()[1]
    assert plain(site, "GET", f"/crl/default.{key}.crl").body == plain(site, "GET", "/crl/default.crl").body


@pytest.mark.parametrize("check", ["crl", "ocsp"])
def test_kipuka_s_own_checker_takes_both(site: System, check: str) -> None:
    good, bad = site.enrolled(f"own-{check}-good"), site.enrolled(f"own-{check}-bad")
    revoke(site, bad.certificate)
    url = f"http://127.0.0.1:{site.server.http_port}"
    settings = RevocationSettings(
        check="crl" if check == "crl" else "ocsp",
        crls=(f"{url}/crl/default.crl",) if check == "crl" else (),
        responder=f"{url}/ocsp" if check == "ocsp" else None,
    )

    async def ask() -> None:
        async with open_revocation(settings, BlockingWork().run) as checker:
            for leaf, status in ((good, RevocationStatus.GOOD), (bad, RevocationStatus.REVOKED)):
                answer = await checker.status_of((leaf.certificate, site.issuing_ca), datetime.now(UTC))
                assert answer.status is status, answer.detail

    asyncio.run(ask())


def test_pointers_are_in_what_is_issued_and_lead_to_what_verifies(
    site: System, tmp_path_factory: pytest.TempPathFactory
) -> None:
    deployment = deploy(tmp_path_factory.mktemp("pointers") / "deployment")
    table = (
        '[[ca]]\nid = "main"\ncert = "state/ca/issuing.pem"\nkey = "state/ca/issuing.key"\n'
        'chain = "state/ca/root.pem"\ncdp_urls = ["http://pki.example/crl/main.crl"]\n'
        'aia_urls = ["http://pki.example/ca/main.cer"]\nocsp_urls = ["http://pki.example/ocsp"]\n'
    )
    deployment.configure(table, server=HTTP)
    with serving(deployment) as pointing:
        extensions = pointing.enrolled("pointed").certificate.extensions
        (point,) = extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        assert point.full_name == [x509.UniformResourceIdentifier("http://pki.example/crl/main.crl")]
        access = extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        assert [each.access_location.value for each in access] == [
            "http://pki.example/ocsp",
            "http://pki.example/ca/main.cer",
        ]
        assert plain(pointing, "GET", "/crl/main.crl").status == 200
        assert plain(pointing, "GET", "/ca/main.cer").status == 200


def test_without_http_listen_there_is_no_such_port_and_the_admin_api_has_the_crl(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    deployment = deploy(tmp_path_factory.mktemp("quiet") / "deployment", ADMIN)
    (deployment.directory / "admin-ca.pem").write_bytes(ADMIN_CA.pem)
    with serving(deployment) as quiet:
        assert quiet.server.http_port is None
        answer = admin(quiet, leaf=ANA).request("GET", "cas/default/crl")
        assert x509.load_der_x509_crl(answer.body).issuer == quiet.issuing_ca.subject
