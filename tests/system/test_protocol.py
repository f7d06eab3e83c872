"""What is asked for and answered: paths, methods, forms of answers, ways to be known (rows 1, 2, 4, 6 to 9)."""

from __future__ import annotations

import base64
import re
import ssl

import pytest

from kipuka_core.testing.client import openssl
from kipuka_core.testing.pki import make_csr, make_key
from tests.system.conftest import USERS
from tests.system.system_kit import PKCS10, VENDOR, RawConnection, System, credentials, head

CERTS_ONLY = "application/pkcs7-mime; smime-type=certs-only"
ALLOWED = {
    "cacerts": "GET, HEAD",
    "csrattrs": "GET, HEAD",
    "simpleenroll": "POST",
    "simplereenroll": "POST",
    "serverkeygen": "POST",
    "fullcmc": "POST",
}


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("path", ["cacerts", "factory/cacerts"])
def test_cacerts_gives_anybody_the_chain_up_to_the_root(system: System, path: str, tls: ssl.TLSVersion) -> None:
    answer = system.client(tls=tls).request("GET", path)
    assert answer.status == 200
    assert answer.headers["content-type"] == CERTS_ONLY
    assert answer.headers["content-transfer-encoding"] == "base64"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert set(answer.certificates()) == {system.issuing_ca, system.root_ca}
    *full, last = answer.body.decode().splitlines()
    assert {len(line) for line in full} == {64}
    assert 0 < len(last) <= 64


def test_what_cacerts_gives_is_read_by_openssl_from_a_shell(system: System) -> None:
    body = system.client().request("GET", "cacerts").body
    printed = openssl("pkcs7", "-inform", "DER", "-print_certs", stdin=base64.b64decode(body))
    assert printed.count("BEGIN CERTIFICATE") == 2
    assert "subject=O = Kipuka Test, CN = Kipuka Test Root CA" in printed


@pytest.mark.parametrize(
    ("tls", "lines", "single"),
    [
        (ssl.TLSVersion.TLSv1_2, (), True),
        (ssl.TLSVersion.TLSv1_3, (), False),
        (ssl.TLSVersion.TLSv1_2, ("User-Agent: libest 3.2.0",), False),
        (ssl.TLSVersion.TLSv1_2, ("Accept: */*",), False),
        (ssl.TLSVersion.TLSv1_2, ("Accept-Encoding: identity",), False),
    ],
)
def test_only_a_client_of_the_strongswan_kind_gets_its_base64_in_one_line(
    system: System, tls: ssl.TLSVersion, lines: tuple[str, ...], single: bool
) -> None:
    with RawConnection(system, tls=tls) as connection:
        connection.send(head("GET", "cacerts", *lines))
        answer = connection.answer()
    assert (len(answer.body.splitlines()) == 1) is single
    assert set(answer.certificates()) == {system.issuing_ca, system.root_ca}


def test_a_client_of_the_strongswan_kind_needs_one_read_for_the_headers_and_one_for_the_rest(system: System) -> None:
    with RawConnection(system, tls=ssl.TLSVersion.TLSv1_2) as connection:
        connection.send(head("GET", "cacerts"))
        first = connection.socket.recv(1024)
        headers, end, begun = first.partition(b"\r\n\r\n")
        assert headers.startswith(b"HTTP/1.1 200")
        assert end
        length = re.search(rb"content-length: (\d+)", headers.lower())
        assert length
        assert int(length[1]) > len(begun)
        body = begun + connection.socket.recv(65536)
    assert len(body) == int(length[1])
    assert body.count(b"\n") == 1
    assert body.endswith(b"\r\n")
    assert base64.b64decode(body[:-2], validate=True)


@pytest.mark.parametrize("path", ["cacerts", "csrattrs", "factory/cacerts"])
def test_head_says_what_get_would_and_has_no_body(system: System, path: str) -> None:
    get = system.client().request("GET", path)
    with RawConnection(system, tls=ssl.TLSVersion.TLSv1_3) as connection:
        connection.send(head("HEAD", path))
        answer = connection.answer(body=False)
        connection.send(head("GET", path))
        assert connection.answer().body == get.body
    assert answer.status == 200
    assert answer.headers["content-type"] == get.headers["content-type"]
    assert answer.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize("label", ["", "factory/"])
@pytest.mark.parametrize("operation", ALLOWED)
def test_a_wrong_method_is_405_with_what_is_allowed(system: System, operation: str, label: str) -> None:
    wrong = ["PUT", "DELETE", "PATCH", "OPTIONS", "GET" if ALLOWED[operation] == "POST" else "POST"]
    for method in wrong:
        answer = system.client().request(method, f"{label}{operation}", headers=PKCS10)
        fact = system.refused(answer, 405, operation)
        assert answer.headers["allow"] == ALLOWED[operation]
        assert fact["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("enroll", "no known operation"),
        ("", "empty segment"),
        ("SIMPLEENROLL", "no known operation"),
        ("simpleenroll/", "empty segment"),
        ("/simpleenroll", "empty segment"),
        ("nowhere/simpleenroll", "no label 'nowhere'"),
        ("Factory/simpleenroll", "no label 'Factory'"),
        ("cacerts/simpleenroll", "never called like an operation (cacerts)"),
        ("simpleenroll/simpleenroll", "never called like an operation (simpleenroll)"),
        ("factory/a/simpleenroll", "at most one label"),
        ("factory/nothing", "no known operation"),
        ("fac%2Ftory/simpleenroll", "at most one label"),
        ("../../simpleenroll", "at most one label"),
        ("fact%20ory/simpleenroll", "not a possible label name"),
    ],
)
def test_a_path_that_leads_nowhere_is_404_and_never_the_default_door(system: System, path: str, reason: str) -> None:
    token = system.otp("lost-device")
    csr = base64.encodebytes(make_csr(common_name="lost-device"))
    answer = system.client().request("POST", f"/.well-known/est/{path}", csr, credentials("lost-device", token))
    system.refused(answer, 404, reason)
    assert system.uses(token) == (0, 0)


@pytest.mark.parametrize("path", ["/", "/est/simpleenroll", "/.well-known/estsimpleenroll", "/admin/health/live"])
def test_outside_of_the_base_path_there_is_nothing(system: System, path: str) -> None:
    system.refused(system.client().request("GET", path), 404, "EST is served under /.well-known/est")


@pytest.mark.parametrize("operation", ["serverkeygen", "fullcmc"])
@pytest.mark.parametrize("label", ["", "factory"])
def test_the_optional_operations_are_404_where_they_are_not_offered(system: System, operation: str, label: str) -> None:
    token = system.otp("wants-more")
    answer = system.client().enrol(
        make_csr(common_name="wants-more"), user="wants-more", password=token, label=label, operation=operation
    )
    assert system.refused(answer, 404, f"{operation} is not offered here")["code"] == "operation_not_offered"
    assert system.uses(token) == (0, 0)


@pytest.mark.parametrize("label", ["", "factory"])
def test_a_one_time_password_enrols_and_the_answer_holds_the_certificate_alone(system: System, label: str) -> None:
    key, token = make_key(), system.otp("otp-device")
    answer = system.client().enrol(make_csr(key, "otp-device"), user="otp-device", password=token, label=label)
    assert answer.headers["content-type"] == CERTS_ONLY
    assert answer.headers["content-transfer-encoding"] == "base64"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert max(len(line) for line in answer.body.splitlines()) == 64
    (certificate,) = answer.certificates()
    assert certificate.public_key() == key.public_key()
    certificate.verify_directly_issued_by(system.issuing_ca)
    assert system.uses(token) == (1, 0)


def test_the_user_name_of_a_one_time_password_may_be_empty_and_may_not_be_another(system: System) -> None:
    token = system.otp("nameless")
    csr = make_csr(common_name="nameless")
    system.otp("somebody-else")
    system.refused(system.client().enrol(csr, user="somebody-else", password=token), 401)
    assert system.uses(token) == (0, 0)
    assert len(system.client().enrol(csr, user="", password=token).certificates()) == 1


@pytest.mark.parametrize("user", USERS)
def test_a_user_of_the_htpasswd_file_enrols_under_its_own_name(system: System, user: str) -> None:
    answer = system.client().enrol(make_csr(common_name=user), user=user, password=USERS[user])
    assert answer.certificate().subject.rfc4514_string() == f"CN={user}"
    wrong = system.client().enrol(make_csr(common_name=user), user=user, password=USERS[user] + "x")
    assert system.refused(wrong, 401)["code"] == "not_authenticated"


def test_a_certificate_of_another_trusted_ca_enrols_its_holder(system: System) -> None:
    idevid = VENDOR.leaf("serial-4711", ["dns:serial-4711.vendor.example"])
    answer = system.client(idevid).enrol(make_csr(None, "serial-4711", ["dns:serial-4711.vendor.example"]))
    certificate = answer.certificate()
    certificate.verify_directly_issued_by(system.issuing_ca)
    serial = f"{certificate.serial_number:x}"
    assert system.rows("SELECT entity_id, authenticator FROM certificates WHERE serial_hex = ?", serial) == [
        ("serial-4711", "mtls")
    ]


@pytest.mark.parametrize("operation", ["simpleenroll", "simplereenroll"])
def test_nobody_known_is_401_with_a_basic_challenge_and_a_way_out(system: System, operation: str) -> None:
    answer = system.client().enrol(make_csr(), operation=operation)
    fact = system.refused(answer, 401, "client certificate")
    assert answer.headers["www-authenticate"].startswith('Basic realm="')
    assert "actor" not in fact


def test_another_authentication_scheme_is_answered_with_the_challenge(system: System) -> None:
    body = base64.encodebytes(make_csr())
    answer = system.client().request("POST", "simpleenroll", body, {**PKCS10, "Authorization": "Bearer abcdefghijkl"})
    system.refused(answer, 401, "authentication is required")
    assert answer.headers["www-authenticate"].startswith('Basic realm="')
