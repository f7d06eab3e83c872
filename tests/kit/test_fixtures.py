"""The fixtures that plugin authors get: each used as their tests would."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from kipuka_core.testing.client import EstClient
from kipuka_core.testing.clock import Clock
from kipuka_core.testing.pki import Authority, make_csr
from kipuka_core.testing.samples import NOW
from kipuka_core.testing.server import Deployment, RunningServer, make_deployment


@pytest.fixture
def kipuka_toml() -> str:
    return '[est]\nbase_path = "/enrol/est"\n[auth]\norder = ["mtls", "otp"]\n'


def test_a_device_enrols_with_a_password_at_a_server_with_the_configuration_of_the_module(
    kipuka_server: RunningServer, kipuka_otp: Callable[..., str]
) -> None:
    client = kipuka_server.client(base_path="/enrol/est")
    answer = client.enrol(make_csr(common_name="pump-7"), user="pump-7", password=kipuka_otp("pump-7"))

    issuers = client.request("GET", "cacerts").certificates()
    assert answer.certificate().issuer in {each.subject for each in issuers}


def test_one_test_may_have_a_configuration_of_its_own(
    kipuka_serve: Callable[..., RunningServer], kipuka_pki: Authority
) -> None:
    server = kipuka_serve('[auth]\norder = ["otp"]\n', client_auth='mode = "none"')
    token = server.otp("pump-7")
    stranger = server.client(kipuka_pki.leaf("pump-7"))

    assert stranger.enrol(make_csr(common_name="pump-7"), user="pump-7", password=token).status == 200


def test_the_client_knows_the_server(kipuka_client: EstClient, kipuka_deployment: Deployment) -> None:
    assert kipuka_client.request("GET", "/enrol/est/cacerts").status == 200
    assert kipuka_deployment.toml.read_text(encoding="utf-8").count('base_path = "/enrol/est"') == 1


def test_a_server_that_does_not_start_shows_why(kipuka_serve: Callable[..., RunningServer]) -> None:
    with pytest.raises(AssertionError, match=r"est\.base_pat: unknown key"):
        kipuka_serve('[est]\nbase_pat = "/enrol"\n')


def test_the_clock_stands_still_until_it_is_moved(kipuka_clock: Clock) -> None:
    assert kipuka_clock() == kipuka_clock() == NOW
    assert kipuka_clock.advance(minutes=5) == NOW + timedelta(minutes=5) == kipuka_clock()
    with pytest.raises(ValueError, match="time zone"):
        Clock(NOW.replace(tzinfo=None))


def test_a_test_run_that_has_nothing_to_do_with_kipuka_loads_nothing_of_the_kit(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\ndef test_it():\n"
        "    assert 'kipuka_core.testing.plugin' in sys.modules\n"
        "    assert not {'kipuka_core.testing.server', 'kipuka_core.config', 'quart'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:asyncio", str(tmp_path)]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_a_deployment_may_be_made_without_a_fixture(tmp_path: Path) -> None:
    assert make_deployment(tmp_path / "one").root_pem.exists()


def test_a_tls_table_takes_the_place_of_that_of_the_deployment(kipuka_deployment: Deployment) -> None:
    for name in ("server.pem", "server.key"):
        (kipuka_deployment.directory / "tls" / name).rename(kipuka_deployment.directory / "tls" / f"new-{name}")
    kipuka_deployment.configure('[tls]\ncert = "tls/new-server.pem"\nkey = "tls/new-server.key"\n')
    assert kipuka_deployment.kipuka("check").returncode == 0
