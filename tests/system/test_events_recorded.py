"""Every request that decides something is one fact: in the audit file, the store and the log (row 15)."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.testing.pki import make_csr, make_root
from kipuka_core.testing.server import wait_until
from tests.system.system_kit import System, deploy, serving


@pytest.mark.parametrize(("tls", "version"), [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")])
@pytest.mark.parametrize("label", ["", "factory"])
def test_an_issued_certificate_is_one_fact_with_who_where_and_what(
    system: System, label: str, tls: ssl.TLSVersion, version: str
) -> None:
    token = system.otp("witnessed")
    csr = make_csr(common_name="witnessed")
    answer = system.client(tls=tls).enrol(csr, user="witnessed", password=token, label=label)
    serial = f"{answer.certificate().serial_number:x}"
    ((request_id,),) = system.rows("SELECT request_id FROM certificates WHERE serial_hex = ?", serial)
    (fact,) = system.facts(request_id)
    time = datetime.fromisoformat(fact.pop("time"))
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=5)
    assert fact == {
        "event": "certificate_issued",
        "request_id": request_id,
        "actor": "witnessed",
        "source_address": "127.0.0.1",
        "tls_version": version,
        "operation": "simpleenroll",
        "authenticator": "otp",
        "ca_id": "default",
        "serial": serial,
        "subject": "CN=witnessed",
        "not_after": answer.certificate().not_valid_after_utc.isoformat(),
        "key_type": "ecdsa256",
    } | ({"label": label} if label else {})
    (line,) = system.server.wait_for_log(lambda each: each.get("request_id") == request_id)
    assert line["event"] == "certificate_issued"


@pytest.mark.parametrize(("tls", "version"), [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")])
@pytest.mark.parametrize("operation", ["simpleenroll", "simplereenroll"])
def test_a_refusal_is_one_fact_with_the_reason_that_the_client_was_told(
    system: System, operation: str, tls: ssl.TLSVersion, version: str
) -> None:
    leaf = system.enrolled("refused", label="factory")
    csr = make_csr(leaf.key, "somebody-else")
    answer = system.client(leaf, tls=tls).enrol(csr, label="factory", operation=operation)
    fact = system.refused(answer, 403 if operation == "simpleenroll" else 400)
    assert (fact["actor"], fact["authenticator"]) == ("refused", "mtls")
    assert (fact["label"], fact["operation"]) == ("factory", operation)
    assert fact["tls_version"] == version
    assert fact["reason"] == answer.text.splitlines()[0]
    (line,) = system.server.wait_for_log(lambda each: each.get("request_id") == fact["request_id"])
    assert {key: line[key] for key in fact} == fact


def test_reading_cacerts_and_csrattrs_is_no_event(system: System) -> None:
    before = len(system.audit())
    for path in ("cacerts", "csrattrs", "factory/csrattrs"):
        assert system.client().request("GET", path).status == 200
    assert len(system.audit()) == before


def test_a_failed_handshake_is_one_fact_with_its_cause_and_the_client_s_address(system: System) -> None:
    client = system.client(make_root("Nobody").leaf("stranger"))
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        socket.create_connection(("127.0.0.1", system.server.est_port), 60, ("127.0.0.77", 0)) as plain,
        client.context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.recv(1)  # under TLS 1.3 the client learns of it only now
    # Written last, after log and audit file.
    wait_until(lambda: bool(system.rows("SELECT body FROM events WHERE body LIKE '%127.0.0.77%'")))
    (line,) = [line for line in system.server.log() if line.get("source_address") == "127.0.0.77"]
    (fact,) = [fact for fact in system.audit() if fact.get("source_address") == "127.0.0.77"]
    assert {key: line[key] for key in fact} == fact
    assert (fact["event"], fact["listener"], fact["cause"], fact["count"]) == (
        "handshake_failed",
        "est",
        "unknown_ca",
        1,
    )
    assert "add its issuer to trust_anchors" in fact["reason"]


def test_an_audit_file_that_cannot_be_written_stops_issuance(tmp_path: Path) -> None:
    toml = '[[audit.sink]]\nuse = "jsonl"\npath = "/dev/full"\n'
    with serving(deploy(tmp_path / "deployment", toml)) as mute:
        token = mute.otp("unheard")
        csr = make_csr(common_name="unheard")
        answer = mute.client().enrol(csr, user="unheard", password=token)
        assert answer.status == 503
        assert "audit log" in answer.text
        assert "retry-after" in answer.headers
        assert mute.issued_to("unheard") == 0
        assert mute.uses(token) == (0, 0)
        assert mute.client().request("GET", "cacerts").status == 200


def test_a_server_certificate_without_cmc_ra_is_a_warning_at_start_and_in_check(tmp_path: Path) -> None:
    deployment = deploy(tmp_path / "deployment")
    root = make_root("Web Root CA")
    plain = root.leaf("localhost", ["dns:localhost"], eku=[ExtendedKeyUsageOID.SERVER_AUTH])
    for name, content in {"web.pem": plain.certificate_pem, "web.key": plain.key_pem}.items():
        (deployment.directory / "tls" / name).write_bytes(content)
        (deployment.directory / "tls" / name).chmod(0o600)
    toml = deployment.toml.read_text(encoding="utf-8")
    assert "cmcRA" not in deployment.kipuka("check").stdout
    deployment.toml.write_text(toml.replace("tls/server.", "tls/web."), encoding="utf-8")
    checked = deployment.kipuka("check")
    assert "cmcRA" in checked.stdout + checked.stderr
    with serving(deployment) as running:
        assert [line for line in running.server.log() if "cmcRA" in line.get("warning", "")]
