"""A client that hangs up, at whatever moment: its certificate is recorded and its password used, or neither."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from kipuka_core.testing.server import RunningServer, make_deployment, running_server
from tests.stress.fleet import Device, enrol_all, make_fleet, read_books

pytestmark = pytest.mark.long

_TRIES = 50
_LEAVE_AT_THE_ANSWER = 5


async def _hang_up(device: Device, number: int, server: RunningServer, context: ssl.SSLContext) -> None:
    """Send the request and leave: later and later, every second time without a word (a reset connection)."""
    reader, writer = await asyncio.open_connection("localhost", server.est_port, ssl=context)
    writer.write(device.request)
    await writer.drain()
    # Between "at once" and "while the certificate is signed and recorded"; the last clients leave at the answer.
    patience = number * 0.0004 if number < _TRIES - _LEAVE_AT_THE_ANSWER else None
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await reader.read(1)
    if number % 2:
        writer.transport.abort()
    else:
        writer.close()


def test_a_client_that_hangs_up_never_leaves_half_an_enrolment(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    devices = asyncio.run(make_fleet(deployment, _TRIES))
    with running_server(deployment) as server:
        context = ssl.create_default_context(cafile=str(deployment.root_pem))

        async def all_hang_up() -> None:
            for number, device in enumerate(devices):
                await _hang_up(device, number, server, context)

        asyncio.run(all_hang_up())
        assert server.stop() == 0  # which waits for what was begun

    books = asyncio.run(read_books(deployment))
    for device in devices:
        assert books.passwords[device.name].usage_count == len(books.records[device.name]) <= 1
    recorded = {name: records[0].serial_hex for name, records in books.records.items() if records}
    assert {device.name for device in devices[-_LEAVE_AT_THE_ANSWER:]} <= recorded.keys()

    with running_server(deployment) as server:
        again = asyncio.run(enrol_all(devices, server.est_port, context))
        assert server.stop() == 0

    for device, answer in zip(devices, again, strict=True):
        assert answer.certificate is not None, f"{device.name} got {answer.status}"
        assert recorded.get(device.name) in {None, f"{answer.certificate.serial_number:x}"}
    books = asyncio.run(read_books(deployment))
    assert (books.issued(), books.used()) == (_TRIES, _TRIES)
