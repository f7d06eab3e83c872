"""A group of three CAs behind a running server: shares, one that goes away, and its return."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from kipuka_core.testing import pki
from kipuka_core.testing.client import EstClient
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.server import Deployment, RunningServer, make_deployment, running_server, wait_until
from tests.system.admin_kit import ADMIN_CA, ANA
from tests.system.status_kit import ADMIN

pytestmark = pytest.mark.long

WEIGHTS = {"first": 2, "second": 1, "third": 1}
GROUP = """
[enrollment]
subject_binding = "any"
[[ca_group]]
id = "group"
members = ["first", "second", "third"]
strategy = "weighted"
weights = {first = 2}
failures = 2
cool_down = "2s"
[[est.label]]
name = "fleet"
ca = "group"
"""
CA = """
[[ca]]
id = "{name}"
backend = "command"
program = ["{python}", "{script}", "{directory}"]
chain = "{directory}/ca.pem"
"""


@dataclass
class Switched:
    """One of the CAs."""

    directory: Path

    def asked(self) -> list[str]:
        asked = self.directory / "asked"
        return asked.read_text(encoding="ascii").split() if asked.exists() else []

    def go_away(self) -> None:
        (self.directory / "away").touch()

    def come_back(self) -> None:
        (self.directory / "away").unlink()


@pytest.fixture
def cas(tmp_path: Path) -> dict[str, Switched]:
    made = {}
    for name in WEIGHTS:
        directory = tmp_path / name
        directory.mkdir()
        authority = pki.make_root(f"The {name} CA")
        (directory / "ca.pem").write_bytes(authority.pem)
        write_private(directory / "ca.key", pki.key_pem(authority.key))
        made[name] = Switched(directory)
    return made


@pytest.fixture
def deployment(tmp_path: Path, cas: dict[str, Switched]) -> Deployment:
    made = make_deployment(tmp_path / "deployment")
    script = Path(__file__).with_name("switched_ca.py")
    tables = [
        CA.format(name=name, python=sys.executable, script=script, directory=ca.directory) for name, ca in cas.items()
    ]
    (made.directory / "admin-ca.pem").write_bytes(ADMIN_CA.pem)
    made.configure(f"{GROUP}{ADMIN}{''.join(tables)}")
    return made


@pytest.fixture
def server(deployment: Deployment) -> Iterator[RunningServer]:
    with running_server(deployment) as running:
        yield running


def metrics_of(server: RunningServer) -> str:
    admin = EstClient(
        server.admin_port,
        server.deployment.root_pem,
        leaf=ANA,
        directory=server.deployment.directory,
        base_path="/admin",
    )
    answer = admin.request("GET", "metrics")
    assert answer.status == 200, answer.text
    return answer.text


def client_of(server: RunningServer) -> EstClient:
    return EstClient(server.est_port, server.deployment.root_pem)


def enrol(server: RunningServer, name: str, token: str) -> x509.Certificate:
    """Never anything but a certificate."""
    answer = client_of(server).enrol(pki.make_csr(common_name=name), user=name, password=token, label="fleet")
    assert answer.status == 200, answer.text
    return answer.certificate()


def test_shares_hold_and_no_client_sees_a_ca_that_goes_away(server: RunningServer, cas: dict[str, Switched]) -> None:
    token = server.deployment.otp("device", "--max-usage", "200")
    for _ in range(20):
        enrol(server, "device", token)
    assert {name: len(ca.asked()) for name, ca in cas.items()} == {"first": 10, "second": 5, "third": 5}

    cas["first"].go_away()
    for _ in range(12):
        enrol(server, "device", token)  # also those that asked it first
    assert cas["first"].asked()[10:].count("issued") == 0
    others = len(cas["second"].asked()) + len(cas["third"].asked())
    assert others == 10 + 12

    def is_left_alone() -> bool:
        enrol(server, "device", token)
        return 'kipuka_ca_circuits_open{ca="first",group="group"} 1.0' in metrics_of(server)

    wait_until(is_left_alone)
    assert 'kipuka_ca_requests_total{ca="first",outcome="away"}' in metrics_of(server)
    cas["first"].come_back()

    def serves_again() -> bool:
        enrol(server, "device", token)
        return cas["first"].asked()[-1] == "issued"

    wait_until(serves_again)
    before = {name: len(ca.asked()) for name, ca in cas.items()}
    for _ in range(8):
        enrol(server, "device", token)
    assert {name: len(ca.asked()) - before[name] for name, ca in cas.items()} == {"first": 4, "second": 2, "third": 2}


def test_when_all_are_away_the_client_hears_when_to_come_back(server: RunningServer, cas: dict[str, Switched]) -> None:
    token = server.deployment.otp("device")
    csr = pki.make_csr()
    for ca in cas.values():
        ca.go_away()
    for _ in range(3):
        answer = client_of(server).enrol(csr, user="device", password=token, label="fleet")
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
    for ca in cas.values():
        ca.come_back()
    answers = []

    def issues() -> bool:
        answers.append(client_of(server).enrol(csr, user="device", password=token, label="fleet"))
        return answers[-1].status == 200

    wait_until(issues)
    issued = [asked for ca in cas.values() for asked in ca.asked() if asked == "issued"]
    assert len(issued) == 1
    chains = client_of(server).request("GET", "fleet/cacerts").certificates()
    assert {each.subject.rfc4514_string() for each in chains} == {f"CN=The {name} CA" for name in WEIGHTS}
