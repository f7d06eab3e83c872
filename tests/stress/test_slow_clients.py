"""500 idle connections, and 100 that send a byte now and then: others enrol, and memory stays flat."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from kipuka_core.testing.server import RunningServer, make_deployment, running_server
from tests.stress.fleet import Device, enrol, make_fleet, read_books

pytestmark = pytest.mark.long

_IDLE = 500
_SLOW = 100
_ENROLMENTS_A_ROUND = 40
_ROUNDS = 3
_NEEDED_DESCRIPTORS = 2048
_MOST_BYTES_A_CONNECTION = 192 * 1024  # of an idle TLS connection with its buffers; measured are 60 KiB
_MOST_GROWTH_BYTES = 8 * 1024 * 1024  # while as much is done again; measured are 3 MiB
_TIMEOUTS = "".join(
    f'{key} = "1h"\n' for key in ("handshake_timeout", "header_timeout", "body_timeout", "idle_timeout")
)
# Longer each than what a test can send of it: a TLS record, a head, a body.
_HELLO = b"\x16\3\1\x3f\xff\1\0\x3f\xfb" + b"\0" * 4000
_HEAD = b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"x" * 4000
_BODY_HEAD = (
    b"POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/pkcs10\r\n"
    b"Content-Length: 5000\r\n\r\n"
)


@pytest.fixture(scope="module", autouse=True)
def enough_descriptors() -> Iterator[None]:
    """For this process, and for the server, which inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _NEEDED_DESCRIPTORS:
        if hard < _NEEDED_DESCRIPTORS:
            pytest.fail(f"this test opens {_IDLE + _SLOW} connections: run it with ulimit -n {_NEEDED_DESCRIPTORS}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (_NEEDED_DESCRIPTORS, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _Connection:
    """An open connection that says one byte at each tick, or never anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, says: bytes = b"") -> None:
        self._reader, self._writer, self._says = reader, writer, iter(says)

    def tick(self) -> None:
        byte = next(self._says, None)
        if byte is not None:
            self._writer.write(bytes([byte]))

    @property
    def is_open(self) -> bool:
        return not self._reader.at_eof() and self._reader.exception() is None

    def close(self) -> None:
        self._writer.transport.abort()


async def _open(server: RunningServer, context: ssl.SSLContext, number: int) -> _Connection:
    if number < _IDLE:
        return _Connection(*await asyncio.open_connection("localhost", server.est_port, ssl=context))
    if number % 3 == 0:
        return _Connection(*await asyncio.open_connection("localhost", server.est_port), _HELLO)
    reader, writer = await asyncio.open_connection("localhost", server.est_port, ssl=context)
    if number % 3 == 1:
        return _Connection(reader, writer, _HEAD)
    writer.write(_BODY_HEAD)
    return _Connection(reader, writer, b"A" * 4000)


@contextlib.asynccontextmanager
async def _crowd(server: RunningServer, context: ssl.SSLContext) -> AsyncIterator[list[_Connection]]:
    crowd: list[_Connection] = []
    try:
        for number in range(_IDLE + _SLOW):
            crowd.append(await _open(server, context, number))  # noqa: PERF401  # closed as far as they are open
        yield crowd
    finally:
        for each in crowd:
            each.close()


async def _enrol_beside(
    crowd: list[_Connection], devices: Sequence[Device], port: int, context: ssl.SSLContext
) -> list[int]:
    """Enrol all at once; whenever one is done, each of the slow ones says its next byte."""

    async def one(device: Device) -> int:
        answer = await enrol(device, port, context)
        for each in crowd:
            each.tick()
        return answer.status

    return list(await asyncio.gather(*map(one, devices)))


def _resident_bytes(server: RunningServer) -> int:
    status = Path(f"/proc/{server.worker_pids()['est-1']}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


async def _rounds(server: RunningServer, devices: Sequence[Device], context: ssl.SSLContext) -> list[int]:
    """Enrol in rounds beside the crowd; the server's memory before the crowd, and after each round."""
    rounds = [devices[at : at + _ENROLMENTS_A_ROUND] for at in range(0, len(devices), _ENROLMENTS_A_ROUND)]
    assert set(await _enrol_beside([], rounds.pop(), server.est_port, context)) == {200}
    resident = [_resident_bytes(server)]
    async with _crowd(server, context) as crowd:
        for each in rounds:
            assert set(await _enrol_beside(crowd, each, server.est_port, context)) == {200}
            assert all(connection.is_open for connection in crowd)
            resident.append(_resident_bytes(server))
    return resident


def test_enrolment_goes_on_beside_clients_that_hold_connections_and_say_little(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    deployment.configure("", server=_TIMEOUTS)
    devices = asyncio.run(make_fleet(deployment, _ENROLMENTS_A_ROUND * (_ROUNDS + 1)))
    with running_server(deployment) as server:
        context = ssl.create_default_context(cafile=str(deployment.root_pem))
        before, *after = asyncio.run(_rounds(server, devices, context))
        assert server.stop() == 0

    assert after[0] - before < (_IDLE + _SLOW) * _MOST_BYTES_A_CONNECTION
    assert max(after) - after[0] < _MOST_GROWTH_BYTES
    assert asyncio.run(read_books(deployment)).issued() == len(devices)
