"""Every limit of ``[server]`` on connections, seen from outside: the server with the key set beside one without it."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from kipuka_core.testing.server import wait_until
from tests.system.system_kit import System, deploy, head, serving

pytestmark = pytest.mark.long

TIMEOUTS = ("handshake_timeout", "header_timeout", "body_timeout", "idle_timeout")


def timeouts(**short: str) -> str:
    """Every timeout an hour, except those given: no default is left that could do a key's work."""
    values = dict.fromkeys((*TIMEOUTS, "shutdown_timeout"), "1h") | short
    return "".join(f'{key} = "{value}"\n' for key, value in values.items())


@contextlib.contextmanager
def plain(system: System, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", system.server.est_port), 60, (source, 0)) as connection:
        yield connection


@contextlib.contextmanager
def secured(system: System, source: str = "127.0.0.1") -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=str(system.deployment.root_pem))
    with plain(system, source) as connection, context.wrap_socket(connection, server_hostname="localhost") as client:
        yield client


def read_answer(client: socket.socket) -> int:
    """Read one whole answer; its status, or 0 where the server closed instead."""
    with client.makefile("rb") as file:
        status_line = file.readline()
        length = 0
        while (line := file.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        file.read(length)
    return int(status_line.split()[1]) if status_line else 0


def is_open(connection: socket.socket) -> bool:
    """Whether the server has not closed, and has not said anything either; session tickets do not count."""
    connection.setblocking(False)
    try:
        connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    return False


@contextlib.contextmanager
def stalled(system: System, key: str) -> Iterator[socket.socket]:
    """A connection that has come as far as the timeout of this name, and does no more."""
    if key == "handshake_timeout":
        with plain(system) as connection:
            yield connection
        return
    with secured(system) as client:
        if key == "header_timeout":
            client.sendall(b"GET /.well-known/est/cacerts HTTP/1.1\r\n")
        elif key == "body_timeout":
            client.sendall(head("POST", "simpleenroll", "Content-Type: application/pkcs10", "Content-Length: 9") + b"x")
        else:
            client.sendall(head("GET", "cacerts"))
            assert read_answer(client) == 200
        yield client


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("patient") / "deployment"
    with serving(deploy(directory, server=timeouts())) as running:
        yield running


@pytest.mark.parametrize("key", TIMEOUTS)
def test_a_timeout_ends_what_it_is_for_and_nothing_else(patient: System, tmp_path: Path, key: str) -> None:
    """Opened earlier, where the key is an hour, a connection that does the same outlives it, and so do the others."""
    with (
        serving(deploy(tmp_path / "deployment", server=timeouts(**{key: "1s"}))) as hasty,
        stalled(patient, key) as kept,
        contextlib.ExitStack() as others,
    ):
        beside = {other: others.enter_context(stalled(hasty, other)) for other in TIMEOUTS if other != key}
        with stalled(hasty, key) as ended:
            assert read_answer(ended) == (408 if key == "body_timeout" else 0)
        assert is_open(kept)
        assert [other for other, connection in beside.items() if not is_open(connection)] == []
        if key == "handshake_timeout":
            (line,) = hasty.server.wait_for_log(lambda line: line["event"] == "handshake_failed")
            assert line["cause"] == "handshake_timeout"
            others.close()
            assert hasty.server.stop() == 0
            (total,) = [line for line in hasty.server.log() if line["event"].startswith("handshakes that failed")]
            assert (total["listener"], total["handshake_timeout"]) == ("est", 1)


def test_shutdown_timeout_bounds_how_long_a_request_may_go_on(tmp_path: Path) -> None:
    patient = deploy(tmp_path / "patient", server=timeouts())
    hasty = deploy(tmp_path / "hasty", server=timeouts(shutdown_timeout="1s"))
    with serving(patient) as waits, serving(hasty) as leaves, stalled(waits, "body_timeout") as request:
        with stalled(leaves, "body_timeout") as cut_off:
            waits.server.process.terminate()
            assert leaves.server.stop() == 0
            assert read_answer(cut_off) == 0
        assert waits.server.process.poll() is None
        request.sendall(b"=" * 8)
        assert read_answer(request) == 401
        assert waits.server.process.wait(60) == 0


def is_served(system: System, source: str = "127.0.0.1") -> bool:
    try:
        with secured(system, source) as client:
            client.sendall(head("GET", "cacerts"))
            return read_answer(client) == 200
    except OSError:  # closed at once
        return False


def test_the_caps_close_what_is_beyond_them_until_there_is_room_again(tmp_path: Path) -> None:
    limits = f"{timeouts()}max_connections = 8\nmax_connections_per_address = 5"
    with serving(deploy(tmp_path / "deployment", server=limits)) as system:
        with contextlib.ExitStack() as held:
            for _ in range(5):
                held.enter_context(secured(system))
            assert not is_served(system)
            for _ in range(3):
                held.enter_context(secured(system, "127.0.0.2"))
            assert not is_served(system, "127.0.0.3")
        wait_until(lambda: is_served(system) and is_served(system, "127.0.0.3"), what=lambda: "room for a connection")


def test_a_request_head_of_more_than_16_kib_is_refused(patient: System) -> None:
    for size, status in ((16000, 200), (17000, 431)):
        with secured(patient) as client:
            client.sendall(head("GET", "cacerts", f"X-Long: {'x' * size}"))
            assert read_answer(client) == status


def test_out_of_file_descriptors_the_server_goes_on_when_there_are_some_again(patient: System) -> None:
    worker = patient.server.worker_pids()["est-1"]
    limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    with secured(patient) as kept, contextlib.ExitStack() as held:
        kept.sendall(head("GET", "cacerts"))
        assert read_answer(kept) == 200
        used = descriptors(worker)
        lowest_free = min(set(range(len(used) + 1)) - used)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        try:
            waiting = [held.enter_context(plain(patient)) for _ in range(3)]
            for _ in range(3):  # each answer is a turn of the loop in which the server has tried to accept
                kept.sendall(head("GET", "cacerts"))
                assert read_answer(kept) == 200
            assert descriptors(worker) == used
        finally:
            resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
        context = ssl.create_default_context(cafile=str(patient.deployment.root_pem))
        for each in waiting:
            with context.wrap_socket(each, server_hostname="localhost") as client:
                client.sendall(head("GET", "cacerts"))
                assert read_answer(client) == 200
        assert is_served(patient)
    assert [line for line in patient.server.log() if line.get("level") == "error"] == []


def descriptors(pid: int) -> set[int]:
    return {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}
