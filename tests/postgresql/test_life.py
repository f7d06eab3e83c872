"""A device's life with a server whose database is PostgreSQL, and what administrators see and do of it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from kipuka_core.testing.pki import Leaf, make_csr, make_key
from kipuka_core.testing.server import wait_until
from tests.postgresql.cluster import PASSWORD, URL_PASSWORD, Cluster
from tests.postgresql.nodes import Node, make_nodes, one_node, serving_nodes
from tests.system.admin_site import hex_serial
from tests.system.status_kit import is_on_crl, status_of

pytestmark = [pytest.mark.interop, pytest.mark.long]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, postgresql: Cluster) -> Iterator[Node]:
    with one_node(tmp_path_factory.mktemp("life"), postgresql) as running:
        yield running


def test_enrolled_renewed_revoked(node: Node) -> None:
    token = node.otp("pump-1")
    key = make_key()
    csr = make_csr(key, "pump-1", ["dns:pump-1"])
    first = node.client().enrol(csr, user="pump-1", password=token)
    device = Leaf(first.certificate(), key)
    again = node.client().enrol(csr, user="pump-1", password=token)
    assert again.certificate() == device.certificate  # a lost answer
    other = node.client().enrol(make_csr(common_name="pump-1"), user="pump-1", password=token)
    node.refused(other, 401, "used up")
    assert node.uses(token) == (1, 0)

    renewed = Leaf(node.client(device).reenrol(csr).certificate(), key)
    assert node.issued_to("pump-1") == 2
    assert status_of(node, renewed.certificate) == "GOOD"
    assert not is_on_crl(node, renewed.certificate.serial_number)
    node.site.post(f"certs/{hex_serial(renewed)}/revoke", {"reason": "keyCompromise"}, 204)
    assert status_of(node, renewed.certificate) == "REVOKED"
    assert is_on_crl(node, renewed.certificate.serial_number)
    node.refused(node.client(renewed).reenrol(csr), 401, "revoked")
    node.client(device).reenrol(csr).certificate()


def test_a_request_that_waits_is_approved_and_another_rejected(node: Node) -> None:
    for name, decision, decided, status in (("slow-1", "approve", 200, 200), ("slow-2", "reject", 204, 403)):
        token, key = node.otp(name), make_key()
        csr = make_csr(key, name)
        assert node.site.enrol(csr, name, token, "slow").status == 202
        assert node.site.enrol(csr, name, token, "slow").status == 202
        assert node.uses(token) == (0, 1)
        (waiting,) = [each["id"] for each in node.site.get("requests?state=waiting") if each["identity"] == name]
        node.site.post(f"requests/{waiting}/{decision}", {}, decided)
        answer = node.site.enrol(csr, name, token, "slow")
        assert answer.status == status, answer.text
        assert node.uses(token) == ((1, 0) if status == 200 else (0, 0))


def pages(node: Node, path: str, query: dict[str, str], limit: int = 4) -> list[dict[str, Any]]:
    """What every page of a search holds, one after the other."""
    found: list[dict[str, Any]] = []
    address: str | None = f"{path}?{urlencode({**query, 'limit': str(limit)})}"
    while address is not None:
        answer = node.site.ask("GET", address)
        body = json.loads(answer.body)
        items = body["events"] if path == "audit" else body
        assert len(items) <= limit
        found += items
        link = re.search(r'<([^>]+)>; rel="next"', answer.headers.get("link", ""))
        assert link is None or len(items) == limit
        address = link[1] if link else None
    return found


def serials_of(node: Node, query: dict[str, str], limit: int = 4) -> list[str]:
    return [each["serial"] for each in pages(node, "certs", query, limit)]


def test_every_filter_finds_its_certificates_page_by_page(node: Node) -> None:
    # In the order of people é stands beside e, and upper case beside lower case; bytes say otherwise.
    names = [
        f"{word}-{number}" for word in ("zeta", "alpha", "Älpler", "énergie", "Alpha-Z", "_x", "9") for number in (1, 2)
    ]
    serials = {}
    for name in names:
        serials[name] = hex_serial(node.site.enrolled(name, label="factory"))
    revoked = serials["zeta-2"]
    node.site.post(f"certs/{revoked}/revoke", {"reason": "superseded"}, 204)
    later = f"{datetime.now(UTC) + timedelta(days=3650):%Y-%m-%dT%H:%M:%SZ}"
    expected: list[tuple[dict[str, str], set[str]]] = [
        ({"label": "factory"}, set(names)),
        ({"label": "factory", "status": "active"}, set(names) - {"zeta-2"}),
        ({"label": "factory", "status": "revoked"}, {"zeta-2"}),
        ({"label": "factory", "status": "expired"}, set()),
        ({"label": "factory", "expires_before": later}, set(names)),
        ({"label": "factory", "expires_after": later}, set()),
        ({"identity": "alpha-1"}, {"alpha-1"}),
        ({"serial": serials["énergie-2"]}, {"énergie-2"}),
        ({"subject": "ALPHA*"}, {"alpha-1", "alpha-2", "Alpha-Z-1", "Alpha-Z-2"}),
        ({"subject": "é*"}, {"énergie-1", "énergie-2"}),
        ({"subject": "ä*", "ca_id": "default"}, {"Älpler-1", "Älpler-2"}),
        ({"subject": "*", "label": "factory"}, set(names)),
    ]
    for query, wanted in expected:
        found = serials_of(node, query)
        assert sorted(found) == sorted(serials[name] for name in wanted), query
    by_name = [
        next(name for name in names if serials[name] == each)
        for each in serials_of(node, {"subject": "*", "label": "factory"}, 3)
    ]
    assert [name.lower() for name in by_name] == sorted(name.lower() for name in names)


def test_facts_and_passwords_are_found_page_by_page(node: Node) -> None:
    for number in range(5):
        token = node.otp("many")
        assert node.site.enrol(make_csr(common_name="many"), "many", token, "slow").status == 202, number
    for path, query in (
        ("otp", {"entity_id": "many"}),
        ("audit", {"event": "otp_created"}),
        ("requests", {"state": "all"}),
    ):
        whole = pages(node, path, query, 1000)
        assert pages(node, path, query, 2) == whole
        assert len(whole) >= 5


@pytest.mark.parametrize("path", ["certs", "otp", "requests", "audit"])
@pytest.mark.parametrize("text", ["%00", "a%00b", "%F0%9F%92%A1", "'%3B--", "x" * 3000])
def test_odd_words_in_a_search_find_nothing_and_break_nothing(node: Node, path: str, text: str) -> None:
    for name in (
        "subject",
        "identity",
        "label",
        "serial",
        "ca_id",
        "entity_id",
        "actor",
        "target",
        "event",
        "after",
        "state",
    ):
        assert node.site.ask("GET", f"{path}?{name}={text}").status in {200, 400}, name


def test_odd_names_of_clients_are_refused_as_anybody(node: Node) -> None:
    for name in ("x" * 3000, "💡", "'; DROP TABLE otps; --"):
        answer = node.client().enrol(make_csr(common_name="device"), user=name, password="guess")
        assert answer.status in {401, 429}, (name, answer.text)


def test_lockouts_and_metrics(node: Node) -> None:
    node.site.lock_out("locked")
    assert ("127.0.0.1", "locked") in {(each["address"], each["entity_id"]) for each in node.site.get("lockouts")}
    health = node.site.get("health")
    assert (health["status"], health["database"]["name"]) == ("healthy", "postgresql")
    assert 'kipuka_store_queue{queue="lookups"}' in node.site.ask("GET", "metrics").text


def test_the_audit_trail_is_whole_and_nothing_holds_the_password(node: Node) -> None:
    verified = node.deployment.kipuka("audit", "verify")
    assert verified.stdout.startswith("whole: "), verified.stdout
    texts = [
        node.server.log_file.read_text(),
        node.deployment.audit_log.read_text(),
        json.dumps(node.site.get("health")),
    ]
    for text in texts:
        assert PASSWORD not in text
        assert URL_PASSWORD not in text


def test_commands_work_beside_the_server(node: Node) -> None:
    token = node.deployment.otp("by-command")
    certificate = (
        node.client().enrol(make_csr(common_name="by-command"), user="by-command", password=token).certificate()
    )
    serial = f"{certificate.serial_number:x}"
    for words in (("otp", "list"), ("certs", "list"), ("requests", "list"), ("lockouts", "list"), ("audit", "list")):
        node.deployment.kipuka(*words)
    assert serial in node.deployment.kipuka("certs", "list", "--subject", "by-comm*").stdout
    node.deployment.kipuka("certs", "revoke", serial, "--reason", "superseded")
    assert status_of(node, certificate) == "REVOKED"
    refused = node.deployment.kipuka("backup", "backup.tar.gz", check=False)
    assert refused.returncode == 1
    assert "pg_dump" in refused.stderr
    doctor = node.deployment.kipuka("doctor", check=False)
    assert "Traceback" not in doctor.stdout + doctor.stderr


def test_old_records_leave_for_the_archive_once(tmp_path: Path, postgresql: Cluster) -> None:
    toml = '[retention]\ncertificates = "30d"\notps = "7d"\nevents = "365d"\nrequests = "1d"\ninterval = "1s"\n'
    with postgresql.fresh() as database:
        deployments = make_nodes(tmp_path, postgresql, database, toml=toml, count=2)
        with serving_nodes(deployments, postgresql, database) as nodes:
            first = nodes[0]
            for number in range(3):
                first.enrolled(f"device-{number}")
            year = 366 * 86_400_000_000
            postgresql.execute(
                f"UPDATE certificates SET not_after = not_after - 3 * {year}::bigint WHERE entity_id <> 'device-2';"
                f"UPDATE otps SET expires_at = expires_at - {year}::bigint WHERE entity_id <> 'device-2'",
                database,
            )
            wait_until(lambda: first.rows("SELECT entity_id FROM certificates") == [("device-2",)])
            wait_until(lambda: first.rows("SELECT entity_id FROM otps") == [("device-2",)])
            wait_until(lambda: len(first.rows("SELECT 1 FROM events WHERE name = 'records_archived'")) >= 2)
        archived = [
            json.loads(line)["entity_id"]
            for node in deployments
            for file in (node.directory / "state" / "archive").glob("certificates-*.jsonl.gz")
            for line in gzip.decompress(file.read_bytes()).splitlines()
        ]
    assert sorted(archived) == ["device-0", "device-1"]
