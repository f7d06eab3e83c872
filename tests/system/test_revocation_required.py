"""Mode required: a revoked certificate gets nothing, by a new, a kept or a resumed connection; and administrators."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kipuka_core.testing.client import EstClient
from kipuka_core.testing.pki import Authority, Leaf, make_csr, make_root
from kipuka_core.testing.server import wait_until
from tests.edges.revocation.revocation_kit import (
    Responding,
    crl_der,
    http_site,
    openssl_responder,
    responder_leaf,
)
from tests.system.system_kit import VENDOR, RawConnection, System, deploy, head, serving

pytestmark = pytest.mark.long

ROOT = make_root("Fleet Root CA")
FLEET = ROOT.subordinate("Fleet CA")
BOTH = pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


def required(directory: Path, toml: str, *, workers: int = 1) -> Any:
    """A deployment where every connection needs a certificate below the fleet's root."""
    deployment = deploy(directory)
    (directory / "fleet.pem").write_bytes(ROOT.pem)
    deployment.configure(toml, workers=workers, client_auth='mode = "required"\ntrust_anchors = "fleet.pem"\n')
    return deployment


def status(system: System, leaf: Leaf, path: str = "cacerts", *, tls: ssl.TLSVersion | None = None) -> int | None:
    """What a new connection gets; None: the server ends it without an answer."""
    try:
        return system.client(leaf, tls=tls).request("GET", path).status
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return None


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    deployment = required(
        tmp_path_factory.mktemp("fleet") / "d",
        '[revocation]\ncheck = "crl"\ncrls = ["root.crl", "fleet.crl"]',
        workers=2,
    )
    (deployment.directory / "root.crl").write_bytes(crl_der(ROOT))
    (deployment.directory / "fleet.crl").write_bytes(crl_der(FLEET))
    with serving(deployment) as running:
        yield running


def publish(system: System, *revoked: Leaf) -> None:
    (system.deployment.directory / "fleet.crl").write_bytes(crl_der(FLEET, *revoked))
    system.deployment.kipuka("reload")


@BOTH
def test_a_revoked_certificate_gets_nothing(fleet: System, tls: ssl.TLSVersion) -> None:
    good, bad = FLEET.leaf("good"), FLEET.leaf("bad")
    publish(fleet, bad)
    for path in ("cacerts", "csrattrs", "nowhere"):
        assert status(fleet, bad, path, tls=tls) is None
        assert status(fleet, good, path, tls=tls) in {200, 204, 404}


@BOTH
def test_a_kept_connection_loses_its_rights_at_a_reload(fleet: System, tls: ssl.TLSVersion) -> None:
    leaf = FLEET.leaf("kept")
    publish(fleet)
    client = fleet.client(leaf, tls=tls)
    kept = client.connect()
    try:
        assert client.request("GET", "cacerts", connection=kept).status == 200
        publish(fleet, leaf)
        fact = fleet.refused(client.request("GET", "cacerts", connection=kept), 401, "revoked")
        assert fact["code"] == "certificate_revoked"
        fleet.refused(client.enrol(make_csr(common_name="kept"), connection=kept), 401, "revoked")
    finally:
        kept.close()


def test_a_crl_that_cannot_be_read_fails_the_reload_and_the_old_one_stays(fleet: System) -> None:
    good, bad = FLEET.leaf("good"), FLEET.leaf("bad")
    publish(fleet, bad)
    (fleet.deployment.directory / "fleet.crl").write_bytes(b"half a CRL")
    outcome = fleet.deployment.kipuka("reload", check=False)
    assert outcome.returncode != 0
    assert "fleet.crl holds no CRL that can be read, PEM or DER" in outcome.stdout + outcome.stderr
    assert (status(fleet, good), status(fleet, bad)) == (200, None)
    assert fleet.audit()[-1]["event"] == "tls_reload_failed"
    publish(fleet)


def test_an_intermediate_that_is_revoked_takes_its_devices_along(fleet: System) -> None:
    leaf = FLEET.leaf("below")
    publish(fleet)
    assert status(fleet, leaf) == 200
    root_crl = fleet.deployment.directory / "root.crl"
    root_crl.write_bytes(crl_der(ROOT, FLEET.certificate.serial_number))
    fleet.deployment.kipuka("reload")
    assert status(fleet, leaf) is None
    root_crl.write_bytes(crl_der(ROOT))
    fleet.deployment.kipuka("reload")
    assert status(fleet, leaf) == 200


@BOTH
def test_kept_and_resumed_connections_lose_their_rights_when_the_answer_is_too_old(
    tmp_path: Path, tls: ssl.TLSVersion
) -> None:
    leaf = VENDOR.leaf("watched")
    serial = leaf.certificate.serial_number
    with openssl_responder(tmp_path / "ocsp", VENDOR, {serial: "V"}, signer=responder_leaf(VENDOR)) as responder:
        deployment = required(
            tmp_path / "d", f'[revocation]\ncheck = "ocsp"\nresponder = "{responder.url}"\ncache_ttl = "2s"'
        )
        (deployment.directory / "fleet.pem").write_bytes(VENDOR.pem)
        with serving(deployment) as system, RawConnection(system, leaf=leaf, tls=tls) as kept:
            kept.send(head("GET", "cacerts"))
            assert kept.answer().status == 200
            context, session = kept.socket.context, kept.socket.session
            assert session is not None
            assert resumed_status(system, context, session) == 200
            responder.say({serial: "R"})

            def is_refused() -> bool:
                kept.send(head("GET", "cacerts"))
                return kept.answer().status == 401

            wait_until(is_refused)
            assert resumed_status(system, context, session) is None
            assert status(system, leaf, tls=tls) is None


def resumed_status(system: System, context: ssl.SSLContext, session: ssl.SSLSession) -> int | None:
    """What a connection that resumes a session gets."""
    plain = socket.create_connection(("127.0.0.1", system.server.est_port), timeout=60)
    with context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
        assert tls.session_reused
        try:
            tls.sendall(head("GET", "cacerts", "Connection: close"))
            answer = tls.recv(100)
        except (ssl.SSLError, ConnectionError):
            return None
    return int(answer.split()[1]) if answer else None


@pytest.mark.parametrize("soft_fail", ["true", "false"])
def test_an_unknown_status_is_refused_unless_soft_fail_is_set(tmp_path: Path, soft_fail: str) -> None:
    with http_site() as site:
        revoked = FLEET.leaf("revoked")
        toml = f'[revocation]\ncheck = "ocsp-then-crl"\nresponder = "{site.url("/")}"\nsoft_fail = {soft_fail}'
        site.pages["/"] = lambda body: answer_about(revoked, body)
        with serving(required(tmp_path / "d", toml)) as system:
            assert status(system, revoked) is None
            assert status(system, FLEET.leaf("unknown")) == (200 if soft_fail == "true" else None)


def answer_about(leaf: Leaf, request_der: bytes) -> bytes:
    """That this one is revoked, whatever was asked."""
    serials = frozenset({leaf.certificate.serial_number})
    return Responding(authority=FLEET, revoked=serials).answer(leaf.certificate, request_der)


# -- administrators ----------------------------------------------------------------------------------------------------
ADMINS: Authority = make_root("Admins CA")
ADMIN_TOML = '[revocation]\ncheck = "crl"\ncrls = "admins.crl"\n[admin.client_auth]\ntrust_anchors = "admins.pem"\n'


def test_the_admin_listener_refuses_a_revoked_administrator(tmp_path: Path) -> None:
    ana, ben = ADMINS.leaf("Ana"), ADMINS.leaf("Ben")
    deployment = deploy(tmp_path / "d", ADMIN_TOML)
    (deployment.directory / "admins.pem").write_bytes(ADMINS.pem)
    file = deployment.directory / "admins.crl"
    file.write_bytes(crl_der(ADMINS, ben))
    with serving(deployment) as system:
        assert admin_status(system, ana) == 200
        assert admin_status(system, ben) == 401
        kept = admin_client(system, ana)
        connection = kept.connect()
        try:
            assert kept.request("GET", "health", connection=connection).status == 200
            file.write_bytes(crl_der(ADMINS, ana))
            deployment.kipuka("reload")
            assert kept.request("GET", "health", connection=connection).status == 401
        finally:
            connection.close()
        assert (admin_status(system, ana), admin_status(system, ben)) == (401, 200)
        codes = [fact["code"] for fact in system.audit() if fact["event"] == "admin_refused"]
        assert codes == ["certificate_revoked"] * 3
        file.write_bytes(crl_der(VENDOR))
        deployment.kipuka("reload")
        assert admin_status(system, ana) == 503


def admin_client(system: System, leaf: Leaf) -> EstClient:
    directory = system.deployment.directory
    port, root = system.server.admin_port, system.deployment.root_pem
    return EstClient(port, root, leaf=leaf, directory=directory, base_path="/admin")


def admin_status(system: System, leaf: Leaf) -> int:
    return int(admin_client(system, leaf).request("GET", "health").status)
