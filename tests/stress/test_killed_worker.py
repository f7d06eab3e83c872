"""``kill -9`` of a worker in the middle of its work: who has a certificate is on record, who has none can ask again."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from pathlib import Path

import pytest

from kipuka_core.testing.server import RunningServer, make_deployment, running_server, wait_until
from tests.stress.fleet import Answer, Device, enrol, enrol_all, make_fleet, read_books

pytestmark = pytest.mark.long

_DEVICES = 200


async def _enrol_all_and_kill(
    devices: list[Device], server: RunningServer, context: ssl.SSLContext, *, after: int
) -> list[Answer]:
    """Every device at once; the first worker is killed as soon as ``after`` devices have a certificate."""
    served, killed = 0, False

    async def one(device: Device) -> Answer:
        nonlocal served, killed
        answer = await enrol(device, server.est_port, context)
        served += answer.status == 200
        if served >= after and not killed:
            killed = True
            os.kill(server.worker_pids()["est-1"], signal.SIGKILL)
        return answer

    answers = list(await asyncio.gather(*map(one, devices)))
    assert killed
    return answers


@pytest.mark.parametrize("after", [1, 60])
def test_a_killed_worker_loses_no_certificate_and_no_password(after: int, tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    deployment.configure("", workers=2)
    devices = asyncio.run(make_fleet(deployment, _DEVICES))
    with running_server(deployment) as server:
        context = ssl.create_default_context(cafile=str(deployment.root_pem))
        killed_pid = server.worker_pids()["est-1"]

        answers = asyncio.run(_enrol_all_and_kill(devices, server, context, after=after))
        final = dict(zip(devices, answers, strict=True))

        assert {answer.status for answer in answers} <= {200, 0, 503}
        wait_until(lambda: server.worker_pids()["est-1"] != killed_pid, what=lambda: "the worker's replacement")

        def all_served() -> bool:
            waiting = [device for device, answer in final.items() if answer.status != 200]
            retried = asyncio.run(enrol_all(waiting, server.est_port, context))
            final.update(zip(waiting, retried, strict=True))
            return all(answer.status == 200 for answer in final.values())

        wait_until(all_served, what=lambda: f"certificates for all; now {[a.status for a in final.values()]}")
        assert server.stop() == 0

    books = asyncio.run(read_books(deployment))
    for device, answer in final.items():
        assert answer.certificate is not None
        assert books.holds(answer.certificate), f"{device.name} has a certificate that is not on record"
        assert books.passwords[device.name].usage_count == 1
        assert len(books.records[device.name]) == 1
    assert (books.issued(), books.used()) == (_DEVICES, _DEVICES)
