"""The plain HTTP listener against clients that mean harm: bytes that are nothing, clients that never finish."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.x509 import ocsp

from kipuka_core.testing.server import wait_until
from tests.system.status_kit import HTTP, crl_of, plain, request_about, status_of
from tests.system.system_kit import System, deploy, serving

pytestmark = pytest.mark.long
LIMITS = """idle_timeout = "1s"
header_timeout = "1s"
body_timeout = "1s"
max_connections_per_address = 6
"""
POST = {"Content-Type": "application/ocsp-request"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    deployment = deploy(tmp_path_factory.mktemp("attacked") / "deployment", server=HTTP + LIMITS)
    with serving(deployment) as running:
        yield running


def connected(site: System) -> socket.socket:
    assert site.server.http_port is not None
    return socket.create_connection(("127.0.0.1", site.server.http_port), timeout=60)


def everything_received(connection: socket.socket) -> bytes:
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionError:
        pass
    return received


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /crl/default.crl HT",
        b"GET /crl/default.crl HTTP/1.1\r\nHost: x\r\n",
        b"POST /ocsp HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n0",
        b"POST /ocsp HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
    ],
    ids=["nothing", "request-line", "headers", "body", "chunks"],
)
def test_a_client_that_does_not_go_on_is_let_go(site: System, begun: bytes) -> None:
    with connected(site) as slow:
        slow.sendall(begun)
        received = everything_received(slow)
    assert received == b"" or received.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400"))


def test_slow_clients_keep_nobody_else_from_being_served(site: System) -> None:
    held = [connected(site) for _ in range(5)]
    try:
        for each in held:
            each.sendall(b"GET /crl/def")
        assert len(crl_of(site)) >= 0
    finally:
        for each in held:
            each.close()


def test_more_connections_than_an_address_may_have_are_closed(site: System) -> None:
    def refused() -> bool:
        held = [connected(site) for _ in range(8)]
        try:
            held[-1].sendall(b"GET /crl/default.crl HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return everything_received(held[-1]) == b""
        except ConnectionError:
            return True
        finally:
            for each in held:
                each.close()

    wait_until(refused)
    wait_until(lambda: _served(site))


def _served(site: System) -> bool:
    try:
        return plain(site, "GET", "/crl/default.crl").status == 200
    except (ConnectionError, OSError):
        return False


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(100),  # a TLS handshake
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /ocsp HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        bytes(range(256)) * 10,
    ],
    ids=["tls", "http2", "long", "smuggled", "bytes"],
)
def test_what_is_no_request_gets_no_answer_but_a_refusal(site: System, sent: bytes) -> None:
    with connected(site) as odd:
        odd.sendall(sent)
        received = everything_received(odd)
    assert received == b"" or received.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505"))
    wait_until(lambda: _served(site))


def test_damaged_requests_are_answered_by_ocsp_and_the_server_stays(site: System) -> None:
    chance = random.Random(6960)
    good = request_about(site.own_ca.leaf("x").certificate, site.issuing_ca, b"n" * 16)
    for _ in range(200):
        damaged = bytearray(good)
        for _ in range(chance.randint(1, 5)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        answer = plain(site, "POST", "/ocsp", bytes(damaged[: chance.randint(0, len(damaged))]), POST)
        assert answer.status == 200
        assert ocsp.load_der_ocsp_response(answer.body).response_status.name in {
            "SUCCESSFUL",
            "MALFORMED_REQUEST",
            "UNAUTHORIZED",
        }
    assert not [line for line in site.server.log() if line["event"] == "internal error"]


def test_a_killed_admin_process_comes_back_and_numbers_go_on(site: System) -> None:
    """Also while revocations and requests for CRLs come in."""
    leaves = [site.enrolled(f"killed-{number}") for number in range(4)]
    number = crl_of(site).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    for leaf in leaves:
        killed = site.server.worker_pids()["admin"]
        revoking = threading.Thread(
            target=site.deployment.kipuka, args=("certs", "revoke", f"{leaf.certificate.serial_number:x}")
        )
        revoking.start()
        os.kill(killed, signal.SIGKILL)
        revoking.join()
        wait_until(lambda: site.server.worker_pids()["admin"] != killed)  # noqa: B023  # called in this turn
        wait_until(lambda: _served(site))
        crl = crl_of(site)
        assert leaf.certificate.serial_number in {entry.serial_number for entry in crl}
        assert status_of(site, leaf.certificate) == "REVOKED"
        later = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        assert later > number
        number = later
