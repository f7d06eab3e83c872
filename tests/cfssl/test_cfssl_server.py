"""A whole server whose CA is CFSSL: enrolled, renewed, revoked; and what a lost answer comes to."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from kipuka_core.testing.pki import Leaf, make_csr, make_key
from kipuka_core.testing.server import wait_until
from tests.cfssl.cfssl_server import Cfssl
from tests.cfssl.cfssl_site import make_site
from tests.system.system_kit import System, serving

pytestmark = pytest.mark.long


def subject(common_name: str) -> x509.Name:
    """In the order in which devices write it, and not CFSSL."""
    attributes = [(NameOID.COMMON_NAME, common_name), (NameOID.ORGANIZATION_NAME, "Example")]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def enrolled(system: System, name: str) -> Leaf:
    key = make_key()
    csr = make_csr(key, None, [f"dns:{name}"], subject=subject(name))
    return Leaf(system.client().enrol(csr, user=name, password=system.otp(name)).certificate(), key)


def test_a_device_enrols_renews_and_is_revoked_at_cfssl_too(cfssl: Cfssl, tmp_path: Path) -> None:
    anchors = 'trust_anchors = ["state/ca/root.pem", "cfssl-root.pem"]\n'
    site = make_site(tmp_path / "site", cfssl.settings_with_serials, client_auth=anchors)
    (site.directory / "cfssl-root.pem").write_bytes(cfssl.root.pem)
    with serving(site) as system:
        first = enrolled(system, "device-1")
        first.certificate.verify_directly_issued_by(cfssl.authority.certificate)
        assert {each.rfc4514_string() for each in first.certificate.subject.rdns} == {"CN=device-1", "O=Example"}
        handed_out = system.client().request("GET", "cacerts").certificates()
        assert set(handed_out) == set(cfssl.authority.chain)

        csr = make_csr(make_key(), None, ["dns:device-1"], subject=first.certificate.subject)
        again = system.client(first).reenrol(csr).certificate()
        assert set(cfssl.issued()) == {first.certificate, again}

        serial = f"{first.certificate.serial_number:x}"
        site.kipuka("certs", "revoke", serial, "--reason", "superseded")
        wait_until(lambda: (str(first.certificate.serial_number), "revoked", 4) in cfssl.rows())
    assert system.rows("SELECT count(*) FROM certificates") == [(2,)]


def test_a_request_that_cfssl_refuses_is_an_answer_that_says_so(cfssl: Cfssl, tmp_path: Path) -> None:
    types = 'allowed_key_types = ["ecdsa256", "ed25519"]'
    site = make_site(tmp_path / "site", cfssl.settings_with_serials, enrollment=types)
    with serving(site) as system:
        csr = make_csr(make_key("ed25519"), "device-1", ["dns:device-1"])
        token = system.otp("device-1")
        answer = system.client().enrol(csr, user="device-1", password=token)
        assert answer.status == 400
        assert "CFSSL 9300" in answer.text
        cfssl.kill()
        csr = make_csr(make_key(), "device-1", ["dns:device-1"])
        answer = system.client().enrol(csr, user="device-1", password=token)
        assert answer.status == 503
        assert answer.headers["retry-after"]
        cfssl.start()
        assert system.client().enrol(csr, user="device-1", password=token).status == 200
        reasons = [fact["reason"] for fact in system.audit() if fact["event"] == "cfssl_failed"]
        assert len(reasons) == 2
    assert len(cfssl.issued()) == 1
