"""Two servers with two workers each on one database, and all of them asked at once."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kipuka_core.testing.pki import Leaf, make_csr, make_key
from kipuka_core.testing.server import Deployment, running_server, wait_until
from tests.postgresql.cluster import Cluster
from tests.postgresql.nodes import Node, make_nodes, serving_nodes
from tests.stress.fleet import Answer, Device, enrol
from tests.system.admin_site import TOKENS, hex_serial
from tests.system.status_kit import is_on_crl, status_of

pytestmark = [pytest.mark.interop, pytest.mark.long]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, postgresql: Cluster) -> Iterator[list[Node]]:
    with postgresql.fresh() as database:
        deployments = make_nodes(tmp_path_factory.mktemp("nodes"), postgresql, database, count=2)
        with serving_nodes(deployments, postgresql, database) as running:
            yield running


def device(node: Node, name: str, *, token: str | None = None, uses: int = 1) -> Device:
    csr_der = make_csr(common_name=name)
    return Device(name, token or node.otp(name, max_usage=uses), csr_der)


def enrol_at_once(nodes: list[Node], asked: list[tuple[int, Device]]) -> list[Answer]:
    """Every device at the node that it is given, all at the same time."""
    context = ssl.create_default_context(cafile=str(nodes[0].deployment.root_pem))

    async def all_of_them() -> list[Answer]:
        return list(
            await asyncio.gather(*(enrol(each, nodes[number].server.est_port, context) for number, each in asked))
        )

    return asyncio.run(all_of_them())


def test_many_devices_at_both_nodes_get_a_certificate_each(nodes: list[Node]) -> None:
    devices = [device(nodes[0], f"fleet-{number}") for number in range(60)]
    answers = enrol_at_once(nodes, [(number % 2, each) for number, each in enumerate(devices)])
    assert Counter(answer.status for answer in answers) == {200: 60}
    assert len({answer.certificate for answer in answers}) == 60
    for each in devices:
        assert nodes[0].uses(each.token) == (1, 0)
        assert nodes[1].issued_to(each.name) == 1


def test_a_password_with_one_use_is_used_once(nodes: list[Node]) -> None:
    first = device(nodes[0], "contested")
    others = [device(nodes[0], "contested", token=first.token) for _ in range(31)]  # another CSR each
    answers = enrol_at_once(nodes, [(number % 2, each) for number, each in enumerate([first, *others])])
    statuses = Counter(answer.status for answer in answers)
    assert statuses[200] == 1
    assert statuses[401] + statuses[503] == 31
    assert nodes[0].uses(first.token) == (1, 0)
    assert nodes[0].issued_to("contested") == 1


def test_a_password_with_some_uses_is_used_as_often(nodes: list[Node]) -> None:
    first = device(nodes[0], "some", uses=5)
    others = [device(nodes[0], "some", token=first.token) for _ in range(23)]
    statuses = Counter[int]()
    for _ in range(20):  # who was told that the password is in use comes again
        answers = enrol_at_once(nodes, [(number % 2, each) for number, each in enumerate([first, *others])])
        statuses = Counter(answer.status for answer in answers)
        if not statuses[503]:
            break
    assert statuses == {200: 5, 401: 19}  # the same five again, as answers that were lost
    assert nodes[0].uses(first.token) == (5, 0)
    assert nodes[0].issued_to("some") == 5


def test_identical_requests_get_one_certificate(nodes: list[Node]) -> None:
    only = device(nodes[0], "twice")
    got = set()
    for _ in range(20):
        answers = enrol_at_once(nodes, [(number % 2, only) for number in range(16)])
        assert {answer.status for answer in answers} <= {200, 503}
        got |= {answer.certificate for answer in answers if answer.certificate is not None}
        if all(answer.status == 200 for answer in answers):
            break
    else:
        pytest.fail("the same request was never served everywhere")
    assert len(got) == 1
    assert nodes[0].uses(only.token) == (1, 0)
    assert nodes[0].issued_to("twice") == 1


def test_identical_requests_that_wait_are_one(nodes: list[Node]) -> None:
    site, other = (node.site for node in nodes)
    token = nodes[0].otp("patient")
    csr = make_csr(common_name="patient")
    assert {each.enrol(csr, "patient", token, "slow").status for each in (site, other) * 4} == {202}
    (waiting,) = [each["id"] for each in other.get("requests?state=waiting") if each["identity"] == "patient"]
    other.post(f"requests/{waiting}/approve", {})
    answers = {each.enrol(csr, "patient", token, "slow").certificate() for each in (site, other)}
    assert len(answers) == 1
    assert nodes[0].issued_to("patient") == 1


def test_what_one_node_does_the_other_knows_at_once(nodes: list[Node]) -> None:
    first, second = nodes
    key = make_key()
    csr = make_csr(key, "moving")
    leaf = Leaf(first.client().enrol(csr, user="moving", password=second.otp("moving")).certificate(), key)
    assert status_of(second, leaf.certificate) == "GOOD"
    assert not is_on_crl(second, leaf.certificate.serial_number)
    renewed = Leaf(second.client(leaf).reenrol(csr).certificate(), key)
    first.site.post(f"certs/{hex_serial(renewed)}/revoke", {"reason": "keyCompromise"}, 204)
    for node in nodes:
        assert status_of(node, renewed.certificate) == "REVOKED"
        assert is_on_crl(node, renewed.certificate.serial_number)
        assert node.client(renewed).reenrol(csr).status == 401


def test_guesses_at_both_nodes_count_together(nodes: list[Node]) -> None:
    nodes[0].otp("guessed")

    def guess(node: Node) -> int:
        return node.client().enrol(make_csr(common_name="guessed"), user="guessed", password="wrong").status

    assert [guess(node) for node in nodes] == [401, 401]  # two lock the name out
    wait_until(lambda: [guess(node) for node in nodes] == [429, 429])  # within a second, by the other's word
    (locked,) = nodes[0].rows("SELECT count(*) FROM auth_failures WHERE entity_id = 'guessed'")
    assert locked == (2,)


def test_each_node_has_an_audit_trail_that_is_whole(nodes: list[Node]) -> None:
    for node in nodes:
        verified = node.deployment.kipuka("audit", "verify")
        assert verified.stdout.splitlines()[-1].startswith("whole: "), verified.stdout
        assert node.deployment.audit_log.stat().st_size


def test_nodes_that_start_at_once_migrate_an_empty_database_once(tmp_path: Path, postgresql: Cluster) -> None:
    with postgresql.fresh() as database:
        deployments = make_nodes(tmp_path, postgresql, database, count=3, workers=2)

        with ThreadPoolExecutor() as pool:
            assert list(pool.map(_start_and_stop, deployments)) == [0, 0, 0]
        assert len(postgresql.rows(database, "SELECT version_num FROM alembic_version")) == 1


def _start_and_stop(deployment: Deployment) -> int:
    with running_server(deployment, environment=TOKENS) as server:
        return server.stop()
