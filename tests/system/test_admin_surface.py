"""The admin surface from its contract alone: every route, its names, its statuses; and who is let in nowhere."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.testing.pki import Leaf, make_csr
from kipuka_core.testing.server import wait_until
from tests.system.admin_kit import ANA, BEN
from tests.system.admin_site import OPERATOR, VIEWER, AdminSite, admin_site, hex_serial, json_body


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminSite]:
    with admin_site(tmp_path_factory.mktemp("surface")) as running:
        yield running


OTP = {"id", "entity_id", "label", "expires_at", "max_usage", "usage_count", "created_at"}
MADE = {"id", "token", "entity_id", "expires_at", "max_usage", "label"}
CERTIFICATE = {"serial", "subject", "sans", "ca_id", "label", "identity", "issued_at", "expires_at", "status"}
DETAILS = CERTIFICATE | {"pem", "key_algorithm", "revocation_reason", "revoked_at"}


def moment(text: str) -> datetime:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text), text
    return datetime.fromisoformat(text)


# -- one-time passwords ------------------------------------------------------------------------------------------------
def test_a_password_is_made_shown_once_listed_used_and_withdrawn(site: AdminSite) -> None:
    made = site.post("otp/generate", {"entity_id": "pump-1"}, 201)
    assert set(made) == MADE
    assert (made["entity_id"], made["max_usage"], made["label"]) == ("pump-1", 1, None)
    assert abs(moment(made["expires_at"]) - datetime.now(UTC) - timedelta(hours=24)) < timedelta(minutes=5)
    (listed,) = site.get("otp?entity_id=pump-1")
    assert set(listed) == OTP
    assert made["token"] not in json.dumps(site.get("otp?all=1"))
    assert (listed["id"], listed["usage_count"]) == (made["id"], 0)

    assert site.enrol(make_csr(common_name="pump-1"), "pump-1", made["token"]).status == 200
    assert site.get("otp?entity_id=pump-1") == []
    (used,) = site.get("otp?entity_id=pump-1&all=1")
    assert used["usage_count"] == 1

    other = site.post(
        "otp/generate", {"entity_id": "pump-2", "ttl_seconds": 60, "max_usage": 3, "label": "factory"}, 201
    )
    assert (other["max_usage"], other["label"]) == (3, "factory")
    assert moment(other["expires_at"]) < datetime.now(UTC) + timedelta(seconds=70)
    for _ in range(2):
        assert json_body(site.ask("DELETE", f"otp/{other['id']}"), 204) is None
    assert json_body(site.ask("DELETE", "otp/0000"), 404)["error"] == "not_found"
    assert site.enrol(make_csr(common_name="pump-2"), "pump-2", other["token"], "factory").status == 401
    (withdrawn,) = site.get("otp?entity_id=pump-2&all=1")
    assert moment(withdrawn["revoked_at"]) <= datetime.now(UTC)
    (event,) = site.facts(event="otp_revoked", target=other["id"])
    assert (event["actor"], event["entity_id"]) == ("token:operator", "pump-2")


def test_a_batch_is_json_or_csv_in_and_out_and_all_or_nothing(site: AdminSite) -> None:
    wanted = [{"entity_id": "batch-1"}, {"entity_id": "batch-2", "label": "", "max_usage": 2}]
    made = site.post("otp/batch", wanted, 201)
    assert [(set(each), each["entity_id"], each["label"]) for each in made] == [
        (MADE, "batch-1", None),
        (MADE, "batch-2", ""),
    ]
    sheet = 'entity_id,ttl_seconds,label,subject_pattern\r\nbatch-3,60,,\r\n"batch, 4",,factory,b.*\r\n'
    answer = site.ask(
        "POST", "otp/batch", sheet.encode(), headers={"Content-Type": "text/csv; charset=utf-8", "Accept": "text/csv"}
    )
    assert answer.status == 201
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["entity_id"] for row in rows] == ["batch-3", "batch, 4"]
    assert set(rows[0]) >= MADE
    assert site.enrol(make_csr(common_name="batch-3"), "batch-3", rows[0]["token"]).status == 200
    assert site.post("otp/batch", sheet.encode(), 201, headers={"Content-Type": "text/csv"})[0]["token"]

    before = len(site.get("otp?all=1"))
    for bad, field in (
        ([{"entity_id": "fine"}, {"entity_id": "a:b"}], "[1].entity_id"),
        ([{"entity_id": "fine"}, {"entity_id": "x", "label": "none"}], "[1].label"),
        ([{"entity_id": "fine"}, {"entity_id": "x", "subject_pattern": "("}], "[1].subject_pattern"),
        ([{"entity_id": "fine"}, {"ttl_seconds": 5}], "[1].entity_id"),
        ({"entity_id": "fine"}, ""),
    ):
        assert field in site.post("otp/batch", bad, 422)["message"]
    for sheet, status, words in (
        ("entity_id\na:b\n", 422, "row 2: entity_id"),
        ("entity_id\nfine\nx,y\n", 422, "row 3"),
        ("entity_id,colour\nfine,red\n", 422, "row 2: colour"),
        ("entity_id,max_usage\nfine,many\n", 422, "row 2: max_usage"),
        ("colour\nred\n", 422, "entity_id"),
        ("", 422, "first row"),
    ):
        refused = site.post("otp/batch", sheet.encode(), status, headers={"Content-Type": "text/csv"})
        assert words in refused["message"]
    assert site.post("otp/batch", b"entity_id\n\xff\n", 400, headers={"Content-Type": "text/csv"})
    assert len(site.get("otp?all=1")) == before
    assert len(site.facts(event="otp_created", target="batch-1")) == 1


def test_a_password_bound_to_a_pattern_is_for_those_names_and_no_others(site: AdminSite) -> None:
    made = site.otp("line-7", max_usage=9, subject_pattern=r"{id}-\d+(\.plant\.example)?")
    assert made["subject_pattern"] == r"{id}-\d+(\.plant\.example)?"
    for names, status in (
        (("line-7-1", ()), 200),
        (("line-7-2", ("dns:line-7-2.plant.example",)), 200),
        (("line-7", ()), 403),
        (("line-7-3", ("dns:line-7-3.office.example",)), 403),
        (("line-8-1", ()), 403),
    ):
        common_name, san = names
        for label in ("", "open"):
            answer = site.enrol(make_csr(common_name=common_name, san=san), "line-7", made["token"], label)
            assert answer.status == status, (names, label, answer.text)
    (event,) = site.facts(event="otp_created", target="line-7")
    assert event["subject_pattern"] == made["subject_pattern"]


def test_records_of_ended_passwords_are_removed_and_the_audit_keeps_them(site: AdminSite) -> None:
    made = site.otp("ended")
    site.ask("DELETE", f"otp/{made['id']}")
    assert "ended_before" in site.post("otp/cleanup", {"ended_before": "2999-01-01T00:00:00Z"}, 422)["message"]
    soon = (datetime.now(UTC) - timedelta(milliseconds=1)).isoformat()
    assert site.post("otp/cleanup", {"ended_before": soon})["removed"] >= 1
    assert site.get("otp?entity_id=ended&all=1") == []
    assert [each["event"] for each in site.facts(target=made["id"])] == ["otp_revoked", "otp_created"]
    assert site.facts(event="otps_removed")[0]["actor"] == "token:operator"


# -- certificates ------------------------------------------------------------------------------------------------------
def test_certificates_are_found_by_every_filter(site: AdminSite) -> None:
    leaf = site.enrolled("valve-1", label="factory", san=("dns:valve-1",))
    (found,) = site.get("certs?identity=valve-1")
    assert set(found) == CERTIFICATE
    assert found["serial"] == hex_serial(leaf)
    assert (found["subject"], found["sans"]) == ("CN=valve-1", ["dns:valve-1"])
    assert (found["ca_id"], found["label"], found["status"]) == ("default", "factory", "active")
    assert moment(found["expires_at"]) == leaf.certificate.not_valid_after_utc
    soon = "2099-01-01T00:00:00Z"
    for filters in (
        "ca_id=default", "status=active", "subject=valve-1", "subject=VALVE*", f"serial={found['serial']}",
        f"serial=00:{found['serial'].upper()}", "label=factory", f"expires_before={soon}",
        "expires_after=2020-01-01T00:00:00Z", "ca_id=default&label=factory&subject=valve-*",
    ):  # fmt: skip
        assert found in site.get(f"certs?{filters}"), filters
    for filters in (
        "ca_id=none", "status=expired", "status=revoked", "subject=valve", "serial=1", "label=", "identity=valve",
        f"expires_after={soon}", "expires_before=2020-01-01T00:00:00Z", "label=factory&subject=pump*",
    ):  # fmt: skip
        assert found not in site.get(f"certs?{filters}"), filters


def test_pages_follow_one_another_by_link(site: AdminSite) -> None:
    for number in range(5):
        site.enrolled(f"page-{number}")
    answer = site.ask("GET", "certs?subject=page-*&limit=2")
    seen = []
    while True:
        assert answer.headers["x-total-count"] == "5"
        seen += [each["identity"] for each in json.loads(answer.body)]
        link = re.fullmatch(r'<(/admin/certs\?\S+)>; rel="next"', answer.headers.get("link", ""))
        if link is None:
            break
        answer = site.ask("GET", link[1])
    assert seen == [f"page-{number}" for number in range(5)]
    assert [each["identity"] for each in site.get("certs?subject=page-*&limit=2&offset=3")] == ["page-3", "page-4"]
    newest = site.get("certs?limit=3")
    assert [each["identity"] for each in newest] == ["page-4", "page-3", "page-2"]
    for bad in (
        "limit=0",
        "limit=1001",
        "offset=10001",
        "offset=-1",
        "after=x",
        "status=gone",
        "limit=1&limit=2",
        "x=1",
    ):
        refused = site.get(f"certs?{bad}", 400)
        assert refused["error"] == "invalid_parameter"
        assert bad.partition("=")[0] in refused["message"]


def test_one_certificate_is_shown_and_exported(site: AdminSite) -> None:
    leaf = site.enrolled("shown")
    serial = hex_serial(leaf)
    shown = site.get(f"certs/{serial}")
    assert set(shown) >= DETAILS
    assert (shown["revocation_reason"], shown["revoked_at"], shown["key_algorithm"]) == (None, None, "ecdsa256")
    assert x509.load_pem_x509_certificate(shown["pem"].encode()) == leaf.certificate
    assert site.get(f"certs/{serial.upper()}?ca_id=default") == shown
    for way in ("?format=der", ""):
        answer = site.ask("GET", f"certs/{serial}{way}", headers={"Accept": "application/pkix-cert"} if not way else {})
        assert answer.headers["content-type"] == "application/pkix-cert"
        assert answer.body == leaf.certificate.public_bytes(Encoding.DER)
    pem = site.ask("GET", f"certs/{serial}?format=pem")
    assert (pem.headers["content-type"], pem.text) == ("application/x-pem-file", shown["pem"])
    chain = site.ask("GET", f"certs/{serial}", headers={"Accept": "application/pem-certificate-chain"})
    assert x509.load_pem_x509_certificates(chain.body) == [
        leaf.certificate,
        site.system.issuing_ca,
        site.system.root_ca,
    ]
    assert site.get("certs/1", 404)["error"] == "not_found"
    assert site.get(f"certs/{serial}?ca_id=other", 404)
    assert site.get(f"certs/{serial}?format=xml", 400)


def test_a_serial_that_two_cas_have_used_is_409_until_one_is_named(site: AdminSite) -> None:
    leaf = site.enrolled("twice")
    serial = hex_serial(leaf)
    with sqlite3.connect(site.system.deployment.database, timeout=30) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(certificates)") if row[1] != "id"]
        values = {"issuer_key_id": "'other'", "ca_id": "'former'", "request_id": "NULL"}
        picked = ", ".join(values.get(column, column) for column in columns)
        database.execute(
            f"INSERT INTO certificates ({', '.join(columns)}) SELECT {picked} FROM certificates WHERE serial_hex = ?",
            (serial,),
        )
    database.close()
    for refused in (site.get(f"certs/{serial}", 409), site.post(f"certs/{serial}/revoke", {}, 409)):
        assert refused["error"] == "ambiguous"
        assert "default, former" in refused["message"]
    assert site.get(f"certs/{serial}?ca_id=former")["ca_id"] == "former"
    assert site.post(f"certs/{serial}/revoke?ca_id=former", {"reason": 4}, 204) is None
    assert site.get(f"certs/{serial}?ca_id=default")["status"] == "active"
    assert site.get(f"certs/{serial}?ca_id=former&format=chain", 404)


@pytest.mark.parametrize("reason", [0, 1, 2, 3, 4, 5, 9, 10, "keyCompromise", "superseded", "aACompromise"])
def test_revoking_is_204_also_the_second_time_and_keeps_the_first_reason(site: AdminSite, reason: int | str) -> None:
    leaf = site.enrolled(f"revoked-{reason}")
    path = f"certs/{hex_serial(leaf)}"
    assert site.post(f"{path}/revoke", {"reason": reason}, 204) is None
    revoked = site.get(path)
    assert site.post(f"{path}/revoke", {"reason": "cessationOfOperation"}, 204) is None
    assert site.get(path) == revoked
    assert revoked["status"] == "revoked"
    assert re.fullmatch("[a-zA-Z]+", revoked["revocation_reason"])
    assert moment(revoked["revoked_at"]) <= datetime.now(UTC)
    assert site.system.client(leaf).reenrol(make_csr(leaf.key, f"revoked-{reason}")).status == 401
    (event,) = site.facts(event="certificate_revoked", target=hex_serial(leaf))
    assert (event["actor"], event["reason"]) == ("token:operator", revoked["revocation_reason"])
    assert site.post(f"{path}/release", None, 409)["error"] == "not_on_hold"


def test_hold_is_released_or_made_final(site: AdminSite) -> None:
    leaf = site.enrolled("held")
    path, csr = f"certs/{hex_serial(leaf)}", make_csr(leaf.key, "held")
    for _ in range(2):
        assert site.post(f"{path}/revoke", {"reason": 6}, 204) is None
    assert site.get(path)["revocation_reason"] == "certificateHold"
    assert site.system.client(leaf).reenrol(csr).status == 401
    assert site.post(f"{path}/release", None, 204) is None
    assert site.get(path)["status"] == "active"
    assert site.system.client(leaf).reenrol(csr).status == 200
    assert site.post(f"{path}/revoke", {"reason": "certificateHold"}, 204) is None
    assert site.post(f"{path}/revoke", {"reason": "keyCompromise"}, 204) is None
    assert site.get(path)["revocation_reason"] == "keyCompromise"
    assert site.post(f"{path}/release", None, 409)
    names = [each["event"] for each in site.facts(target=hex_serial(leaf))]
    assert [name for name in names if name != "certificate_issued"] == [
        "certificate_revoked", "certificate_revoked", "certificate_released", "certificate_revoked",
    ]  # fmt: skip


@pytest.mark.parametrize("reason", [7, 8, 11, -1, "KeyCompromise", "", "removeFromCRL", 1 << 70])
def test_what_is_no_reason_is_400(site: AdminSite, reason: Any) -> None:
    serial = site.get("certs?limit=1")[0]["serial"]
    assert site.post(f"certs/{serial}/revoke", {"reason": reason}, 400)["error"] == "invalid_reason"
    assert site.post("certs/revoke", {"query": {"serial": serial}, "reason": reason}, 400)["error"] == "invalid_reason"


def test_many_are_revoked_by_what_they_have_in_common_after_a_dry_run(site: AdminSite) -> None:
    for number in range(4):
        site.enrolled(f"recall-{number}", label="factory")
    kept = site.enrolled("keep", label="factory")
    wanted = {"query": {"subject": "recall-*", "label": "factory"}, "reason": "superseded"}
    would = site.post("certs/revoke", wanted)
    assert (would["dry_run"], would["count"], would["remaining"]) == (True, 4, 0)
    assert [each["identity"] for each in would["sample"]] == [f"recall-{number}" for number in range(4)]
    assert len(site.get("certs?subject=recall-*&status=active")) == 4
    first = site.post("certs/revoke", {**wanted, "dry_run": False, "limit": 1})
    assert (first["dry_run"], first["count"], first["remaining"]) == (False, 1, 3)
    assert site.post("certs/revoke", {**wanted, "dry_run": False})["count"] == 3
    assert site.post("certs/revoke", {**wanted, "dry_run": False})["count"] == 0
    assert {each["status"] for each in site.get("certs?subject=recall-*")} == {"revoked"}
    assert site.get(f"certs/{hex_serial(kept)}")["status"] == "active"
    assert len([each for each in site.facts(event="certificate_revoked") if each["reason"] == "superseded"]) >= 4
    for bad, field in (({"query": {}}, "query"), ({}, "query"), ({"query": {"colour": "red"}}, "query.colour")):
        assert field in site.post("certs/revoke", {**bad, "dry_run": False}, 422)["message"]


# -- lockouts ----------------------------------------------------------------------------------------------------------
def test_a_lockout_is_seen_and_lifted(site: AdminSite) -> None:
    site.lock_out("locked")
    token = site.otp("locked")["token"]
    csr = make_csr(common_name="locked")
    assert site.enrol(csr, "locked", token).status == 429
    (lockout,) = [each for each in site.get("lockouts") if each["entity_id"] == "locked"]
    assert set(lockout) == {"scope", "address", "entity_id", "locked_until"}
    assert (lockout["scope"], lockout["address"]) == ("pair", "127.0.0.1")
    assert moment(lockout["locked_until"]) > datetime.now(UTC)
    for wrong in ("address=127.0.0.1", "address=127.0.0.1&entity_id=x", "address=::1&entity_id=locked"):
        assert json_body(site.ask("DELETE", f"lockouts?{wrong}"), 404)["error"] == "not_found"
    assert json_body(site.ask("DELETE", "lockouts?entity_id=locked"), 400)["error"] == "invalid_parameter"
    assert json_body(site.ask("DELETE", "lockouts?address=127.0.0.1&entity_id=locked"), 204) is None
    assert [each for each in site.get("lockouts") if each["entity_id"] == "locked"] == []
    (event,) = site.facts(event="lockout_lifted", target="locked")
    assert (event["actor"], event["address"]) == ("token:operator", "127.0.0.1")

    answers = []

    def served() -> bool:
        answers.append(site.enrol(csr, "locked", token).status)  # another process: within a second
        return answers[-1] == 200

    wait_until(served, what=lambda: f"the lifted lockout to be heard of: {answers}")


# -- waiting requests --------------------------------------------------------------------------------------------------
REQUEST = {
    "id", "state", "operation", "label", "identity", "authenticator", "subject", "sans", "key_algorithm", "reason",
    "source_address", "created_at", "decided_at", "ca_id", "ca_reference", "asked_at", "next_poll_at", "held",
}  # fmt: skip


def waiting(site: AdminSite, entity: str, **otp: Any) -> tuple[bytes, str, dict[str, Any]]:
    csr, token = make_csr(common_name=entity), site.otp(entity, **otp)["token"]
    answer = site.enrol(csr, entity, token, "slow")
    assert (answer.status, answer.headers["retry-after"]) == (202, "60")
    (found,) = [each for each in site.get("requests") if each["identity"] == entity]
    return csr, token, found


def test_a_request_waits_is_shown_with_every_verdict_approved_and_fetched(site: AdminSite) -> None:
    csr, token, found = waiting(site, "patient")
    assert set(found) == REQUEST
    assert (found["state"], found["label"], found["subject"]) == ("waiting", "slow", "CN=patient")
    shown = site.get(f"requests/{found['id']}")
    assert {key: shown[key] for key in REQUEST} == found
    assert [(each["policy"], each["verdict"]) for each in shown["trace"]] == [
        ("keys", "allow"), ("names", "allow"), ("extensions", "allow"), ("validity", "allow"), ("approval", "wait"),
    ]  # fmt: skip
    assert shown["refusal"] is None
    assert shown["would_issue"]["subject"] == "CN=patient"
    assert x509.load_pem_x509_csr(shown["csr_pem"].encode()).public_bytes(Encoding.DER) == csr

    approved = site.post(f"requests/{found['id']}/approve")
    certificate = x509.load_pem_x509_certificate(approved["pem"].encode())
    assert (approved["state"], approved["serial"]) == ("issued", f"{certificate.serial_number:x}")
    assert site.enrol(csr, "patient", token, "slow").certificate() == certificate
    assert len(site.get("certs?identity=patient")) == 1
    decided = site.get(f"requests/{found['id']}")
    assert (decided["state"], decided["trace"]) == ("issued", [])
    assert x509.load_pem_x509_certificate(decided["certificate_pem"].encode()) == certificate
    for what, body in (("approve", None), ("reject", {})):
        assert site.post(f"requests/{found['id']}/{what}", body, 409)["error"] == "already_decided"
    assert site.post(f"requests/{found['id']}/settle", {"certificate": None}, 409)["error"] == "not_at_ca"
    assert site.post(f"requests/{found['id']}/settle", {"certificate": "no PEM"}, 422)["error"]
    (event,) = site.facts(event="request_decided", target=found["id"])
    assert (event["actor"], event["decision"], event["entity_id"]) == ("token:operator", "approved", "patient")


def test_a_rejected_request_is_refused_with_the_reason_and_its_password_is_free(site: AdminSite) -> None:
    csr, token, found = waiting(site, "rejected")
    assert "reason" in site.post(f"requests/{found['id']}/reject", {"reason": "two\nlines"}, 422)["message"]
    assert site.post(f"requests/{found['id']}/reject", {"reason": "nobody ordered this"}, 204) is None
    answer = site.enrol(csr, "rejected", token, "slow")
    assert (answer.status, answer.text.splitlines()[0]) == (403, "nobody ordered this")
    assert site.enrol(make_csr(common_name="rejected"), "rejected", token).status == 200
    assert site.get("requests?state=refused")[0]["reason"] == "nobody ordered this"
    assert found["id"] in [each["id"] for each in site.get("requests?state=all")]
    assert found["id"] not in [each["id"] for each in site.get("requests")]
    site.post(f"requests/{found['id']}/settle", {"certificate": None}, 204)  # the same may be asked anew
    assert site.enrol(csr, "rejected", site.otp("rejected")["token"], "slow").status == 202
    (line,) = [fact for fact in site.system.audit() if fact.get("decision") == "rejected"]
    assert (line["actor"], line["reason"]) == ("token:operator", "nobody ordered this")


def test_a_pattern_waits_with_its_request(site: AdminSite) -> None:
    token = site.otp("line-9", subject_pattern=r"line-9-\d")["token"]
    csr = make_csr(common_name="line-9-4")
    assert site.enrol(csr, "line-9", token, "slow").status == 202
    assert site.enrol(make_csr(common_name="other"), "line-9", token, "slow").status in {403, 503}
    (found,) = [each for each in site.get("requests") if each["identity"] == "line-9"]
    site.post(f"requests/{found['id']}/approve")
    assert site.enrol(csr, "line-9", token, "slow").status == 200


def test_a_request_that_is_not_there_is_404(site: AdminSite) -> None:
    for method, path in (("GET", ""), ("POST", "/approve")):
        assert json_body(site.ask(method, f"requests/none{path}"), 404)["error"] == "not_found"
    assert site.post("requests/none/reject", {}, 404)
    assert site.post("requests/none/settle", {"certificate": None}, 404)


# -- audit and the document --------------------------------------------------------------------------------------------
def test_facts_are_found_by_event_actor_target_and_time(site: AdminSite) -> None:
    leaf = site.enrolled("audited")
    page = site.get(f"audit?target={hex_serial(leaf)}")
    assert set(page) == {"events", "total"}
    assert page["total"] == 1
    assert page["events"][0]["event"] == "certificate_issued"
    assert [each["event"] for each in site.facts(target="audited")] == ["certificate_issued", "otp_created"]
    assert {each["actor"] for each in site.facts(actor="token:operator")} == {"token:operator"}
    assert site.facts(since="2099-01-01T00:00:00Z") == []
    assert site.facts(until="2020-01-01T00:00:00Z") == []
    whole = site.get("audit?limit=1")
    assert (len(whole["events"]), whole["total"] > 1) == (1, True)
    assert site.get("audit?limit=1&offset=1")["events"] != whole["events"]
    for bad in (
        "since=yesterday",
        "since=5",
        "limit=9999",
        "until=2020-01-01T00:00:00",
        "until=0001-01-01T00:00%2B23:59",
    ):
        assert bad.partition("=")[0] in site.get(f"audit?{bad}", 400)["message"]


def test_the_document_describes_every_route(site: AdminSite) -> None:
    document = site.get("openapi.json")
    assert document["openapi"].startswith("3.1")
    named = {
        "health": "get", "health/db": "get", "health/hsm": "get", "health/ca": "get", "health/live": "get",
        "health/ready": "get", "cas": "get", "cas/{ca_id}": "get", "cas/{ca_id}/health": "get",
        "cas/{ca_id}/chain": "get", "cas/{ca_id}/crl": "get", "otp/generate": "post", "otp/batch": "post",
        "otp/{otp_id}": "delete", "certs": "get", "certs/{serial}": "get", "certs/{serial}/revoke": "post",
        "certs/{serial}/release": "post", "certs/revoke": "post", "requests": "get", "requests/{request_id}": "get",
        "requests/{request_id}/approve": "post", "requests/{request_id}/reject": "post", "audit": "get",
        "requests/{request_id}/settle": "post",
        "plugins": "get", "openapi.json": "get",
    }  # fmt: skip
    for path, method in named.items():
        assert method in document["paths"][f"/admin/{path}"], path
    assert set(document["paths"]["/admin/lockouts"]) == {"get", "delete"}
    assert "get" in document["paths"]["/admin/otp"]


# -- who is let in nowhere ---------------------------------------------------------------------------------------------
def operations(site: AdminSite) -> list[tuple[str, str]]:
    """Every operation of the document that needs a credential."""
    paths = site.get("openapi.json")["paths"]
    return [
        (method.upper(), re.sub(r"\{\w+\}", "1", path))
        for path, methods in paths.items()
        for method, operation in methods.items()
        if operation["security"]
    ]


def test_nobody_without_a_right_gets_anywhere(site: AdminSite) -> None:
    """Route by route: no credential, a wrong token, a device's certificate, and one who may look."""
    device = site.enrolled("a-device")
    every = operations(site)
    assert len(every) > 25
    before = len(site.system.rows("SELECT 1 FROM otps"))
    for leaf, token in ((BEN, None), (None, VIEWER)):
        site.post("otp/generate", {"entity_id": "a"}, 403, leaf=leaf, token=token)
    callers: list[tuple[str, Leaf | None, str | None]] = [
        ("nobody", None, None),
        ("a wrong token", None, "x" * 40),
        ("a device", device, None),
    ]
    for method, path in every:
        for who, leaf, token in callers:
            answer = site.ask(method, path, leaf=leaf, token=token)
            assert answer.status == 401, (who, method, path, answer.text)
            assert json_body(answer, 401)["error"] == "unauthorized"
            assert "Bearer" in answer.headers["www-authenticate"]
        for leaf, token in ((BEN, None), (None, VIEWER)):
            answer = site.ask(method, path, leaf=leaf, token=token)
            if method != "GET":
                assert json_body(answer, 403)["error"] == "forbidden", (method, path)
            else:
                assert answer.status not in {401, 403}, (method, path, answer.text)
    assert len(site.system.rows("SELECT 1 FROM otps")) == before
    refused = [fact for fact in site.system.audit() if fact["event"] == "admin_refused"]
    assert {"no_credential", "wrong_token", "enrolment_certificate", "viewer"} <= {fact["code"] for fact in refused}
    assert {fact.get("actor") for fact in refused if fact["code"] == "viewer"} == {"CN=Ben,O=Example", "token:eye"}


def test_a_token_counts_beside_a_certificate_and_a_wrong_one_takes_nothing_away(site: AdminSite) -> None:
    assert site.post("otp/generate", {"entity_id": "by-ana"}, 201, leaf=ANA, token=None)
    (event,) = site.facts(event="otp_created", target="by-ana")
    assert event["actor"] == "CN=Ana,O=Example"
    assert site.post("otp/generate", {"entity_id": "x"}, 403, leaf=ANA, token=VIEWER)["error"] == "forbidden"
    assert site.post("otp/generate", {"entity_id": "x"}, 201, leaf=BEN, token=OPERATOR)
    assert site.get("cas", leaf=BEN, token="y" * 40)


def test_no_token_and_no_password_is_in_log_or_audit(site: AdminSite) -> None:
    made = site.otp("secretive")
    site.ask("GET", "cas", token="z" * 40)
    log = site.system.server.log_file.read_text(encoding="utf-8")
    audit = site.system.deployment.audit_log.read_text(encoding="utf-8")
    for secret in (made["token"], OPERATOR, VIEWER, "z" * 40):
        assert secret not in log
        assert secret not in audit


# -- requests that are not what they should be -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 422, "entity_id"),
        (b"{", 400, "not JSON"),
        (b"\xff", 400, "not JSON"),
        (b'{"entity_id": "\\ud800"}', 400, "not JSON"),
        (b"[]", 422, "object"),
        (b"null", 422, ""),
        (b'{"entity_id": 5}', 422, "entity_id"),
        (b'{"entity_id": "a", "ttl_seconds": "60"}', 422, "ttl_seconds"),
        (b'{"entity_id": "a", "ttl_seconds": 0}', 422, "ttl_seconds"),
        (b'{"entity_id": "a", "ttl_seconds": 1e300}', 422, "ttl_seconds"),
        (b'{"entity_id": "a", "max_usage": true}', 422, "max_usage"),
        (b'{"entity_id": "a", "max_usage": -1}', 422, "max_usage"),
        (b'{"entity_id": "a", "colour": "purple"}', 422, "colour"),
        (b'{"entity_id": "a:b"}', 422, "entity_id"),
        (b'{"entity_id": ""}', 422, "entity_id"),
        (b'{"entity_id": "\\u202e"}', 422, "entity_id"),
        (b'{"entity_id": "a", "label": "nowhere"}', 422, "label"),
        (b'{"entity_id": "a", "subject_pattern": "(?P<"}', 422, "subject_pattern"),
        (b"{" * 100_000, 400, "not JSON"),
    ],
)
def test_a_wrong_body_names_its_field(site: AdminSite, body: bytes, status: int, words: str) -> None:
    refused = site.post("otp/generate", body, status, headers={"Content-Type": "application/json"})
    assert words in refused["message"]
    assert "purple" not in refused["message"]


def test_other_media_types_and_other_sites_are_refused(site: AdminSite) -> None:
    for media_type in (
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data; boundary=x",
        "text/csv",
    ):
        refused = site.post("otp/generate", b'{"entity_id": "a"}', 415, headers={"Content-Type": media_type})
        assert "application/json" in refused["message"]
    for headers in (
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
    ):  # fmt: skip
        assert site.post("certs/1/release", None, 403, leaf=ANA, token=None, headers=headers)["error"] == "forbidden"
        assert site.get("cas", leaf=ANA, token=None, headers=headers)
    port = site.system.server.admin_port
    own = {"Origin": f"https://localhost:{port}", "Sec-Fetch-Site": "same-origin"}
    assert site.post("certs/1/release", None, 404, leaf=ANA, token=None, headers=own)


def test_too_much_is_refused(site: AdminSite) -> None:
    assert json_body(
        site.ask("POST", "otp/batch", b"[" + b" " * (1 << 20) + b"]", headers={"Content-Type": "application/json"}), 413
    )
    too_many = [{"entity_id": "a"}] * 10_001
    assert site.post("otp/batch", too_many, 422)
    assert site.post("otp/batch", [], 201) == []
