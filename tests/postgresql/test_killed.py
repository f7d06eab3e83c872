"""PostgreSQL is killed while devices enrol, and started again: nothing is lost, and nobody restarts kipuka."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kipuka_core.domain.one_time_passwords import new_one_time_password
from kipuka_core.edges.store import open_store
from kipuka_core.model.event import OtpCreated
from kipuka_core.testing.pki import make_csr
from kipuka_core.testing.server import wait_until
from tests.postgresql.cluster import Cluster, running_cluster
from tests.postgresql.nodes import Node, make_nodes, serving_nodes
from tests.stress.fleet import Answer, Device, enrol

pytestmark = [pytest.mark.interop, pytest.mark.long]

_DEVICES = 120


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """One that other tests do not use: it is killed."""
    with running_cluster() as running:
        yield running


@dataclass
class Load:
    """Devices that ask until they have a certificate; what each was told on the way."""

    nodes: list[Node]
    devices: list[Device]
    served: dict[str, Answer] = field(default_factory=dict)
    told: dict[int, int] = field(default_factory=dict)

    def run(self, cluster: Cluster, *, kill_after: int) -> None:
        asyncio.run(self._run(cluster, kill_after))

    async def _run(self, cluster: Cluster, kill_after: int) -> None:
        context = ssl.create_default_context(cafile=str(self.nodes[0].deployment.root_pem))
        limit = asyncio.Semaphore(16)
        killer = asyncio.create_task(self._kill(cluster, kill_after))
        await asyncio.gather(*(self._one(device, n, context, limit) for n, device in enumerate(self.devices)))
        await killer

    async def _one(self, device: Device, number: int, context: ssl.SSLContext, limit: asyncio.Semaphore) -> None:
        while device.name not in self.served:
            async with limit:
                answer = await enrol(device, self.nodes[number % len(self.nodes)].server.est_port, context)
            self.told[answer.status] = self.told.get(answer.status, 0) + 1
            if answer.status == 200:
                self.served[device.name] = answer
            else:
                await asyncio.sleep(0.05)

    async def _kill(self, cluster: Cluster, kill_after: int) -> None:
        while len(self.served) < kill_after:  # noqa: ASYNC110  # counts of other tasks
            await asyncio.sleep(0.005)
        cluster.kill()
        refused = self.told.get(503, 0)
        while self.told.get(503, 0) < refused + 20:  # noqa: ASYNC110  # everybody notices
            await asyncio.sleep(0.005)
        await asyncio.to_thread(cluster.start)


def make_devices(url: str) -> list[Device]:
    now = datetime.now(UTC)
    made = [new_one_time_password(f"device-{number:03}", now=now, ttl_seconds=3600) for number in range(_DEVICES)]

    async def add() -> None:
        async with open_store(url) as store:
            facts = [
                OtpCreated(
                    time=now, actor="test", otp_id=otp.id, entity_id=otp.entity_id, expires_at=str(otp.expires_at)
                )
                for otp, _ in made
            ]
            await store.add_otps([otp for otp, _ in made], facts)

    asyncio.run(add())
    return [Device(otp.entity_id, token, make_csr(common_name=otp.entity_id)) for otp, token in made]


def test_no_certificate_is_without_a_record_and_service_returns(tmp_path: Path, cluster: Cluster) -> None:
    database = cluster.create()
    # A request whose answer was lost in the crash may have left a reservation: it ends with its lease.
    deployments = make_nodes(tmp_path, cluster, database, count=2)
    devices = make_devices(cluster.url(database))
    with serving_nodes(deployments, cluster, database) as nodes:
        pids = [node.server.worker_pids() for node in nodes]
        load = Load(nodes, devices)
        load.run(cluster, kill_after=20)

        assert set(load.told) <= {200, 503}, load.told
        assert load.told[503] >= 20
        assert [node.server.worker_pids() for node in nodes] == pids
        for node in nodes:
            wait_until(lambda node=node: node.site.ask("GET", "health/ready").status == 200)  # type: ignore[misc]
        recorded = dict(nodes[0].rows("SELECT serial_hex, entity_id FROM certificates"))
        for name, answer in load.served.items():
            assert answer.certificate is not None
            assert recorded[f"{answer.certificate.serial_number:x}"] == name
        assert sorted(recorded.values()) == sorted(device.name for device in devices)
        assert nodes[0].rows("SELECT DISTINCT usage_count FROM otps") == [(1,)]
        for node in nodes:
            verified = node.deployment.kipuka("audit", "verify")
            assert verified.stdout.splitlines()[-1].startswith("whole: "), verified.stdout


def test_while_the_database_is_away_the_server_says_so(tmp_path: Path, cluster: Cluster) -> None:
    database = cluster.create()
    with serving_nodes(make_nodes(tmp_path, cluster, database), cluster, database) as (node,):
        token = node.otp("device")
        csr = make_csr(common_name="device")
        cluster.stop()
        answer = node.client().enrol(csr, user="device", password=token)
        assert (answer.status, "retry-after" in answer.headers) == (503, True)
        assert "database" in answer.text
        assert node.client().request("GET", "cacerts").status == 200
        wait_until(lambda: node.site.ask("GET", "health/ready").status == 503)
        health = node.site.ask("GET", "health")
        assert health.status == 503
        assert node.site.ask("GET", "certs").status == 503
        cluster.start()
        node.client().enrol(csr, user="device", password=token).certificate()
        assert node.site.get("certs")
        wait_until(lambda: node.site.ask("GET", "health/ready").status == 200)
        log = node.server.log_file.read_text()
        assert "Traceback" not in log
