"""The audit trail of a running server: refusals that are gathered, sinks that fail and return, and its verification."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from kipuka_core.testing.pki import make_csr
from kipuka_core.testing.server import wait_until
from tests.system.system_kit import deploy, serving

pytestmark = pytest.mark.long


def test_refusals_of_nobody_known_are_gathered_and_those_of_a_device_are_not(tmp_path: Path) -> None:
    deployment = deploy(tmp_path / "deployment", "[audit]\nanonymous_in_full = 3\n")
    with serving(deployment) as system:
        device = system.enrolled("known")
        for _ in range(8):
            assert system.client().request("GET", "nowhere").status == 404
            assert system.client(device).enrol(make_csr(common_name="another")).status == 403
    refused = [fact for fact in system.audit() if fact["event"] == "enrolment_refused"]
    anonymous = [fact for fact in refused if "actor" not in fact]
    assert [fact["count"] for fact in anonymous] == [1, 1, 1, 5]
    assert [fact["count"] for fact in refused if fact.get("actor") == "known"] == [1] * 8
    assert len(system.rows("SELECT 1 FROM events WHERE name = 'enrolment_refused'")) == 12
    assert len([line for line in system.server.log() if line["event"] == "enrolment_refused"]) == 12


def test_a_required_sink_that_fails_stops_issuance_until_it_is_back(tmp_path: Path) -> None:
    deployment = deploy(tmp_path / "deployment", '[[audit.sink]]\npath = "log/audit.jsonl"\n')
    directory = deployment.directory / "log"
    directory.mkdir()
    with serving(deployment) as system:
        token = system.otp("patient")
        csr = make_csr(common_name="patient")
        away = directory.rename(deployment.directory / "away")
        answer = system.client().enrol(csr, user="patient", password=token)
        assert answer.status == 503
        assert (system.issued_to("patient"), system.uses(token)) == (0, (0, 0))
        away.rename(directory)
        assert len(system.client().enrol(csr, user="patient", password=token).certificates()) == 1
        names = [name for (name,) in system.rows("SELECT name FROM events ORDER BY id")]
        assert names.index("audit_sink_failed") < names.index("audit_sink_restored") < names.index("certificate_issued")


def test_workers_that_are_killed_leave_a_trail_that_is_whole_and_damage_to_it_is_told(tmp_path: Path) -> None:
    deployment = deploy(tmp_path / "deployment", workers=2)
    with serving(deployment) as system:
        for number in range(3):
            system.enrolled(f"device-{number}")
            before = system.server.worker_pids()
            os.kill(before["est-1"], signal.SIGKILL)
            wait_until(lambda before=before: system.server.worker_pids()["est-1"] != before["est-1"])  # type: ignore[misc]
        while_it_serves = deployment.kipuka("audit", "verify")
        assert while_it_serves.stdout.startswith("whole: ") or "unanchored" in while_it_serves.stdout
    moved = deployment.audit_log.with_name("audit.jsonl.1")
    deployment.audit_log.rename(moved)
    with serving(deployment) as system:
        system.enrolled("after")
    assert deployment.kipuka("audit", "verify").stdout.splitlines()[-1].startswith("whole: ")
    lines = moved.read_bytes().splitlines(keepends=True)
    moved.write_bytes(b"".join([*lines[:4], lines[4].replace(b'"event"', b'"Event"'), *lines[5:]]))
    verified = deployment.kipuka("audit", "verify", "--json", check=False)
    assert verified.returncode == 1
    result = json.loads(verified.stdout)
    assert not result["whole"]
    (finding,) = [finding for finding in result["findings"] if finding["damage"]]
    assert (finding["kind"], Path(finding["file"]).name, finding["line"]) == ("changed", "audit.jsonl.1", 5)
    shown = deployment.kipuka("audit", "verify", str(moved), str(deployment.audit_log), check=False)
    assert shown.returncode == 1
    assert "audit.jsonl.1:5: changed: " in shown.stdout
    assert shown.stdout.splitlines()[-1].startswith("DAMAGED: 1 findings in ")


def test_verify_says_what_it_lacks(tmp_path: Path) -> None:
    deployment = deploy(tmp_path / "deployment")
    without_key = deployment.kipuka("audit", "verify", check=False)
    assert without_key.returncode == 1
    assert "audit.key: the key of the audit trail cannot be read" in without_key.stderr
    with serving(deployment):
        pass
    deployment.audit_log.unlink()
    gone = deployment.kipuka("audit", "verify", check=False)
    assert gone.returncode == 1
    assert "there is no audit file: " in gone.stderr
