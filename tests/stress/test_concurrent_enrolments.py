"""Many enrolments at once over two worker processes: nothing is lost and nothing is counted twice."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from kipuka_core.testing.server import RunningServer, make_deployment, running_server
from tests.stress.fleet import enrol_all, make_fleet, read_books

pytestmark = pytest.mark.long


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    deployment = make_deployment(tmp_path)
    deployment.configure("", workers=2)
    with running_server(deployment) as running:
        yield running


@pytest.fixture
def context(server: RunningServer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(server.deployment.root_pem))


async def test_two_hundred_devices_at_once_get_a_certificate_each(
    server: RunningServer, context: ssl.SSLContext
) -> None:
    devices = await make_fleet(server.deployment, 200)

    answers = await enrol_all(devices, server.est_port, context)

    assert Counter(answer.status for answer in answers) == {200: 200}
    assert len({answer.certificate for answer in answers}) == 200
    books = await read_books(server.deployment)
    assert all(len(records) == 1 for records in books.records.values())
    assert all(password.usage_count == 1 for password in books.passwords.values())
    assert all(answer.certificate is not None and books.holds(answer.certificate) for answer in answers)
    for device, answer in zip(devices, answers, strict=True):
        assert answer.certificate is not None
        assert answer.certificate.subject.rfc4514_string() == f"CN={device.name}"


async def test_fifty_devices_with_one_password_get_one_certificate_together(
    server: RunningServer, context: ssl.SSLContext
) -> None:
    devices = await make_fleet(server.deployment, 50, shared_password=True)

    answers = await enrol_all(devices, server.est_port, context)

    statuses = Counter(answer.status for answer in answers)
    assert statuses[200] == 1
    assert statuses[401] + statuses[503] == 49
    books = await read_books(server.deployment)
    assert (books.issued(), books.used()) == (1, 1)
