"""HTTP as clients speak it: versions, framing, and bodies in the forms that devices send (rows 5 and 7)."""

from __future__ import annotations

import base64
import ssl
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from kipuka_core.testing.client import write_leaf
from kipuka_core.testing.pki import make_csr
from tests.system.system_kit import PKCS10, RawConnection, System, credentials, head

_numbers = count()
PEM_TYPE = "application/x-pem-file"


def pem(body: bytes, end: bytes = b"\n", what: bytes = b"CERTIFICATE REQUEST") -> bytes:
    lines = (b"-----BEGIN %s-----" % what, *body.split(), b"-----END %s-----" % what, b"")
    return end.join(lines)


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "one line": base64.b64encode,
    "lines": base64.encodebytes,
    "CRLF": lambda der: base64.encodebytes(der).replace(b"\n", b"\r\n"),
    "CRLF and more at the end": lambda der: base64.encodebytes(der).replace(b"\n", b"\r\n") + b"\r\n\r\n",
    "CR": lambda der: base64.encodebytes(der).replace(b"\n", b"\r"),
    "spaces and tabs": lambda der: b"\t" + base64.encodebytes(der).replace(b"\n", b" \t\n"),
    "no final newline": lambda der: base64.encodebytes(der).rstrip(b"\n"),
    "PEM": lambda der: pem(base64.encodebytes(der)),
    "PEM with CRLF": lambda der: pem(base64.encodebytes(der), b"\r\n") + b"\r\n",
    "NEW PEM": lambda der: pem(base64.encodebytes(der), what=b"NEW CERTIFICATE REQUEST"),
    "raw DER": lambda der: der,
}
TYPES = [
    "application/pkcs10",
    "Application/PKCS10",
    "application/pkcs10; charset=utf-8",
    'APPLICATION/pkcs10 ;name="a;b"',
    PEM_TYPE,
    "application/octet-stream",
    "",
    None,
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", [None, "base64", "BASE64", "binary", "quoted-printable", "nonsense; x=y"])
def test_a_body_is_read_in_every_form_whatever_its_transfer_encoding_says(
    system: System, form: str, encoding: str | None
) -> None:
    entity = f"form-{next(_numbers)}"
    headers = credentials(entity, system.otp(entity))
    if encoding is not None:
        headers["Content-Transfer-Encoding"] = encoding
    body = FORMS[form](make_csr(common_name=entity))
    assert len(system.client().request("POST", "simpleenroll", body, headers).certificates()) == 1


@pytest.mark.parametrize("media_type", TYPES)
def test_the_media_type_is_compared_without_case_and_parameters_and_may_be_missing(
    system: System, media_type: str | None
) -> None:
    entity = f"type-{next(_numbers)}"
    headers = credentials(entity, system.otp(entity))
    del headers["Content-Type"]
    if media_type is not None:
        headers["Content-Type"] = media_type
    body = base64.encodebytes(make_csr(common_name=entity))
    assert len(system.client().request("POST", "simpleenroll", body, headers).certificates()) == 1


def curl(system: System, directory: Path, *arguments: str) -> list[str]:
    """Run curl; the lines of ``-w``."""
    root = str(system.deployment.root_pem)
    command = ["curl", "-sS", "--cacert", root, "-o", str(directory / "out"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()


@pytest.mark.parametrize("tls", [("--tlsv1.2", "--tls-max", "1.2"), ("--tlsv1.3",)])
@pytest.mark.parametrize(("http", "version"), [("--http1.1", "1.1"), ("--http2", "2"), ("--http1.0", "1.1")])
def test_curl_enrols_and_renews(system: System, tmp_path: Path, http: str, version: str, tls: tuple[str, ...]) -> None:
    entity = f"curl-{next(_numbers)}"
    (tmp_path / "csr").write_bytes(base64.encodebytes(make_csr(common_name=entity)))
    common = (http, *tls, "-w", "%{http_version} %{http_code}\\n", "-H", "Content-Type: application/pkcs10")
    common = (*common, "--data-binary", f"@{tmp_path / 'csr'}")
    user = f"{entity}:{system.otp(entity)}"
    assert curl(system, tmp_path, *common, "-u", user, f"{system.server.est_url}/simpleenroll") == [f"{version} 200"]
    leaf = system.enrolled(entity)
    certificate, key = write_leaf(leaf, tmp_path)
    identity = ("--cert", str(certificate), "--key", str(key))
    assert curl(system, tmp_path, *common, *identity, f"{system.server.est_url}/simplereenroll") == [f"{version} 200"]
    assert system.issued_to(entity) == 3


def test_http_2_carries_many_requests_and_refusals_on_one_connection(system: System, tmp_path: Path) -> None:
    leaf = system.enrolled("many")
    certificate, key = write_leaf(leaf, tmp_path)
    (tmp_path / "csr").write_bytes(base64.encodebytes(make_csr(leaf.key, "many")))
    url = system.server.est_url
    post = ("-H", "Content-Type: application/pkcs10", "--data-binary", f"@{tmp_path / 'csr'}")
    common = ("--http2", "-w", "%{http_code} %{num_connects}\\n", "--cert", str(certificate), "--key", str(key), *post)
    urls: list[str] = []
    for path in ("simplereenroll", "simplereenroll", "nowhere", "serverkeygen", "simplereenroll"):
        urls += ["-o", str(tmp_path / "out"), f"{url}/{path}"]
    assert curl(system, tmp_path, *common, *urls[2:]) == ["200 1", "200 0", "404 0", "404 0", "200 0"]


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 100, 65536])
def test_a_chunked_body_is_read(system: System, size: int) -> None:
    entity = f"chunked-{next(_numbers)}"
    lines = [f"{name}: {value}" for name, value in credentials(entity, system.otp(entity)).items()]
    with RawConnection(system) as connection:
        connection.send(head("POST", "simpleenroll", *lines, "Transfer-Encoding: chunked"))
        connection.send(chunked(base64.encodebytes(make_csr(common_name=entity)), size))
        answer = connection.answer()
    assert len(answer.certificates()) == 1
    assert "transfer-encoding" not in answer.headers


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_expect_100_continue_is_answered_before_the_body_is_sent(system: System, tls: ssl.TLSVersion) -> None:
    entity = f"expects-{next(_numbers)}"
    body = base64.encodebytes(make_csr(common_name=entity))
    lines = [f"{name}: {value}" for name, value in credentials(entity, system.otp(entity)).items()]
    with RawConnection(system, tls=tls) as connection:
        connection.send(head("POST", "simpleenroll", *lines, f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert connection.interim() == 100
        connection.send(body)
        assert len(connection.answer().certificates()) == 1


def test_one_connection_serves_many_requests_of_every_kind(system: System) -> None:
    leaf = system.enrolled("kept")
    client = system.client(leaf)
    csr = make_csr(leaf.key, "kept")
    connection = client.connect()
    try:
        assert client.request("GET", "cacerts", connection=connection).status == 200
        socket = connection.sock
        for _ in range(20):
            assert len(client.enrol(csr, operation="simplereenroll", connection=connection).certificates()) == 1
            assert client.request("GET", "csrattrs", connection=connection).status == 200
            assert client.request("GET", "nowhere", connection=connection).status == 404
            assert client.request("POST", "simpleenroll", b"no", PKCS10, connection=connection).status == 400
        assert connection.sock is socket
    finally:
        connection.close()


def test_pipelined_requests_are_answered_in_their_order(system: System) -> None:
    entity = f"pipelined-{next(_numbers)}"
    body = base64.encodebytes(make_csr(common_name=entity))
    lines = [f"{name}: {value}" for name, value in credentials(entity, system.otp(entity)).items()]
    enrolment = head("POST", "simpleenroll", *lines, f"Content-Length: {len(body)}") + body
    with RawConnection(system) as connection:
        connection.send(head("GET", "cacerts") + enrolment + head("GET", "nowhere") + enrolment)
        first, second, third, fourth = (connection.answer() for _ in range(4))
    assert len(first.certificates()) == 2
    assert third.status == 404
    assert fourth.certificate() == second.certificate()
    assert system.issued_to(entity) == 1
