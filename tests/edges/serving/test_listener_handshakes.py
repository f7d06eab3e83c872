"""Every failed handshake is seen with its address and its cause."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from kipuka_core.testing.pki import make_root


def failure_of(run: Any, kit: Any, settings: Any, client: Any, **limits: Any) -> Any:
    """What the listener reports of one client, a function of the port that may fail."""

    async def scenario() -> Any:
        async with kit.serving(settings, **limits) as served:
            with contextlib.suppress(OSError, IndexError):
                await asyncio.to_thread(client, served.port)
            failure = await served.failure()
            await served.until(lambda: served.listener.counters.open == 0)
            # And the listener goes on serving.
            assert served.listener.counters.handshakes_failed == 1
            return failure

    return run(scenario())


def test_plain_http_on_the_tls_port(run: Any, site: Any, kit: Any) -> None:
    def client(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            plain.recv(100)

    failure = failure_of(run, kit, site.server_tls(), client)
    assert (failure.address, failure.cause) == ("127.0.0.1", "plain_http")


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


def test_no_suite_in_common(run: Any, site: Any, kit: Any) -> None:
    context = site.client_context(None, "1.2")
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
    failure = failure_of(run, kit, site.server_tls(), lambda port: kit.get(port, context))
    assert failure.cause == "no_shared_cipher"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_client_that_trusts_another_ca(run: Any, site: Any, kit: Any, version: str, tmp_path: Path) -> None:
    context = kit.Site(tmp_path, make_root("Elsewhere")).client_context(None, version)
    failure = failure_of(run, kit, site.server_tls(), lambda port: kit.get(port, context))
    assert (failure.cause, failure.detail) == ("server_certificate_rejected", "TLSV1_ALERT_UNKNOWN_CA")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("mode", ["optional", "required"])
def test_a_client_certificate_of_an_unknown_ca(run: Any, site: Any, kit: Any, version: str, mode: str) -> None:
    stranger = make_root("Stranger CA").leaf("stranger")
    context = site.client_context(stranger, version)
    failure = failure_of(run, kit, site.server_tls(client_auth=mode), lambda port: kit.get(port, context))
    assert failure.cause == "client_certificate_rejected"
    assert "issuer" in failure.detail


def test_an_expired_client_certificate(run: Any, site: Any, kit: Any) -> None:
    context = site.client_context(site.root.leaf("late", days=1, not_before=kit.datetime(2020, 1, 1, tzinfo=kit.UTC)))
    failure = failure_of(run, kit, site.server_tls(), lambda port: kit.get(port, context))
    assert (failure.cause, failure.detail) == ("client_certificate_rejected", "certificate has expired")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_no_client_certificate_in_required_mode(run: Any, site: Any, kit: Any, version: str) -> None:
    context = site.client_context(None, version)
    settings = site.server_tls(client_auth="required")
    assert failure_of(run, kit, settings, lambda port: kit.get(port, context)).cause == "no_client_certificate"


def test_a_client_that_says_nothing(run: Any, site: Any, kit: Any) -> None:
    def client(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.settimeout(10)
            assert plain.recv(1) == b""

    failure = failure_of(run, kit, site.server_tls(), client, handshake_timeout_seconds=0.1)
    assert failure.cause == "timed_out"


def test_a_client_that_closes_in_the_middle(run: Any, site: Any, kit: Any) -> None:
    def client(port: int) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        half = site.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            half.do_handshake()
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(outgoing.read())
            plain.recv(10)

    assert failure_of(run, kit, site.server_tls(), client).cause == "client_closed"


def test_a_client_that_resets(run: Any, site: Any, kit: Any) -> None:
    def client(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    assert failure_of(run, kit, site.server_tls(), client).cause == "client_closed"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_client_is_told_by_a_tls_alert(run: Any, site: Any, kit: Any, version: str) -> None:
    """RFC 8446 6.2: the party that fails a handshake sends the alert before it closes."""
    context = site.client_context(None, version)

    async def scenario() -> Any:
        async with kit.serving(site.server_tls(client_auth="required")) as served:
            with pytest.raises(ssl.SSLError) as caught:
                await kit.fetch(served.port, context)
            return caught.value.reason

    assert run(scenario()) in ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE")
