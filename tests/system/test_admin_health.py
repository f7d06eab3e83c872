"""The admin listener as it stands without a credential: two health pages, and 401 for the rest."""

from __future__ import annotations

import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import closing

import pytest

from kipuka_core.testing.client import basic
from kipuka_core.testing.pki import make_csr
from kipuka_core.testing.server import wait_until
from tests.system.admin_kit import ADMIN_CA, ADMIN_ROOT, admin, json_of, refused_in_handshake
from tests.system.system_kit import PKCS10, System, deploy, serving


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_live_and_ready_need_no_credential(system: System, tls: ssl.TLSVersion) -> None:
    assert json_of(admin(system, tls=tls).request("GET", "health/live"), 200) == {"status": "alive"}
    assert json_of(admin(system, tls=tls).request("GET", "health/ready"), 200) == {"status": "ready", "failing": []}


@pytest.mark.parametrize(
    "path", ["/admin/health", "/admin/cas", "/admin/otp", "/admin/nowhere", "/", "/x", "/admin/health/live/"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer guess"}, {"Authorization": basic("admin", "admin")}])
def test_every_other_path_is_401_in_json(system: System, path: str, method: str, headers: dict[str, str]) -> None:
    error = json_of(admin(system).request(method, path, headers=headers), 401)
    assert error["error"] == "unauthorized"
    assert error["message"]


def test_a_wrong_method_on_a_health_page_is_json_too(system: System) -> None:
    assert json_of(admin(system).request("POST", "health/live"), 405)["error"] == "method_not_allowed"


def test_an_enrolment_certificate_opens_nothing_on_the_admin_port(system: System) -> None:
    leaf = system.enrolled("no-admin")
    assert json_of(admin(system, leaf=leaf).request("GET", "cas"), 401)["error"] == "unauthorized"


@pytest.mark.parametrize("path", ["cacerts", "simpleenroll", "factory/cacerts"])
def test_est_is_not_served_on_the_admin_port(system: System, path: str) -> None:
    token = system.otp("wrong-port")
    headers = {**PKCS10, "Authorization": basic("wrong-port", token)}
    answer = admin(system).request("POST", f"/.well-known/est/{path}", make_csr(common_name="wrong-port"), headers)
    assert json_of(answer, 401)["error"] == "unauthorized"
    assert system.uses(token) == (0, 0)


@pytest.mark.parametrize("path", ["/admin/health/live", "/admin/health/ready", "/admin/cas", "/admin/otp/generate"])
def test_the_admin_api_is_not_served_on_the_est_port(system: System, path: str) -> None:
    system.refused(system.client().request("GET", path), 404)
    system.refused(system.client().request("POST", path, b"{}"), 404)


@pytest.mark.parametrize("how", ["gone", "broken"])
def test_ready_is_503_when_the_database_is_gone_or_broken_and_live_is_not(
    tmp_path_factory: pytest.TempPathFactory, how: str
) -> None:
    deployment = deploy(tmp_path_factory.mktemp("failing") / "deployment")
    with serving(deployment) as failing:
        assert json_of(admin(failing).request("GET", "health/ready"), 200)["status"] == "ready"
        for file in deployment.database.parent.glob("kipuka.db*"):
            file.unlink()
        if how == "broken":
            deployment.database.write_bytes(b"this is no database" * 1000)
        wait_until(lambda: admin(failing).request("GET", "health/ready").status == 503)
        not_ready = json_of(admin(failing).request("GET", "health/ready"), 503)
        assert not_ready == {"status": "not_ready", "failing": ["database"]}
        assert json_of(admin(failing).request("GET", "health/live"), 200) == {"status": "alive"}


def test_a_database_that_fails_is_503_with_retry_after_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with serving(deploy(tmp_path_factory.mktemp("away") / "deployment")) as away:
        token = away.otp("patient")
        csr = make_csr(common_name="patient")
        alter(away, "ALTER TABLE otps RENAME TO otps_away")
        answer = away.client().enrol(csr, user="patient", password=token)
        assert away.refused(answer, 503, "database is away")["code"] == "store_unavailable"
        assert int(answer.headers["retry-after"]) > 0
        alter(away, "ALTER TABLE otps_away RENAME TO otps")
        assert len(away.client().enrol(csr, user="patient", password=token).certificates()) == 1


def alter(system: System, statement: str) -> None:
    with closing(sqlite3.connect(system.deployment.database, timeout=30)) as database, database:
        database.execute(statement)


OWN_TLS = """
[admin.tls]
cert = "admin.pem"
key = "admin.key"
min_version = "1.3"
[admin.client_auth]
trust_anchors = "admin-ca.pem"
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("guarded") / "deployment"
    deployment = deploy(directory, OWN_TLS)
    server = ADMIN_ROOT.server()
    files = {"admin.pem": server.certificate_pem, "admin.key": server.key_pem}
    files |= {"admin-ca.pem": ADMIN_CA.pem, "admin-root.pem": ADMIN_ROOT.pem}
    for name, content in files.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o600)
    with serving(deployment) as running:
        yield running


def test_the_admin_listener_has_a_certificate_and_rules_of_its_own(guarded: System) -> None:
    operator = ADMIN_CA.leaf("ana")
    root = guarded.deployment.directory / "admin-root.pem"
    answer = admin(guarded, root=root, leaf=operator).request("GET", "health/live")
    assert json_of(answer, 200) == {"status": "alive"}
    with pytest.raises(ssl.SSLCertVerificationError):
        admin(guarded, leaf=operator).request("GET", "health/live")
    assert refused_in_handshake(guarded, operator, ssl.TLSVersion.TLSv1_2)
    assert guarded.client(tls=ssl.TLSVersion.TLSv1_2).request("GET", "cacerts").status == 200


def test_client_auth_required_refuses_in_the_handshake_whoever_is_no_administrator(guarded: System) -> None:
    device = guarded.enrolled("no-admin")
    assert refused_in_handshake(guarded, None)
    assert refused_in_handshake(guarded, device)
    assert refused_in_handshake(guarded, ADMIN_ROOT.leaf("by-the-root"))

    def failures() -> set[tuple[str, str, str]]:
        lines = [line for line in guarded.server.log() if line["event"] == "handshake_failed"]
        return {(line["listener"], line["source_address"], line["cause"]) for line in lines}

    expected = {("admin", "127.0.0.1", cause) for cause in ("no_client_certificate", "unknown_ca")}
    wait_until(lambda: failures() >= expected, what=lambda: str(failures()))


def test_the_anchors_of_administrators_are_none_for_devices(guarded: System) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        guarded.client(ADMIN_CA.leaf("ana")).request("GET", "cacerts")
