"""``[tls] material = "self"`` in real processes: one certificate for all, renewed while they serve."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509

from kipuka_core.model.fingerprints import serial_hex
from kipuka_core.testing.client import EstClient
from kipuka_core.testing.server import Deployment, RunningServer, make_deployment, running_server, wait_until
from tests.startup.starting import check, serve
from tests.tls_settings.settings_kit import NO_CONNECTION, RawConnection, client_context

pytestmark = pytest.mark.long


def deploy(
    directory: Path, *, names: str = '["localhost", "127.0.0.1"]', more: str = "", workers: int = 2
) -> Deployment:
    """What ``kipuka init`` makes, then edited as docs/tls.md says; there is no other server certificate."""
    deployment = make_deployment(directory)
    for file in (directory / "tls").iterdir():
        file.unlink()
    (directory / "site-root.pem").write_bytes(deployment.root_pem.read_bytes())
    toml = f"""
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
state_dir = "state"
workers = {workers}
[tls]
material = "self"
[tls.self]
names = {names}
{more}
[tls.client_auth]
trust_anchors = "state/ca/root.pem"
"""
    deployment.toml.write_text(toml, encoding="utf-8")
    return deployment


def served(port: int, deployment: Deployment) -> x509.Certificate:
    """The certificate that a client of this port gets to see, verified under the root of the own CA."""
    raw = RawConnection(port, client_context(deployment.directory))
    try:
        raw.connect()
        der = raw.tls.getpeercert(binary_form=True)
    finally:
        raw.close()
    assert der is not None
    return x509.load_der_x509_certificate(der)


def on_record(deployment: Deployment) -> list[str]:
    """Serials of every certificate of the server itself, oldest first."""
    with closing(sqlite3.connect(f"file:{deployment.database}?mode=ro", uri=True, timeout=30)) as database:
        rows = database.execute("SELECT serial_hex FROM certificates WHERE entity_id = 'kipuka-server' ORDER BY id")
        return [serial for (serial,) in rows]


def served_by_all(server: RunningServer) -> set[str]:
    """Serials that new connections see; so many that each worker has its turn."""
    ports = [server.est_port] * 20 + [server.admin_port]
    return {serial_hex(served(port, server.deployment)) for port in ports}


def revoke(deployment: Deployment, serial: str) -> None:
    deployment.kipuka("certs", "revoke", serial)


def test_the_first_start_has_one_certificate_issued_for_all_processes(tmp_path: Path) -> None:
    deployment = deploy(tmp_path)
    with running_server(deployment) as server:
        first = served_by_all(server)
        assert EstClient(server.est_port, deployment.root_pem).request("GET", "cacerts").status == 200
    assert list(first) == on_record(deployment)
    with running_server(deployment) as server:
        assert served_by_all(server) == first
    assert list(first) == on_record(deployment)


def test_a_renewed_one_is_served_by_all_without_a_reload_and_cuts_no_connection(tmp_path: Path) -> None:
    deployment = deploy(tmp_path)
    with running_server(deployment) as server:
        kept = RawConnection(server.est_port, client_context(tmp_path))
        assert kept.ask("GET", "/.well-known/est/cacerts") == 200
        (first,) = on_record(deployment)
        revoke(deployment, first)
        wait_until(lambda: len(on_record(deployment)) == 2)
        (_, second) = on_record(deployment)
        wait_until(lambda: served_by_all(server) == {second})
        server.wait_for_log(lambda line: line["event"] == "renewed certificate served", count=3)
        assert kept.ask("GET", "/.well-known/est/cacerts") == 200
        kept.close()
    assert len(on_record(deployment)) == 2


def test_a_renewal_and_reloads_at_the_same_time_end_with_the_new_one(tmp_path: Path) -> None:
    deployment = deploy(tmp_path)
    with running_server(deployment) as server:
        (first,) = on_record(deployment)
        revoke(deployment, first)

        def reloaded_once_more() -> bool:
            server.process.send_signal(signal.SIGHUP)
            return len(on_record(deployment)) == 2

        wait_until(reloaded_once_more)
        (_, second) = on_record(deployment)
        wait_until(lambda: served_by_all(server) == {second})
    assert len(on_record(deployment)) == 2


def test_a_worker_that_starts_again_serves_the_same(tmp_path: Path) -> None:
    deployment = deploy(tmp_path)
    with running_server(deployment) as server:
        before = server.worker_pids()
        os.kill(before["est-1"], signal.SIGKILL)
        wait_until(lambda: server.worker_pids()["est-1"] != before["est-1"])
        assert [*served_by_all(server)] == on_record(deployment)


def test_the_server_s_certificate_is_no_client_certificate(tmp_path: Path) -> None:
    deployment = deploy(tmp_path, workers=1)
    with running_server(deployment) as server:
        context = client_context(tmp_path)
        pair = tmp_path / "state" / "tls-self" / "current"
        context.load_cert_chain(pair, pair)
        raw = RawConnection(server.est_port, context)
        assert raw.ask("GET", "/.well-known/est/cacerts") == NO_CONNECTION
        raw.close()


def test_check_issues_nothing_and_says_what_a_start_would_do(tmp_path: Path) -> None:
    deployment = deploy(tmp_path)
    outcome = check(deployment)
    assert outcome.code == 0, outcome.stderr
    assert (
        "the next start has a server certificate for localhost, 127.0.0.1 issued: there is none yet" in outcome.stdout
    )
    assert not (tmp_path / "state" / "tls-self").exists()
    assert not deployment.database.exists()
    assert not deployment.audit_log.exists()


@pytest.mark.parametrize(
    ("names", "more", "says"),
    [
        ("[]", "", "tls.self.names: must not be empty"),
        ('["a b"]', "", "tls.self.names: 'a b' is neither a DNS name nor an IP address"),
        ('["a.example"]', 'ca = "nobody"', "tls.self.ca: nobody: there is no [[ca]] with this id; known: default"),
        ('["a.example"]', 'key_type = "ed448"', "tls.self.key_type: the key of a TLS server is one of rsa2048"),
        ('["a.example"]', "validity = 3", 'tls.self.validity: unknown key; did you mean "validity_days"?'),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_with_its_key(tmp_path: Path, names: str, more: str, says: str) -> None:
    deployment = deploy(tmp_path, names=names, more=more)
    assert check(deployment).only_line().startswith(says)


def test_a_server_that_can_have_no_certificate_does_not_start_and_says_why(tmp_path: Path) -> None:
    deployment = deploy(tmp_path)
    (tmp_path / "state" / "tls-self").write_text("in the way")
    line = serve(deployment).only_line()
    directory = tmp_path / "state" / "tls-self"
    assert line == f"tls.self: the server certificate is not issued: {directory}: cannot be written: File exists"


def test_certificate_files_beside_it_are_an_error(tmp_path: Path) -> None:
    deployment = deploy(tmp_path)
    toml = deployment.toml.read_text(encoding="utf-8")
    deployment.toml.write_text(toml.replace("[tls.self]", 'cert = "a.pem"\n[tls.self]'), encoding="utf-8")
    assert check(deployment).only_line() == 'tls.cert: has no effect, because material is "self"; remove it'
