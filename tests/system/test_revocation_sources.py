"""Revocation of client certificates from elsewhere, in mode optional: by CRL, by OCSP, and when nobody can say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import ocsp

from kipuka_core.testing.client import Answer
from kipuka_core.testing.pki import Leaf, make_csr, make_root
from tests.edges.revocation.revocation_kit import (
    DAY,
    Reply,
    Responding,
    Site,
    crl_der,
    http_site,
    openssl_responder,
    points,
    responder_leaf,
    responders,
)
from tests.system.system_kit import VENDOR, System, deploy, serving

pytestmark = pytest.mark.long

REVOKED, UNKNOWN = "certificate_revoked", "revocation_unknown"
GOOD, BAD = VENDOR.leaf("good"), VENDOR.leaf("bad")


def enrol(system: System, leaf: Leaf) -> Answer:
    """By the vendor's certificate, for the name that it has."""
    common_name = str(leaf.certificate.subject.rfc4514_string()).removeprefix("CN=")
    return system.client(leaf).enrol(make_csr(common_name=common_name))


def refusal(system: System, leaf: Leaf) -> str:
    """The code of the refusal of an enrolment."""
    answer = enrol(system, leaf)
    status = 503 if answer.status == 503 else 401
    return str(system.refused(answer, status)["code"])


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with http_site() as running:
        yield running


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[System]:
    """A server that asks whatever responder a certificate names, and no CRL."""
    deployment = deploy(tmp_path_factory.mktemp("asking") / "d", '[revocation]\ncheck = "ocsp"\ntimeout = "1s"')
    with serving(deployment) as running:
        yield running


# -- CRLs --------------------------------------------------------------------------------------------------------------
def test_a_crl_file_a_crl_url_and_the_points_of_a_certificate(tmp_path: Path, site: Site) -> None:
    other = make_root("Other Device CA")
    third = make_root("Third Device CA")
    deployment = deploy(tmp_path / "d")
    directory = deployment.directory
    (directory / "vendor.crl").write_bytes(crl_der(VENDOR, BAD))
    site.pages |= {"/other.crl": crl_der(other, 4711), "/third.crl": crl_der(third, BAD)}
    (directory / "anchors.pem").write_bytes(VENDOR.pem + other.pem + third.pem)
    toml = f'[revocation]\ncheck = "crl"\ncrls = ["vendor.crl", "{site.url("/other.crl")}"]'
    deployment.configure(toml, client_auth='trust_anchors = "anchors.pem"\n')
    with serving(deployment) as system:
        assert len(enrol(system, GOOD).certificates()) == 1
        assert refusal(system, BAD) == REVOKED
        by_url = other.leaf("by-url")
        assert len(enrol(system, by_url).certificates()) == 1
        by_point = third.leaf("by-point", more_extensions=[points(site.url("/third.crl"))])
        assert len(enrol(system, by_point).certificates()) == 1
        site.pages["/third.crl"] = crl_der(third, by_point)
        deployment.kipuka("reload")
        assert refusal(system, by_point) == REVOKED
        nowhere = third.leaf("nowhere")
        assert refusal(system, nowhere) == UNKNOWN


@pytest.mark.parametrize("soft_fail", [False, True])
def test_soft_fail_accepts_what_is_unknown_with_a_warning_and_never_what_is_revoked(
    tmp_path: Path, site: Site, soft_fail: bool
) -> None:
    toml = f'[revocation]\ncheck = "ocsp-then-crl"\nsoft_fail = {str(soft_fail).lower()}\n'
    deployment = deploy(tmp_path / "d", f'{toml}responder = "{site.url("/away")}"')
    listing = VENDOR.leaf("listed", more_extensions=[points(site.url("/vendor.crl"))])
    site.pages["/vendor.crl"] = crl_der(VENDOR, listing)
    with serving(deployment) as system:
        assert refusal(system, listing) == REVOKED
        if not soft_fail:
            assert refusal(system, GOOD) == UNKNOWN
            return
        assert len(enrol(system, GOOD).certificates()) == 1
        (warning,) = system.server.wait_for_log(lambda line: "unknown revocation status" in line["event"])
        assert warning["level"] == "warning"
        assert "CN=good" in warning["event"]
        assert "answers HTTP 404" in warning["event"]


# -- OCSP --------------------------------------------------------------------------------------------------------------
def test_a_responder_by_openssl(tmp_path: Path) -> None:
    known = {GOOD.certificate.serial_number: "V", BAD.certificate.serial_number: "R"}
    with openssl_responder(tmp_path / "ocsp", VENDOR, known, signer=responder_leaf(VENDOR)) as responder:
        toml = f'[revocation]\ncheck = "ocsp"\nresponder = "{responder.url}"\n'
        with serving(deploy(tmp_path / "d", toml)) as system:
            assert len(enrol(system, GOOD).certificates()) == 1
            assert refusal(system, BAD) == REVOKED
            assert refusal(system, VENDOR.leaf("stranger")) == UNKNOWN
            responder.stop()
            assert len(enrol(system, GOOD).certificates()) == 1  # remembered
            assert refusal(system, VENDOR.leaf("too-late")) == UNKNOWN


def test_a_responder_by_openssl_that_signs_without_the_right_is_not_believed(tmp_path: Path) -> None:
    known = {GOOD.certificate.serial_number: "V"}
    with openssl_responder(tmp_path / "ocsp", VENDOR, known, signer=VENDOR.leaf("Responder")) as responder:
        toml = f'[revocation]\ncheck = "ocsp"\nresponder = "{responder.url}"\n'
        with serving(deploy(tmp_path / "d", toml)) as system:
            assert refusal(system, GOOD) == UNKNOWN
            (line,) = system.server.wait_for_log(lambda line: line["event"] == "revocation source failed")
            assert "OCSPSigning" in line["problem"]


NOW = datetime.now(UTC)
ANSWERS: dict[str, tuple[dict[str, Any], str | None]] = {
    "good": ({}, None),
    "good-without-nonce": ({"nonce": None}, None),
    "good-by-delegate": ({"signer": responder_leaf(VENDOR)}, None),
    "revoked": ({"status": ocsp.OCSPCertStatus.REVOKED}, REVOKED),
    "unknown": ({"status": ocsp.OCSPCertStatus.UNKNOWN}, UNKNOWN),
    "wrong-signer": ({"signer": responder_leaf(make_root("Elsewhere"))}, UNKNOWN),
    "no-eku": ({"signer": VENDOR.leaf("No responder")}, UNKNOWN),
    "wrong-nonce": ({"nonce": b"not ours"}, UNKNOWN),
    "another-serial": ({"about": GOOD.certificate}, UNKNOWN),
    "old": ({"this_update": NOW - 2 * DAY, "next_update": NOW - DAY}, UNKNOWN),
    "future": ({"this_update": NOW + timedelta(hours=2)}, UNKNOWN),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_a_responder_answers_and_what_comes_of_it(asking: System, site: Site, answer: str) -> None:
    options, code = ANSWERS[answer]
    leaf = VENDOR.leaf(answer, more_extensions=[responders(site.url(f"/{answer}"))])
    responding = Responding(authority=VENDOR, **options)
    site.pages[f"/{answer}"] = lambda body: responding.answer(leaf.certificate, body)
    if code is None:
        assert len(enrol(asking, leaf).certificates()) == 1
    else:
        assert refusal(asking, leaf) == code


@pytest.mark.parametrize(
    ("path", "page"), [("/garbage", b"garbage"), ("/empty", b""), ("/broken", Reply(status=500)), ("/slow", None)]
)
def test_a_responder_that_does_not_answer_properly(asking: System, site: Site, path: str, page: Any) -> None:
    site.pages[path] = page if page is not None else site.slow
    leaf = VENDOR.leaf(path.removeprefix("/"), more_extensions=[responders(site.url(path))])
    assert refusal(asking, leaf) == UNKNOWN
    (line,) = asking.server.wait_for_log(lambda line: line.get("source") == site.url(path))
    assert line["event"] == "revocation source failed"
    assert line["problem"]


def test_somebody_else_is_served_while_a_responder_hangs(asking: System, site: Site) -> None:
    site.pages["/hangs"] = site.slow
    leaf = VENDOR.leaf("hangs", more_extensions=[responders(site.url("/hangs"))])
    assert asking.client(leaf).request("GET", "cacerts").status == 200  # nothing rests on the certificate here
    assert site.asked["/hangs"] == 0
    assert refusal(asking, leaf) == UNKNOWN
    assert refusal(asking, leaf) == UNKNOWN
    assert site.asked["/hangs"] == 1  # known to be away


def test_another_credential_counts_where_the_certificate_does_not(asking: System, site: Site) -> None:
    leaf = VENDOR.leaf("revoked-too", more_extensions=[responders(site.url("/revoked-too"))])
    responding = Responding(authority=VENDOR, status=ocsp.OCSPCertStatus.REVOKED)
    site.pages["/revoked-too"] = lambda body: responding.answer(leaf.certificate, body)
    assert refusal(asking, leaf) == REVOKED
    csr, token = make_csr(common_name="by-password"), asking.otp("by-password")
    assert len(asking.client().enrol(csr, user="by-password", password=token).certificates()) == 1
