"""``hypercorn kipuka_core:app``: the same application without kipuka's own supervisor and listener."""

from __future__ import annotations

import base64
import http.client
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from kipuka_core.edges.tls.exporter import export_channel_binding
from kipuka_core.testing.client import write_leaf
from kipuka_core.testing.pki import Leaf, make_csr
from kipuka_core.testing.server import Deployment, RunningServer, wait_until
from tests.system.system_kit import System, deploy

pytestmark = pytest.mark.long

_numbers = count()
CONFIGURED = ("-c", "python:kipuka_core.hypercorn_config")
Running = tuple[System, str]


def start(deployment: Deployment, log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "hypercorn", *arguments, "kipuka_core:app"],
            cwd=deployment.directory,
            env={**os.environ, "KIPUKA_CONFIG": str(deployment.toml)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


@contextmanager
def hypercorn(deployment: Deployment, *arguments: str) -> Iterator[Running]:
    """Run hypercorn; the server, and the scheme that it says it speaks."""
    log = deployment.directory / "hypercorn.log"
    process = start(deployment, log, *arguments)
    running: list[tuple[str, str]] = []

    def serves() -> bool:
        text = log.read_text(encoding="utf-8")
        assert process.poll() is None, text
        running[:] = re.findall(r"Running on (https?)://127\.0\.0\.1:(\d+)", text)
        return bool(running)

    try:
        wait_until(serves, what=lambda: log.read_text(encoding="utf-8"))
        scheme, port = running[0]
        yield System(deployment, RunningServer(deployment, process, log, int(port), 0)), scheme
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="module", params=["asyncio-1", "asyncio-2", "uvloop-1", "uvloop-2"])
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    loop, _, workers = request.param.partition("-")
    deployment = deploy(tmp_path_factory.mktemp("plain") / "deployment", workers=int(workers))
    with hypercorn(deployment, *CONFIGURED, "-k", loop) as (system, scheme):
        assert scheme == "https"
        yield system


def test_a_certificate_by_an_own_ca_serves_too(tmp_path: Path) -> None:
    deployment = deploy(tmp_path / "deployment", workers=2)
    toml = deployment.toml.read_text(encoding="utf-8")
    own = 'material = "self"\n[tls.self]\nnames = ["localhost", "127.0.0.1"]\n'
    deployment.toml.write_text(toml.replace('cert = "tls/server.pem"\nkey = "tls/server.key"\n', own), encoding="utf-8")
    with hypercorn(deployment, *CONFIGURED) as (system, scheme):
        assert scheme == "https"
        assert system.client().request("GET", "cacerts").status == 200
        assert system.issued_to("kipuka-server") == 1


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_device_enrols_and_renews(plain: System, tls: ssl.TLSVersion) -> None:
    entity = f"plain-{next(_numbers)}"
    assert set(plain.client(tls=tls).request("GET", "cacerts").certificates()) == {plain.issuing_ca, plain.root_ca}
    leaf = plain.enrolled(entity)
    csr = make_csr(leaf.key, entity)
    renewed = plain.client(leaf, tls=tls).reenrol(csr).certificate()
    assert renewed.subject == leaf.certificate.subject
    fact = plain.refused(plain.client(tls=tls).reenrol(csr), 401)
    assert fact["tls_version"] == {ssl.TLSVersion.TLSv1_2: "TLSv1.2"}.get(tls, "TLSv1.3")
    assert plain.issued_to(entity) == 2


def test_a_device_renews_over_http_2(plain: System, tmp_path: Path) -> None:
    entity = f"plain-{next(_numbers)}"
    leaf = plain.enrolled(entity)
    (tmp_path / "csr").write_bytes(base64.encodebytes(make_csr(leaf.key, entity)))
    certificate, key = write_leaf(leaf, tmp_path)
    command = ["curl", "-sS", "--http2", "--cacert", str(plain.deployment.root_pem), "--cert", str(certificate)]
    command += ["--key", str(key), "-H", "Content-Type: application/pkcs10", "--data-binary", f"@{tmp_path / 'csr'}"]
    command += ["-w", "%{http_version} %{http_code} %{num_connects}\\n"]
    for connects in (1, 0):
        command += ["-o", str(tmp_path / f"out-{connects}"), f"{plain.server.est_url}/simplereenroll"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["2 200 1", "2 200 0"]
    assert plain.issued_to(entity) == 3


def test_no_connection_is_taken_for_another(plain: System) -> None:
    entities = [f"plain-{next(_numbers)}" for _ in range(3)]
    leaves: list[Leaf | None] = [*map(plain.enrolled, entities), None]
    clients = [plain.client(leaf) for leaf in leaves]
    connections = [client.connect() for client in clients]
    try:
        for _ in range(5):
            for client, connection, leaf in zip(clients, connections, leaves, strict=True):
                csr = make_csr(leaf.key if leaf else None, subject=leaf.certificate.subject if leaf else None)
                answer = client.enrol(csr, operation="simplereenroll", connection=connection)
                assert answer.status == (200 if leaf else 401)
    finally:
        for connection in connections:
            connection.close()
    assert [plain.issued_to(entity) for entity in entities] == [6, 6, 6]


@pytest.mark.parametrize("right", [True, False])
def test_channel_binding_is_verified(plain: System, right: bool) -> None:
    entity = f"plain-{next(_numbers)}"
    token, client = plain.otp(entity), plain.client(tls=ssl.TLSVersion.TLSv1_3)
    connection = client.connect()
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        binding = export_channel_binding(connection.sock) if right else b"\0" * 32  # type: ignore[arg-type]
        csr = make_csr(common_name=entity, challenge_password=base64.b64encode(binding))
        answer = client.enrol(csr, user=entity, password=token, connection=connection)
    finally:
        connection.close()
    if right:
        assert len(answer.certificates()) == 1
    else:
        assert plain.refused(answer, 400)["code"] == "channel_binding_mismatch"


def test_another_program_that_opens_and_closes_the_database_takes_nothing_away(plain: System) -> None:
    entity = f"plain-{next(_numbers)}"
    token = plain.deployment.otp(entity)
    assert plain.client().request("GET", "cacerts").status == 200
    assert plain.deployment.database.with_name("kipuka.db-wal").exists()
    assert len(plain.client().enrol(make_csr(common_name=entity), user=entity, password=token).certificates()) == 1
    assert entity in plain.deployment.kipuka("certs", "list").stdout


def test_a_revoked_certificate_is_refused(plain: System) -> None:
    entity = f"plain-{next(_numbers)}"
    leaf = plain.enrolled(entity)
    plain.deployment.kipuka("certs", "revoke", f"{leaf.certificate.serial_number:x}")
    plain.refused(plain.client(leaf).reenrol(make_csr(leaf.key, entity)), 401, "revoked")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deploy(tmp_path_factory.mktemp("unseen") / "deployment")


def test_without_tls_every_answer_is_503_and_says_how_to_start(deployment: Deployment) -> None:
    with hypercorn(deployment, "--bind", "127.0.0.1:0") as (system, scheme):
        assert scheme == "http"
        for method, path in (("GET", "cacerts"), ("POST", "simpleenroll"), ("GET", "csrattrs")):
            connection = http.client.HTTPConnection("127.0.0.1", system.server.est_port, timeout=60)
            connection.request(method, f"/.well-known/est/{path}", b"MII=" if method == "POST" else None)
            response = connection.getresponse()
            text = response.read().decode()
            connection.close()
            assert response.status == 503
            assert response.getheader("content-type") == "text/plain; charset=utf-8"
            assert "`kipuka serve`" in text
            assert "hypercorn -c python:kipuka_core.hypercorn_config kipuka_core:app" in text


def test_with_hypercorns_own_tls_no_client_can_be_seen_and_every_answer_is_503(deployment: Deployment) -> None:
    tls = ("--certfile", "tls/server.pem", "--keyfile", "tls/server.key")
    with hypercorn(deployment, "--bind", "127.0.0.1:0", *tls) as (system, scheme):
        assert scheme == "https"
        token = system.otp("unseen")
        answer = system.client().enrol(make_csr(common_name="unseen"), user="unseen", password=token)
        assert answer.status == 503
        assert "`kipuka serve`" in answer.text
        assert system.uses(token) == (0, 0)


@pytest.mark.parametrize("arguments", [CONFIGURED, ("--bind", "127.0.0.1:0")])
@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ("[enrolment]\nrequire_san = true", 'did you mean "enrollment"?'),
        ('[auth]\norder = ["nobody"]', "nobody"),
        ("[enrollment]\nallowed_key_types = []", "enrollment.allowed_key_types"),
    ],
)
def test_a_wrong_configuration_ends_it_with_the_line_that_says_what_to_change(
    tmp_path: Path, arguments: tuple[str, ...], toml: str, line: str
) -> None:
    wrong = deploy(tmp_path / "deployment", toml)
    log = tmp_path / "log"
    process = start(wrong, log, *arguments)
    try:
        process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    told = wrong.kipuka("check", check=False).stderr.strip().splitlines()[-1]
    problem = told.partition("error: ")[2] or told
    assert line in problem
    assert problem in log.read_text(encoding="utf-8")
