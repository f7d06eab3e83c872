"""Where the two listeners listen, and what an operator sees of an address that cannot be had."""

from __future__ import annotations

import socket
import ssl
from contextlib import closing
from pathlib import Path

import pytest

from kipuka_core.testing.server import Deployment, RunningServer, make_deployment, running_server
from tests.startup.starting import check, serve

pytestmark = pytest.mark.long

KEYS = ("listen", "admin_listen")


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return make_deployment(tmp_path)


def listen(deployment: Deployment, **addresses: str) -> None:
    """Put addresses in the place of those of ``kipuka.toml``."""
    lines = []
    for line in deployment.toml.read_text(encoding="utf-8").splitlines():
        key = line.partition(" = ")[0]
        lines.append(f'{key} = "{addresses[key]}"' if key in addresses else line)
    deployment.toml.write_text("\n".join(lines), encoding="utf-8")


def answers(deployment: Deployment, host: str, port: int, path: str) -> bool:
    """Whether something with the server's certificate answers there with 200."""
    context = ssl.create_default_context(cafile=str(deployment.root_pem))
    try:
        plain = socket.create_connection((host, port), timeout=60)
    except ConnectionRefusedError:
        return False
    with closing(context.wrap_socket(plain, server_hostname="localhost")) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return connection.recv(12) == b"HTTP/1.1 200"


def est_answers(server: RunningServer, host: str) -> bool:
    return answers(server.deployment, host, server.est_port, "/.well-known/est/cacerts")


def admin_answers(server: RunningServer, host: str) -> bool:
    return answers(server.deployment, host, server.admin_port, "/admin/health/live")


@pytest.mark.parametrize(
    ("address", "reached", "not_reached"),
    [
        ("127.0.0.2:0", ["127.0.0.2"], ["127.0.0.1", "::1"]),
        ("localhost:0", ["127.0.0.1"], ["127.0.0.2"]),
        ("[::1]:0", ["::1"], ["127.0.0.1"]),
        ("0.0.0.0:0", ["127.0.0.1", "127.0.0.2"], ["::1"]),
        ("[::]:0", ["::1", "127.0.0.1", "127.0.0.2"], []),
    ],
)
def test_each_listener_is_where_its_address_says_and_nowhere_else(
    deployment: Deployment, address: str, reached: list[str], not_reached: list[str]
) -> None:
    for key, asked, other in (("listen", est_answers, admin_answers), ("admin_listen", admin_answers, est_answers)):
        addresses = dict.fromkeys(KEYS, "127.0.0.1:0") | {key: address}
        listen(deployment, **addresses)
        with running_server(deployment) as server:
            assert {host: asked(server, host) for host in (*reached, *not_reached)} == {
                **dict.fromkeys(reached, True),
                **dict.fromkeys(not_reached, False),
            }
            assert other(server, "127.0.0.1")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_port_in_use_is_one_line(deployment: Deployment, key: str, host: str) -> None:
    family = socket.AF_INET6 if host == "[::1]" else socket.AF_INET
    with socket.create_server((host.strip("[]"), 0), family=family) as other:
        address = f"{host}:{other.getsockname()[1]}"
        listen(deployment, **{key: address})
        assert serve(deployment).only_line() == f"server.{key}: {address} is in use by another program"


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("address", ["192.0.2.1:0", "[2001:db8::1]:0"])
def test_an_address_of_another_host_is_one_line(deployment: Deployment, key: str, address: str) -> None:
    listen(deployment, **{key: address})
    assert serve(deployment).only_line() == f"server.{key}: {address} is not an address of this host"


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("8443", "must be host:port"),
        ("::1:8443", "must be host:port"),
        ("127.0.0.1:65536", "must be host:port"),
        ("[127.0.0.1:8443", "must be host:port"),
        ("[zz]:8443", "must be host:port"),
        ("https://localhost:8443", "must be host:port"),
    ],
)
def test_what_is_no_address_is_one_line(deployment: Deployment, key: str, address: str, says: str) -> None:
    listen(deployment, **{key: address})
    line = check(deployment).only_line()
    assert line.startswith(f"server.{key}: ")
    assert says in line


@pytest.mark.parametrize(("est", "admin"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")])
def test_two_listeners_on_one_port_are_one_line(deployment: Deployment, est: str, admin: str) -> None:
    listen(deployment, listen=f"{est}:18443", admin_listen=f"{admin}:18443")
    line = check(deployment).only_line()
    assert line == f"server.admin_listen: {admin}:18443 is taken by server.listen ({est}:18443); use another port"
