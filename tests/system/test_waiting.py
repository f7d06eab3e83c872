"""202 and what follows: recognised when repeated, kept over restarts, issued once (row 14, invariant 5)."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kipuka_core.assemble import assemble
from kipuka_core.config import load
from kipuka_core.domain.approval import Approvals
from kipuka_core.testing.client import Answer
from kipuka_core.testing.pki import make_csr, make_key, name
from kipuka_core.testing.server import Deployment
from tests.system.system_kit import System, deploy, serving

PLUGIN = """
from contextlib import asynccontextmanager
from kipuka_core import Allow, Policy, Provider, Settings, Wait, hookimpl


class PatienceSettings(Settings):
    seconds: int | None = None


class Patience(Policy):
    def __init__(self, seconds):
        self.seconds = seconds

    async def decide(self, template, enrolment):
        if enrolment.identity.entity_id.startswith("wait"):
            return Wait("an operator looks at this first", self.seconds)
        return Allow()


@asynccontextmanager
async def opened(settings, services):
    yield Patience(settings.seconds)


@hookimpl
def kipuka_policies():
    return [Provider("patience", PatienceSettings, opened)]
"""
TOML = """
[est]
retry_after = "90s"
[[est.label]]
name = "factory"
[plugins]
enable = ["patience"]
[policy]
order = ["keys", "names", "extensions", "validity", "patience"]
"""


def install(directory: Path) -> Path:
    """A distribution as pip leaves it: a module, and metadata with an entry point."""
    directory.mkdir()
    (directory / "kipuka_patience.py").write_text(PLUGIN, encoding="utf-8")
    info = directory / "kipuka_patience-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kipuka-patience\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[kipuka.plugins]\npatience = kipuka_patience\n", encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = install(tmp_path_factory.mktemp("site") / "packages")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)  # for the approvals of this process
        yield directory


def with_plugin(plugin: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(plugin), os.environ.get("PYTHONPATH", ""))))}


@pytest.fixture(scope="module")
def patient(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    deployment = deploy(tmp_path_factory.mktemp("patient") / "deployment", TOML)
    with serving(deployment, environment=with_plugin(plugin)) as running:
        yield running


def waits(answer: Answer, *, seconds: int = 90) -> str:
    """Hold a 202 against RFC 7030 4.2.3; the id of this very request."""
    assert answer.status == 202, answer
    assert answer.headers["retry-after"] == str(seconds)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    first, last = answer.text.splitlines()
    assert first == "an operator looks at this first"
    return last.removeprefix("request ")


def request_of(system: System, entity: str) -> str:
    """The one remembered request of an entity."""
    ((request_id,),) = system.rows("SELECT id FROM requests WHERE entity_id = ?", entity)
    return str(request_id)


def decide(deployment: Deployment, work: Callable[[Approvals], Awaitable[object]]) -> None:
    """What an operator's process does while the server runs."""

    async def decided() -> None:
        async with assemble(load(deployment.toml, {})) as assembly:
            await work(assembly.approvals)

    asyncio.run(decided())


def approve(system: System, entity: str) -> None:
    request_id = request_of(system, entity)
    decide(system.deployment, lambda approvals: approvals.approve(request_id, actor="ana", now=datetime.now(UTC)))


def reject(system: System, entity: str) -> None:
    request_id = request_of(system, entity)
    decide(
        system.deployment,
        lambda approvals: approvals.reject(request_id, actor="ana", now=datetime.now(UTC), reason="not known here"),
    )


def test_a_waiting_request_is_202_with_retry_after_and_the_same_again_when_repeated(patient: System) -> None:
    token, key = patient.otp("wait-repeat"), make_key()
    csr = make_csr(key, "wait-repeat")
    first = waits(patient.client().enrol(csr, user="wait-repeat", password=token))
    assert request_of(patient, "wait-repeat") == first
    signed_again = make_csr(key, "wait-repeat")
    for repeated in (csr, signed_again):
        waits(patient.client().enrol(repeated, user="wait-repeat", password=token))
    assert request_of(patient, "wait-repeat") == first
    (fact,) = patient.facts(first)
    assert (fact["event"], fact["actor"], fact["reason"]) == (
        "enrolment_waiting",
        "wait-repeat",
        "an operator looks at this first",
    )
    waiting = [each for each in patient.audit() if each["event"] == "enrolment_waiting"]
    assert sum(each["actor"] == "wait-repeat" for each in waiting) == 1
    assert patient.uses(token) == (0, 1)
    assert patient.issued_to("wait-repeat") == 0


def test_others_are_served_meanwhile(patient: System) -> None:
    assert patient.enrolled("no-need-for-patience").certificate.subject == name("no-need-for-patience")


def test_the_password_of_a_waiting_request_serves_no_other_csr(patient: System) -> None:
    token, csr = patient.otp("wait-held"), make_csr(common_name="wait-held")
    waits(patient.client().enrol(csr, user="wait-held", password=token))
    other = patient.client().enrol(make_csr(common_name="wait-held"), user="wait-held", password=token)
    assert patient.refused(other, 503)["code"] == "otp_busy"
    assert "retry-after" in other.headers
    waits(patient.client().enrol(csr, user="wait-held", password=token))
    assert patient.uses(token) == (0, 1)


def test_the_same_csr_at_another_label_is_another_request(patient: System) -> None:
    one, two, csr = patient.otp("wait-two"), patient.otp("wait-two"), make_csr(common_name="wait-two")
    waits(patient.client().enrol(csr, user="wait-two", password=one))
    waits(patient.client().enrol(csr, user="wait-two", password=two, label="factory"))
    assert patient.rows("SELECT label FROM requests WHERE entity_id = 'wait-two' ORDER BY label") == [
        ("",),
        ("factory",),
    ]


def test_an_approved_request_is_answered_with_the_one_certificate_however_often_it_comes(patient: System) -> None:
    token, csr = patient.otp("wait-approved"), make_csr(common_name="wait-approved")
    waits(patient.client().enrol(csr, user="wait-approved", password=token))
    approve(patient, "wait-approved")
    first = patient.client().enrol(csr, user="wait-approved", password=token).certificate()
    assert patient.client().enrol(csr, user="wait-approved", password=token).certificate() == first
    assert patient.issued_to("wait-approved") == 1
    assert patient.uses(token) == (1, 0)
    facts = {fact["event"]: fact for fact in patient.facts(request_of(patient, "wait-approved"))}
    assert set(facts) == {"enrolment_waiting", "certificate_issued", "request_decided"}
    assert facts["request_decided"]["actor"] == "ana"
    assert facts["certificate_issued"]["actor"] == "wait-approved"
    other = patient.client().enrol(make_csr(common_name="wait-approved"), user="wait-approved", password=token)
    assert patient.refused(other, 401)["code"] == "otp_used"


def test_a_request_whose_password_expired_meanwhile_goes_on_waiting_and_is_served(patient: System) -> None:
    token, csr = patient.otp("wait-expired"), make_csr(common_name="wait-expired")
    waits(patient.client().enrol(csr, user="wait-expired", password=token))
    with closing(sqlite3.connect(patient.deployment.database, timeout=30)) as database, database:
        database.execute("UPDATE otps SET expires_at = created_at + 1 WHERE entity_id = 'wait-expired'")
    waits(patient.client().enrol(csr, user="wait-expired", password=token))
    approve(patient, "wait-expired")
    assert len(patient.client().enrol(csr, user="wait-expired", password=token).certificates()) == 1
    assert patient.uses(token) == (1, 0)


def test_a_rejected_request_is_403_and_its_password_is_good_for_another_csr(patient: System) -> None:
    token, csr = patient.otp("wait-rejected"), make_csr(common_name="wait-rejected")
    waits(patient.client().enrol(csr, user="wait-rejected", password=token))
    reject(patient, "wait-rejected")
    assert patient.uses(token) == (0, 0)
    for _ in range(2):
        answer = patient.client().enrol(csr, user="wait-rejected", password=token)
        assert patient.refused(answer, 403, "not known here")["code"] == "request_rejected"
    waits(patient.client().enrol(make_csr(common_name="wait-rejected"), user="wait-rejected", password=token))
    assert patient.uses(token) == (0, 1)
    assert patient.issued_to("wait-rejected") == 0


def test_a_wrong_password_does_not_learn_of_a_waiting_request(patient: System) -> None:
    token, csr = patient.otp("wait-private"), make_csr(common_name="wait-private")
    waits(patient.client().enrol(csr, user="wait-private", password=token))
    patient.refused(patient.client().enrol(csr, user="wait-private", password="wrong"), 401)
    approve(patient, "wait-private")
    patient.refused(patient.client().enrol(csr, user="wait-private", password="wrong"), 401)


@pytest.mark.parametrize("hard", [False, True])
def test_a_request_waits_on_over_a_restart_and_a_kill(
    plugin: Path, tmp_path_factory: pytest.TempPathFactory, hard: bool
) -> None:
    toml = TOML + "[policy.patience]\nseconds = 7\n"
    deployment = deploy(tmp_path_factory.mktemp("restarted") / "deployment", toml)
    key = make_key()
    with serving(deployment, environment=with_plugin(plugin)) as before:
        token = before.otp("wait-restart")
        first = waits(
            before.client().enrol(make_csr(key, "wait-restart"), user="wait-restart", password=token), seconds=7
        )
        if hard:
            kill(before)
    with serving(deployment, environment=with_plugin(plugin)) as after:
        csr = make_csr(key, "wait-restart")
        waits(after.client().enrol(csr, user="wait-restart", password=token), seconds=7)
        assert request_of(after, "wait-restart") == first
        assert after.uses(token) == (0, 1)
        other = after.client().enrol(make_csr(common_name="wait-restart"), user="wait-restart", password=token)
        assert after.refused(other, 503)["code"] == "otp_busy"
        approve(after, "wait-restart")
    with serving(deployment, environment=with_plugin(plugin)) as again:
        certificate = again.client().enrol(csr, user="wait-restart", password=token).certificate()
        assert certificate.public_key() == key.public_key()
        assert again.issued_to("wait-restart") == 1
        assert again.uses(token) == (1, 0)


def kill(system: System) -> None:
    """End the supervisor and its workers without a goodbye."""
    workers = system.server.worker_pids()
    assert set(workers) == {"est-1", "admin"}
    system.server.process.kill()
    system.server.process.wait()
    for pid in workers.values():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # it saw that the supervisor is gone
            continue
