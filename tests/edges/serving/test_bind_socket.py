from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from kipuka_core.edges.serving.listener import Listener, ListenerLimits
from kipuka_core.edges.serving.sockets import bind_socket
from kipuka_core.errors import ConfigurationError


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0", "localhost:0"])
def test_an_address_is_bound_but_does_not_listen_yet(address: str) -> None:
    with bind_socket(address) as bound:
        assert bound.getsockname()[1] > 0
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
        host = "::1" if bound.family == socket.AF_INET6 else "127.0.0.1"
        with socket.socket(bound.family) as client, pytest.raises(ConnectionRefusedError):
            client.connect((host, bound.getsockname()[1]))


@pytest.mark.parametrize(
    "address", ["8443", "127.0.0.1", "127.0.0.1:", "::1:8443", "127.0.0.1:70000", "a:b", "", "[::1]"]
)
def test_a_malformed_address_shows_how_to_write_one(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r'like "0\.0\.0\.0:8443"'):
        bind_socket(address, "server.listen")


def test_a_port_in_use_is_one_line_with_the_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            bind_socket(f"127.0.0.1:{port}", "server.listen")
    assert str(caught.value) == f"server.listen: 127.0.0.1:{port} is in use by another program"


def test_an_address_of_another_host_is_one_line() -> None:
    with pytest.raises(ConfigurationError, match="is not an address of this host"):
        bind_socket("192.0.2.1:0")


def test_a_name_that_does_not_resolve_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)  # no test asks a name server
    with pytest.raises(ConfigurationError, match=r'"no\.such" is neither'):
        bind_socket("no.such:0")


def test_a_missing_permission_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidden(socket.socket):
        def bind(self, _: object) -> None:
            raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Forbidden)  # the tests may run as root
    with pytest.raises(ConfigurationError, match="CAP_NET_BIND_SERVICE"):
        bind_socket("127.0.0.1:443")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_a_port_taken_between_bind_and_listen_is_the_same_line(host: str) -> None:
    with bind_socket(f"{host}:0") as first:
        address = f"{host}:{first.getsockname()[1]}"
        with bind_socket(address) as second:
            first.listen()
            listener = Listener(lambda *_: None, second, limits=ListenerLimits(), where="server.admin_listen")
            with pytest.raises(ConfigurationError) as caught:
                listener.start()
    assert str(caught.value) == f"server.admin_listen: {address} is in use by another program"


def test_a_name_of_both_families_is_bound_to_its_ipv4_address(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    found = [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", target) for family, target in both]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)  # what localhost is differs between hosts
    with bind_socket("localhost:0") as bound:
        assert bound.getsockname()[0] == "127.0.0.1"
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found[:1])
    with bind_socket("localhost:0") as bound:
        assert bound.getsockname()[0] == "::1"
