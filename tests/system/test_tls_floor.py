"""TLS 1.0 and 1.1 (RFC 8996) cannot be had by any setting or environment."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kipuka_core.config import load
from kipuka_core.errors import KipukaError
from kipuka_core.testing.server import Deployment, RunningServer, make_deployment, running_server, wait_until

pytestmark = pytest.mark.long

OLD = ("-tls1_1", "-tls1")
OPENSSL_CNF = """
openssl_conf = everything
[everything]
ssl_conf = modules
[modules]
system_default = weak
[weak]
MinProtocol = TLSv1
CipherString = DEFAULT@SECLEVEL=0
Options = UnsafeLegacyRenegotiation
"""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    deployment = make_deployment(tmp_path_factory.mktemp("floor") / "deployment")
    (deployment.directory / "openssl.cnf").write_text(OPENSSL_CNF)
    return deployment


@pytest.fixture(scope="module")
def environment(deployment: Deployment) -> dict[str, str]:
    """What an operator, or somebody else, could try."""
    return {"OPENSSL_CONF": str(deployment.directory / "openssl.cnf")}


@pytest.fixture(scope="module")
def server(deployment: Deployment, environment: dict[str, str]) -> Iterator[RunningServer]:
    with running_server(deployment, environment=environment) as server:
        yield server


def client_says(port: int, *options: str, suites: str = "DEFAULT@SECLEVEL=0") -> str:
    """A client that would take anything."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options, "-cipher", suites],
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("version", OLD)
def test_this_client_and_this_environment_do_speak_the_old_versions(
    deployment: Deployment, environment: dict[str, str], version: str
) -> None:
    port = free_port()
    command = [
        "openssl",
        "s_server",
        "-www",
        "-accept",
        f"127.0.0.1:{port}",
        "-cert",
        "tls/server.pem",
        "-key",
        "tls/server.key",
    ]
    with subprocess.Popen(
        command,
        cwd=deployment.directory,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as s_server:
        try:
            wait_until(lambda: answers(port))
            said = client_says(port, version)
        finally:
            s_server.kill()
    assert f"Protocol  : {version.replace('-tls1_1', 'TLSv1.1').replace('-tls1', 'TLSv1')}" in said
    assert "Cipher is ECDHE-ECDSA" in said


@pytest.mark.parametrize("listener", ["est_port", "admin_port"])
@pytest.mark.parametrize("version", OLD)
def test_the_server_refuses_them_whatever_openssl_cnf_says(server: RunningServer, listener: str, version: str) -> None:
    said = client_says(getattr(server, listener), version)
    assert "alert protocol version" in said
    assert "Cipher is (NONE)" in said


@pytest.mark.parametrize("listener", ["est_port", "admin_port"])
def test_and_its_own_suites_stay_what_they_are(server: RunningServer, listener: str) -> None:
    port = getattr(server, listener)
    assert "Cipher is ECDHE-ECDSA-AES256-GCM-SHA384" in client_says(port, "-tls1_2")
    without_aead = "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0"
    assert "Cipher is (NONE)" in client_says(port, "-tls1_2", suites=without_aead)


@pytest.mark.parametrize("table", ["tls", "admin.tls"])
@pytest.mark.parametrize("version", ['"1.0"', '"1.1"', '"TLSv1.1"', '"SSLv3"', '""'])
def test_no_setting_has_them(table: str, version: str, tmp_path: Path) -> None:
    toml = tmp_path / "kipuka.toml"
    lines = {"tls": 'cert = "c"\nkey = "k"\nclient_auth.mode = "none"\n', "admin.tls": ""}
    lines[table] += f"min_version = {version}\n"
    toml.write_text("".join(f"[{name}]\n{text}" for name, text in lines.items()))
    with pytest.raises(KipukaError, match=rf"{table}\.min_version.*RFC 8996"):
        load(toml, {})
