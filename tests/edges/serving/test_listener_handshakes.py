"""Every failed handshake is seen with its address and its cause: each cause by a client that does just that."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.edges.serving.handshake import HandshakeCause
from kipuka_core.testing.pki import Leaf, make_root

BOTH = pytest.mark.parametrize("version", ["1.2", "1.3"])
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\x10\0\x20\xfb"


def failure_of(run: Any, kit: Any, settings: Any, client: Any, **options: Any) -> Any:
    """What the listener reports of one client, a function of the port that may fail."""

    async def scenario() -> Any:
        async with kit.serving(settings, **options) as served:
            with contextlib.suppress(OSError, IndexError):
                await asyncio.to_thread(client, served.port)
            failure = await served.failure()
            await served.until(lambda: served.listener.counters.open == 0)
            # And the listener goes on serving.
            assert served.listener.counters.handshakes_failed == 1
            return failure

    failure = run(scenario())
    assert failure.address == "127.0.0.1"
    return failure


def says(data: bytes) -> Any:
    """A client that sends these bytes and waits for the end."""

    def client(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            plain.sendall(data)
            plain.recv(100)

    return client


def client_hello(context: ssl.SSLContext) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        half.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "CONNECT", "PRI"])
def test_plain_http_on_the_tls_port(run: Any, site: Any, kit: Any, method: str) -> None:
    client = says(f"{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert failure_of(run, kit, site.server_tls(), client).cause == "plain_http"


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.2\r\n", bytes(30), b"get / HTTP/1.1\r\n\r\n"])
def test_something_else_on_the_tls_port(run: Any, site: Any, kit: Any, data: bytes) -> None:
    assert failure_of(run, kit, site.server_tls(), says(data)).cause == "not_tls"


@pytest.mark.parametrize("data", [PROXY_V2, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"])
def test_a_proxy_protocol_header_from_somebody_who_may_send_none(run: Any, site: Any, kit: Any, data: bytes) -> None:
    assert failure_of(run, kit, site.server_tls(), says(data)).cause == "proxy_header_not_allowed"


def test_such_a_header_is_recognised_when_it_comes_byte_by_byte(run: Any, site: Any, kit: Any) -> None:
    def client(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number in PROXY_V2:
                plain.sendall(bytes([number]))
            plain.recv(100)

    assert failure_of(run, kit, site.server_tls(), client).cause == "proxy_header_not_allowed"


def old_context() -> Any:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def test_tls_1_1(run: Any, site: Any, kit: Any) -> None:
    context = old_context()
    failure = failure_of(run, kit, site.server_tls(), lambda port: kit.get(port, context))
    assert failure.cause == "protocol_version"


def test_tls_1_2_where_1_3_is_the_least(run: Any, site: Any, kit: Any) -> None:
    context = site.client_context(None, "1.2")
    settings = site.server_tls(min_version="1.3")
    assert failure_of(run, kit, settings, lambda port: kit.get(port, context)).cause == "protocol_version"


@pytest.mark.parametrize("data", [b"\x80\x2e\1\0\2\0\x15\0\0\0\x10" + bytes(37), b"\x16\x09\1\0\5" + bytes(5)])
def test_ssl_2_and_a_record_of_no_known_version(run: Any, site: Any, kit: Any, data: bytes) -> None:
    assert failure_of(run, kit, site.server_tls(), says(data)).cause == "protocol_version"


def test_no_suite_in_common(run: Any, site: Any, kit: Any) -> None:
    context = site.client_context(None, "1.2")
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
    failure = failure_of(run, kit, site.server_tls(), lambda port: kit.get(port, context))
    assert failure.cause == "no_shared_cipher"


@BOTH
def test_no_signature_algorithm_in_common(run: Any, site: Any, kit: Any, version: str) -> None:
    """The server has a P-256 key; the client's hello says RSA-PSS with SHA-256 wherever it said ECDSA or another."""
    hello = bytearray(client_hello(site.client_context(None, version)))
    at = hello.index(b"\0\x0d", 43)
    while int.from_bytes(hello[at + 2 : at + 4]) != int.from_bytes(hello[at + 4 : at + 6]) + 2:
        at = hello.index(b"\0\x0d", at + 1)
    size = int.from_bytes(hello[at + 4 : at + 6])
    hello[at + 6 : at + 6 + size] = b"\x08\x04" * (size // 2)
    failure = failure_of(run, kit, site.server_tls(), says(bytes(hello)))
    assert failure.cause == "no_shared_cipher"


@BOTH
def test_a_client_that_trusts_another_ca(run: Any, site: Any, kit: Any, version: str, tmp_path: Path) -> None:
    context = kit.Site(tmp_path, make_root("Elsewhere")).client_context(None, version)
    failure = failure_of(run, kit, site.server_tls(), lambda port: kit.get(port, context))
    assert (failure.cause, failure.detail) == ("server_certificate_rejected", "TLSV1_ALERT_UNKNOWN_CA")


@BOTH
def test_a_client_that_came_to_another_name(run: Any, site: Any, kit: Any, version: str) -> None:
    def client(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            site.client_context(None, version).wrap_socket(plain, server_hostname="elsewhere.example")

    assert failure_of(run, kit, site.server_tls(), client).cause == "server_certificate_rejected"


@pytest.mark.parametrize(
    ("alert", "cause"),
    [
        (42, "server_certificate_rejected"),  # bad_certificate
        (43, "server_certificate_rejected"),  # unsupported_certificate
        (44, "server_certificate_rejected"),  # certificate_revoked
        (45, "server_certificate_rejected"),  # certificate_expired
        (46, "server_certificate_rejected"),  # certificate_unknown
        (49, "server_certificate_rejected"),  # access_denied
        (112, "server_certificate_rejected"),  # unrecognized_name
        (113, "server_certificate_rejected"),  # bad_certificate_status_response
        (70, "protocol_version"),
        (86, "protocol_version"),  # inappropriate_fallback
        (71, "no_shared_cipher"),  # insufficient_security
        (90, "client_closed"),  # user_canceled
        (0, "client_closed"),  # close_notify
        (80, "other"),  # internal_error
        (120, "other"),  # no_application_protocol, for which OpenSSL 3.0 has no word
    ],
)
def test_what_a_client_dislikes_comes_as_an_alert(run: Any, site: Any, kit: Any, alert: int, cause: str) -> None:
    """RFC 5246 7.2: a client of TLS 1.2 sends it in clear when it has read the server's flight."""

    def client(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            plain.sendall(client_hello(site.client_context(None, "1.2")))
            plain.recv(65536)
            plain.sendall(bytes([21, 3, 3, 0, 2, 1 if alert == 0 else 2, alert]))
            plain.recv(100)

    assert failure_of(run, kit, site.server_tls(), client).cause == cause


def tampered(leaf: Leaf) -> Leaf:
    der = bytearray(leaf.certificate.public_bytes(serialization.Encoding.DER))
    der[-5] ^= 1
    return replace(leaf, certificate=x509.load_der_x509_certificate(bytes(der)))


CLIENTS: dict[str, tuple[Any, str]] = {
    "of an unknown CA": (lambda root: make_root("Stranger CA").leaf("stranger"), "unknown_ca"),
    "self-signed": (lambda root: Leaf((own := make_root("Myself")).certificate, own.key), "unknown_ca"),
    "without its intermediate": (lambda root: replace(root.subordinate().leaf("deep"), chain=()), "unknown_ca"),
    "expired": (
        lambda root: root.leaf("late", days=1, not_before=datetime(2020, 1, 1, tzinfo=UTC)),
        "certificate_expired",
    ),
    "not yet valid": (
        lambda root: root.leaf("early", not_before=datetime.now(UTC) + timedelta(days=2)),
        "certificate_not_yet_valid",
    ),
    "for servers": (
        lambda root: root.leaf("server", eku=[ExtendedKeyUsageOID.SERVER_AUTH]),
        "client_certificate_rejected",
    ),
    "with another signature": (lambda root: tampered(root.leaf("forged")), "client_certificate_rejected"),
    "with a weak key": (lambda root: root.leaf("weak", key_type="rsa1024"), "client_certificate_rejected"),
}


@BOTH
@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize("certificate", CLIENTS)
def test_a_client_certificate(run: Any, site: Any, kit: Any, certificate: str, mode: str, version: str) -> None:
    make, cause = CLIENTS[certificate]
    context = site.client_context(None, version)
    context.set_ciphers("DEFAULT@SECLEVEL=0")  # or OpenSSL would not take the weak key
    context.load_cert_chain(*kit.write_identity(site.directory, make(site.root)))
    failure = failure_of(run, kit, site.server_tls(client_auth=mode), lambda port: kit.get(port, context))
    assert failure.cause == cause
    assert failure.detail


@BOTH
def test_no_client_certificate_in_required_mode(run: Any, site: Any, kit: Any, version: str) -> None:
    context = site.client_context(None, version)
    settings = site.server_tls(client_auth="required")
    assert failure_of(run, kit, settings, lambda port: kit.get(port, context)).cause == "no_client_certificate"


@BOTH
@pytest.mark.parametrize("code", ["certificate_revoked", "revocation_unknown"])
def test_a_client_that_is_not_admitted(run: Any, site: Any, kit: Any, code: str, version: str) -> None:
    class Refused(ssl.SSLError):
        code = ""

    async def refuse(extensions: Any) -> None:
        error = Refused("no")
        error.code = code
        raise error

    context = site.client_context(site.devices.leaf("gone"), version)
    failure = failure_of(run, kit, site.server_tls(), lambda port: kit.get(port, context), admit=refuse)
    assert failure.cause == code


@BOTH
@pytest.mark.parametrize(("later", "cause"), [(timedelta(days=11), "certificate_expired"), (None, "unknown_ca")])
def test_a_resumed_session_whose_certificate_does_not_count_any_more(
    run: Any, site: Any, kit: Any, later: timedelta | None, cause: str, version: str
) -> None:
    context = site.client_context(site.devices.leaf("device", days=10), version)
    now = [datetime.now(UTC)]

    async def scenario() -> Any:
        async with kit.serving(site.server_tls(client_auth="required"), clock=lambda: now[0]) as served:
            session = (await kit.fetch(served.port, context)).session
            if later is None:
                served.reader.trust([make_root("Another CA").certificate])
            else:
                now[0] += later
            with pytest.raises((OSError, IndexError)):
                await kit.fetch(served.port, context, session)
            return (await served.failure()).cause

    assert run(scenario()) == cause


def test_a_client_that_says_nothing(run: Any, site: Any, kit: Any) -> None:
    failure = failure_of(run, kit, site.server_tls(), says(b""), handshake_timeout_seconds=0.1)
    assert failure.cause == "handshake_timeout"


@BOTH
def test_a_client_that_stops_after_its_hello(run: Any, site: Any, kit: Any, version: str) -> None:
    def client(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            plain.sendall(client_hello(site.client_context(None, version)))
            while plain.recv(65536):
                pass

    failure = failure_of(run, kit, site.server_tls(), client, handshake_timeout_seconds=0.1)
    assert failure.cause == "handshake_timeout"


@BOTH
@pytest.mark.parametrize("length", [None, 50])
def test_a_client_that_closes_in_the_middle(run: Any, site: Any, kit: Any, length: int | None, version: str) -> None:
    def client(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(client_hello(site.client_context(None, version))[:length])
            if length is None:
                plain.recv(10)

    assert failure_of(run, kit, site.server_tls(), client).cause == "client_closed"


def test_a_client_that_resets(run: Any, site: Any, kit: Any) -> None:
    def client(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    assert failure_of(run, kit, site.server_tls(), client).cause == "client_closed"


@BOTH
def test_the_client_is_told_by_a_tls_alert(run: Any, site: Any, kit: Any, version: str) -> None:
    """RFC 8446 6.2: the party that fails a handshake sends the alert before it closes."""
    context = site.client_context(None, version)

    async def scenario() -> Any:
        async with kit.serving(site.server_tls(client_auth="required")) as served:
            with pytest.raises(ssl.SSLError) as caught:
                await kit.fetch(served.port, context)
            return caught.value.reason

    assert run(scenario()) in ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE")


def test_handshakes_that_stall_delay_nobody(run: Any, site: Any, kit: Any) -> None:
    hello = client_hello(site.client_context())

    async def scenario() -> Any:
        async with kit.serving(site.server_tls(), handshake_timeout_seconds=600) as served:
            with contextlib.ExitStack() as stalled:
                for number in range(60):
                    plain = stalled.enter_context(socket.create_connection(("127.0.0.1", served.port)))
                    plain.sendall((b"", hello[:100], hello)[number % 3])
                await served.until(lambda: served.listener.counters.open == 60)
                statuses = [(await kit.fetch(served.port, site.client_context())).status for _ in range(10)]
                await served.until(lambda: served.listener.counters.open == 60)
            return statuses

    assert run(scenario()) == [200] * 10


def test_every_cause_is_explained_to_the_operator() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "tls.md").read_text(encoding="utf-8")
    explained = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and line.count("|") == 4]
    assert set(HandshakeCause) <= set(explained)
    assert all(cause.meaning for cause in HandshakeCause)
