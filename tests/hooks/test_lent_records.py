"""What plugins have of the store: they can ask it, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kipuka_core import CertificateStatus, Records
from kipuka_core.domain.ports import Store
from kipuka_core.hooks.lent_records import LentRecords
from kipuka_core.testing.fakes import FakeStore
from kipuka_core.testing.pki import make_csr, make_root
from kipuka_core.testing.server import RunningServer
from tests.startup.distributions import Distribution

_ONCE = """
    from contextlib import asynccontextmanager
    from kipuka_core import Allow, Deny, DenyKind, Policy, Provider, Settings, hookimpl

    class Once(Policy):
        def __init__(self, store):
            self.store = store

        async def decide(self, template, enrolment):
            name = enrolment.identity.entity_id
            if name == "meddler":
                await self.store.revoke_otp("1", now=enrolment.time, event=None)
            if await self.store.search_certificates(entity_id=name, status="active"):
                return Deny(DenyKind.PERMISSION, "this device has a certificate")
            return Allow()

    @asynccontextmanager
    async def opened(settings, services):
        yield Once(services.store)

    @hookimpl
    def kipuka_policies():
        return [Provider("once", Settings, opened)]
    """


def _public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_every_question_is_passed_on_and_nothing_else_is_there() -> None:
    assert _public(LentRecords) == _public(Records) < _public(Store)
    assert _public(Records) <= _public(FakeStore)
    assert not hasattr(LentRecords(FakeStore()), "__dict__")


def test_a_policy_looks_at_what_is_on_record_and_can_do_no_more(
    kipuka_serve: Callable[..., RunningServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Distribution("kipuka-once", "once", "once_plugin", _ONCE).install(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    server = kipuka_serve('[plugins]\nenable = ["once"]\n[policy]\norder = ["keys", "names", "validity", "once"]\n')

    def enrol(name: str) -> tuple[int, str]:
        answer = server.client().enrol(make_csr(common_name=name), user=name, password=server.otp(name))
        return answer.status, "" if answer.status == 200 else answer.text.partition("\n")[0]

    assert enrol("pump")[0] == 200
    assert enrol("pump") == (403, "this device has a certificate")
    assert enrol("meddler")[0] == 500
    (line,) = server.wait_for_log(lambda line: line["event"] == "plugin failed")
    assert (line["plugin"], "AttributeError" in line["detail"]) == ("once", True)


async def test_the_store_of_the_kit_finds_as_the_real_one_does() -> None:
    ca, store = make_root(), FakeStore()
    one = store.record(ca.leaf("pump-1", ("dns:Pump-1.example",)).certificate, ca.certificate)
    two = store.record(
        ca.leaf("pump-2", not_before=datetime(2020, 1, 1, tzinfo=UTC), days=1).certificate, ca.certificate
    )
    valve = ca.leaf("valve").certificate
    gone = store.record(valve, ca.certificate, entity_id="valve", status=CertificateStatus.REVOKED)

    assert await store.search_certificates(subject="PUMP-1") == [one]
    assert await store.search_certificates(subject="pump-1.example") == [one]
    assert set(await store.search_certificates(subject="pump-*")) == {one, two}
    assert await store.search_certificates(subject="pump-*", status="active") == [one]
    assert await store.search_certificates(status="expired") == [two]
    assert await store.search_certificates(status="revoked") == [gone]
    assert await store.search_certificates(serial_hex=gone.serial_hex) == [gone]
    assert await store.search_certificates(subject="pump") == []
    assert await store.search_certificates(entity_id="valve") == [gone]
    assert await store.search_certificates(entity_id="pump") == []
    assert len(await store.search_certificates(limit=2)) == 2
