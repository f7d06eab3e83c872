from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from kipuka_core.edges.tls.peer import Peer
from kipuka_core.edges.tls.scope import connection_from_scope, peer_extensions
from kipuka_core.errors import CsrRefused
from kipuka_core.model.request import Connection
from kipuka_core.testing.pki import make_root

NOW = datetime.now(UTC)


def scope_of(*chain: Any, error: Any = None, version: str = "TLSv1.3", **changes: Any) -> Any:
    peer = Peer(
        chain_der=tuple(certificate.public_bytes(serialization.Encoding.DER) for certificate in chain),
        chain_error=error,
        tls_version=version,
        cipher="TLS_AES_256_GCM_SHA384",
        session_reused=False,
        channel_binding=lambda: b"bound",
    )
    scope = {
        "type": "http",
        "http_version": "1.1",
        "client": ("192.0.2.1", 1000),
        "headers": [(b"host", b"localhost"), (b"user-agent", b"libest/3.2")],
        "extensions": peer_extensions(peer, "PEM of the server"),
    }
    return scope | changes


def connected(scope: Any, now: datetime) -> Connection:
    connection = connection_from_scope(scope, now)
    assert connection is not None
    return connection


def test_a_connection_is_read_from_the_extensions_alone(site: Any) -> None:
    leaf = site.devices.leaf("device")
    connection = connected(scope_of(leaf.certificate, *leaf.chain), NOW)
    assert connection.client_chain == (leaf.certificate, *leaf.chain)
    assert connection.channel_binding() == b"bound"
    assert (connection.source_address, connection.tls_version) == ("192.0.2.1", "TLSv1.3")
    assert (connection.http_version, connection.user_agent) == ("1.1", "libest/3.2")


@pytest.mark.parametrize("shift_days", [-2, 91])
def test_a_leaf_that_is_not_valid_now_counts_no_more_on_a_kept_connection(site: Any, shift_days: int) -> None:
    leaf = site.devices.leaf("device", days=90)
    scope = scope_of(leaf.certificate, *leaf.chain)
    assert connected(scope, NOW).client_certificate == leaf.certificate
    assert connected(scope, NOW + timedelta(days=shift_days)).client_chain == ()


@pytest.mark.parametrize("position", [1, 2])
def test_a_leaf_below_a_certificate_that_has_ended_counts_no_more(position: int) -> None:
    root = make_root(days=30 if position == 2 else 2000)
    ca = root.subordinate(days=30 if position == 1 else 1000)
    scope = scope_of(ca.leaf("device", days=90).certificate, ca.certificate, root.certificate)
    assert connected(scope, NOW).client_chain
    assert connected(scope, NOW + timedelta(days=31)).client_chain == ()


def test_a_chain_with_an_error_does_not_count(site: Any) -> None:
    leaf = site.devices.leaf("device")
    scope = scope_of(leaf.certificate, *leaf.chain, error="revoked in the meantime")
    assert connected(scope, NOW).client_chain == ()


@pytest.mark.parametrize("extensions", [None, {}, {"tls": None}, {"tls": {"tls_version": 0x0302}}])
def test_without_tls_12_or_later_there_is_no_connection(extensions: Any) -> None:
    assert connection_from_scope(scope_of(extensions=extensions), NOW) is None


def test_another_servers_extension_without_binding_refuses_a_bound_request() -> None:
    scope = scope_of()
    del scope["extensions"]["kipuka.channel_binding"]
    with pytest.raises(CsrRefused) as caught:
        connected(scope, NOW).channel_binding()
    assert caught.value.code == "channel_binding_unavailable"


def test_an_ipv4_client_of_a_dual_stack_socket_has_its_ipv4_address() -> None:
    assert connected(scope_of(client=("::ffff:192.0.2.9", 1)), NOW).source_address == "192.0.2.9"
    assert connected(scope_of(client=("2001:db8::1", 1)), NOW).source_address == "2001:db8::1"
    assert connected(scope_of(client=None), NOW).source_address == ""


def test_a_missing_user_agent_is_none_and_the_servers_certificate_is_shown() -> None:
    scope = scope_of(headers=[])
    assert connected(scope, NOW).user_agent is None
    assert scope["extensions"]["tls"]["server_cert"] == "PEM of the server"


def test_the_chain_is_parsed_once_and_not_per_request(site: Any) -> None:
    leaf = site.devices.leaf("device")
    scope = scope_of(leaf.certificate, *leaf.chain)
    first, second = (connected(scope, NOW).client_chain for _ in range(2))
    assert all(one is other for one, other in zip(first, second, strict=True))
