"""csrattrs over the wire: what is advertised is what will be judged (row 16)."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from kipuka_core.model.certificate import CsrAttributes
from kipuka_core.testing.pki import make_csr, make_key
from kipuka_core.wire import csrattrs
from tests.system.system_kit import System, deploy, serving

EC, RSA = "1.2.840.10045.2.1", "1.2.840.113549.1.1.1"
CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"
EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e")
P256 = bytes.fromhex("06082a8648ce3d030107")

LABELS = """
[est]
csr_attributes = ["1.3.6.1.1.1.1.22"]
[[est.label]]
name = "p256"
allowed_key_types = ["ecdsa256"]
allowed_signature_algorithms = ["sha256"]
[[est.label]]
name = "bound"
channel_binding = "required"
[[est.label]]
name = "named"
require_san = true
"""
NOTHING_TO_SAY = """
[policy]
order = ["validity"]
"""


@pytest.fixture(scope="module")
def advertising(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with serving(deploy(tmp_path_factory.mktemp("advertising") / "deployment", LABELS)) as running:
        yield running


def advertised(system: System, path: str) -> CsrAttributes:
    answer = system.client().request("GET", path)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/csrattrs"
    assert answer.headers["content-transfer-encoding"] == "base64"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert max(len(line) for line in answer.body.splitlines()) <= 64
    der = base64.b64decode(answer.body)
    assert der.count(EXTENSION_REQUEST) <= 1
    return csrattrs.decode(der)


def test_csrattrs_are_given_to_anybody_with_the_operators_additions(advertising: System) -> None:
    attributes = advertised(advertising, "csrattrs")
    assert attributes.oids == ("1.3.6.1.1.1.1.22",)
    hints = {hint.oid: hint.values_der for hint in attributes.attributes}
    assert set(hints) == {EC, RSA}
    assert P256 in hints[EC]
    assert [each.oid for each in attributes.extensions] == ["2.5.29.37"]


def test_what_a_label_advertises_is_what_it_takes(advertising: System) -> None:
    attributes = advertised(advertising, "p256/csrattrs")
    hints = {hint.oid: hint.values_der for hint in attributes.attributes}
    assert hints == {EC: (P256,)}
    assert "1.2.840.10045.4.3.2" in attributes.oids
    assert [each.oid for each in attributes.extensions] == ["2.5.29.15", "2.5.29.37"]
    token, client = advertising.otp("judged"), advertising.client()
    other = client.enrol(make_csr(make_key("ecdsa384"), "judged"), user="judged", password=token, label="p256")
    advertising.refused(other, 400, "ecdsa256")
    right = client.enrol(make_csr(make_key("ecdsa256"), "judged"), user="judged", password=token, label="p256")
    assert len(right.certificates()) == 1


def test_challenge_password_is_listed_only_where_it_is_required(advertising: System) -> None:
    assert CHALLENGE_PASSWORD in advertised(advertising, "bound/csrattrs").oids
    assert CHALLENGE_PASSWORD not in advertised(advertising, "csrattrs").oids


def test_a_subject_alt_name_is_asked_for_where_it_is_required(advertising: System) -> None:
    assert "2.5.29.17" in advertised(advertising, "named/csrattrs").oids
    assert "2.5.29.17" not in advertised(advertising, "csrattrs").oids
    token, client = advertising.otp("named"), advertising.client()
    bare = client.enrol(make_csr(common_name="named"), user="named", password=token, label="named")
    advertising.refused(bare, 400, "SubjectAltName")
    csr = make_csr(common_name="named", san=["dns:named"])
    assert len(client.enrol(csr, user="named", password=token, label="named").certificates()) == 1


def test_nothing_to_say_is_204_without_a_body(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving(deploy(tmp_path_factory.mktemp("silent") / "deployment", NOTHING_TO_SAY)) as silent:
        answer = silent.client().request("GET", "csrattrs")
        assert (answer.status, answer.body) == (204, b"")
        assert "content-type" not in answer.headers
        assert silent.client().request("HEAD", "csrattrs").status == 204
