"""Linking the CSR to its connection: tls-unique on TLS 1.2, the RFC 9266 exporter on TLS 1.3 (row 13)."""

from __future__ import annotations

import base64
import re
import ssl
import subprocess
from itertools import count

import pytest

from kipuka_core.edges.tls.exporter import export_channel_binding
from kipuka_core.testing.client import Answer
from kipuka_core.testing.pki import make_csr
from tests.system.system_kit import System, credentials, head

_numbers = count()
TLS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def binding_of(connection: ssl.SSLSocket) -> bytes:
    if connection.version() == "TLSv1.3":
        return base64.b64encode(export_channel_binding(connection))  # type: ignore[arg-type]  # has the same inside
    value = connection.get_channel_binding("tls-unique")
    assert value
    return base64.b64encode(value)


def enrol(
    system: System, tls: ssl.TLSVersion, label: str, *, binding: bytes | None = None, right: bool = False
) -> tuple[Answer, str]:
    """Enrol with a challengePassword: the right one of this connection, or the given one, or none."""
    entity = f"linked-{next(_numbers)}"
    token, client = system.otp(entity), system.client(tls=tls)
    connection = client.connect()
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        value = binding_of(connection.sock) if right else binding
        csr = make_csr(common_name=entity, challenge_password=value)
        return client.enrol(csr, user=entity, password=token, label=label, connection=connection), token
    finally:
        connection.close()


@pytest.mark.parametrize("label", ["", "bound", "unbound"])
@pytest.mark.parametrize("tls", TLS)
def test_the_right_binding_is_accepted_in_every_mode(system: System, tls: ssl.TLSVersion, label: str) -> None:
    assert len(enrol(system, tls, label, right=True)[0].certificates()) == 1


@pytest.mark.parametrize("binding", [base64.b64encode(b"\x01" * 12), base64.b64encode(bytes(32)), b"shared-secret"])
@pytest.mark.parametrize("label", ["", "bound"])
@pytest.mark.parametrize("tls", TLS)
def test_a_wrong_binding_is_400_unless_the_label_leaves_it_alone(
    system: System, tls: ssl.TLSVersion, label: str, binding: bytes
) -> None:
    answer, token = enrol(system, tls, label, binding=binding)
    assert system.refused(answer, 400, "channel binding")["code"] == "channel_binding_mismatch"
    assert system.uses(token) == (0, 0)
    assert len(enrol(system, tls, "unbound", binding=binding)[0].certificates()) == 1


@pytest.mark.parametrize("tls", TLS)
def test_an_absent_binding_is_400_only_where_it_is_required(system: System, tls: ssl.TLSVersion) -> None:
    assert len(enrol(system, tls, "")[0].certificates()) == 1
    assert len(enrol(system, tls, "unbound")[0].certificates()) == 1
    answer, token = enrol(system, tls, "bound")
    assert system.refused(answer, 400, "challengePassword")["code"] == "channel_binding_required"
    assert system.uses(token) == (0, 0)


@pytest.mark.parametrize("tls", TLS)
def test_the_binding_of_another_connection_is_wrong(system: System, tls: ssl.TLSVersion) -> None:
    connection = system.client(tls=tls).connect()
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        answer, _ = enrol(system, tls, "bound", binding=binding_of(connection.sock))
    finally:
        connection.close()
    assert system.refused(answer, 400)["code"] == "channel_binding_mismatch"


def test_tls_unique_of_a_tls_1_3_connection_is_no_binding(system: System) -> None:
    entity = "meaningless"
    token, client = system.otp(entity), system.client(tls=ssl.TLSVersion.TLSv1_3)
    connection = client.connect()
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        value = connection.sock.get_channel_binding("tls-unique")
        assert value
        csr = make_csr(common_name=entity, challenge_password=base64.b64encode(value))
        answer = client.enrol(csr, user=entity, password=token, connection=connection)
    finally:
        connection.close()
    assert system.refused(answer, 400)["code"] == "channel_binding_mismatch"


@pytest.mark.parametrize("tls", TLS)
def test_the_binding_is_verified_on_a_renewal_too(system: System, tls: ssl.TLSVersion) -> None:
    leaf = system.enrolled("linked-renewal")
    client = system.client(leaf, tls=tls)
    wrong = make_csr(leaf.key, "linked-renewal", challenge_password=b"AAAA")
    assert system.refused(client.reenrol(wrong), 400)["code"] == "channel_binding_mismatch"
    connection = client.connect()
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        right = make_csr(leaf.key, "linked-renewal", challenge_password=binding_of(connection.sock))
        for _ in range(2):  # one connection, one binding, for all of its requests
            assert len(client.enrol(right, operation="simplereenroll", connection=connection).certificates()) == 1
    finally:
        connection.close()


def test_openssl_exports_the_value_that_the_server_expects(system: System) -> None:
    token = system.otp("by-openssl")
    authorization = credentials("by-openssl", token)["Authorization"]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{system.server.est_port}", "-tls1_3", "-ign_eof"]
    command += ["-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        assert client.stdin
        assert client.stdout
        material = next(
            match for line in client.stdout if (match := re.search(rb"Keying material: ([0-9A-F]{64})", line))
        )
        value = base64.b64encode(bytes.fromhex(material[1].decode()))
        body = base64.b64encode(make_csr(common_name="by-openssl", challenge_password=value))
        lines = ("Content-Type: application/pkcs10", f"Authorization: {authorization}", f"Content-Length: {len(body)}")
        client.stdin.write(head("POST", "bound/simpleenroll", *lines, "Connection: close") + body)
        client.stdin.flush()
        statuses = [line for line in client.stdout if line.startswith(b"HTTP/1.1 ")]
    assert statuses == [b"HTTP/1.1 200 \r\n"]
    assert system.issued_to("by-openssl") == 1
