"""A server behind load balancers: whose address is in the audit trail, and whom lockouts and refusals mean."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from kipuka_core.testing.client import basic
from kipuka_core.testing.pki import make_csr
from tests.system.system_kit import System, deploy, serving

BALANCER, SOMEBODY = "127.0.0.1", "127.0.0.66"


def header(source: str) -> bytes:
    block = IPv4Address(source).packed + IPv4Address("192.0.2.9").packed + struct.pack("!HH", 4711, 8443)
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(block)) + block


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("behind") / "deployment"
    otp = "[auth.otp]\naddress_failures = 3\nmax_failures = 100\n"
    with serving(deploy(directory, otp, server=f'proxy_protocol_from = ["{BALANCER}"]')) as running:
        yield running


@contextlib.contextmanager
def connected(port: int, root_pem: str, data: bytes, *, by: str = BALANCER) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=root_pem)
    plain = socket.create_connection(("127.0.0.1", port), 60, (by, 0))
    # Wrapped before anything can go wrong: CPython leaves a socket open that is reset while it is being wrapped.
    with context.wrap_socket(plain, server_hostname="localhost", do_handshake_on_connect=False) as client:
        socket.socket.sendall(client, data)  # in clear
        client.do_handshake()
        yield client


def enrol(system: System, source: str, name: str, password: str) -> int:
    """The status of one enrolment by a client of the balancer."""
    body = base64.encodebytes(make_csr(common_name=name))
    request = (
        "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: {basic(name, password)}\r\n"
        f"Content-Type: application/pkcs10\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with connected(system.server.est_port, str(system.deployment.root_pem), header(source)) as client:
        client.sendall(request.encode() + body)
        return int(b"".join(iter(lambda: client.recv(65536), b"")).split()[1])


def test_the_audit_trail_has_the_client_s_address(behind: System) -> None:
    assert enrol(behind, "192.0.2.1", "device", behind.otp("device")) == 200
    (fact,) = [fact for fact in behind.audit() if fact["event"] == "certificate_issued"]
    assert fact["source_address"] == "192.0.2.1"


def test_a_lockout_is_the_client_s_and_not_the_balancer_s(behind: System) -> None:
    token = behind.otp("good")
    statuses = [enrol(behind, "192.0.2.66", f"guess-{number}", "wrong") for number in range(6)]
    assert statuses[-1] == 429
    assert enrol(behind, "192.0.2.66", "good", token) == 429
    assert enrol(behind, "192.0.2.2", "good", token) == 200


@pytest.mark.parametrize(
    ("data", "by", "cause"),
    [
        (header("127.0.0.1"), SOMEBODY, "proxy_header_not_allowed"),
        (b"", BALANCER, "proxy_header_missing"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", BALANCER, "proxy_header_malformed"),
    ],
)
def test_who_is_refused_gets_no_connection(behind: System, data: bytes, by: str, cause: str) -> None:
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        connected(behind.server.est_port, str(behind.deployment.root_pem), data, by=by),
    ):
        pass
    (line,) = behind.server.wait_for_log(lambda line: line.get("cause") == cause)
    assert (line["event"], line["listener"], line["source_address"]) == ("handshake_failed", "est", by)


def test_somebody_without_a_header_is_served_as_himself(behind: System) -> None:
    with connected(behind.server.est_port, str(behind.deployment.root_pem), b"", by=SOMEBODY) as client:
        client.sendall(b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_the_admin_listener_speaks_no_proxy_protocol(behind: System) -> None:
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        connected(behind.server.admin_port, str(behind.deployment.root_pem), header("192.0.2.1")),
    ):
        pass
    (line,) = behind.server.wait_for_log(lambda line: "cause" in line and line["listener"] == "admin")
    assert line["cause"] == "proxy_header_not_allowed"
