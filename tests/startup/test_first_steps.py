"""What a person types first, and mistypes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from kipuka_core.cli import cli
from kipuka_core.testing.server import Deployment, make_deployment
from tests.startup.distributions import Distribution, importable

_POLICY = """
    from contextlib import asynccontextmanager
    from kipuka_core import Policy, Provider, Settings, hookimpl

    class Plant(Policy):
        pass

    @asynccontextmanager
    async def opened(settings, services):
        yield Plant()

    @hookimpl
    def kipuka_policies():
        return [Provider("plant", Settings, opened)]
    """


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return make_deployment(tmp_path_factory.mktemp("first") / "deployment")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--host", "bad host!"], "neither a host name nor an IP address"),
        (["--host", "999.1.1.1"], "neither a host name nor an IP address"),
        (["--listen", "foo"], "must be host:port"),
        (["--key-type", "dsa"], "unknown key type"),
        (["--key-type", "ed25519"], "the key can be one of"),
    ],
)
def test_init_says_what_is_wrong_before_it_makes_anything(options: list[str], complaint: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["init", str(tmp_path / "new"), *options])
    assert result.exit_code == 2
    assert complaint in result.output
    assert not (tmp_path / "new").exists()


def test_init_takes_names_addresses_and_wildcards(tmp_path: Path) -> None:
    hosts = ("est.example", "*.est.example", "192.0.2.1", "2001:db8::1", "gateway_7")
    options = [option for host in hosts for option in ("--host", host)]
    result = CliRunner().invoke(cli, ["init", str(tmp_path / "new"), *options])
    assert result.exit_code == 0, result.output


def test_addresses_of_a_configured_server_are_not_for_the_command_line(deployment: Deployment) -> None:
    result = CliRunner().invoke(cli, ["serve", "-c", str(deployment.toml), "--listen", "127.0.0.1:0"])
    assert result.exit_code == 2
    assert "are for --dev" in result.output


def test_a_development_server_that_exists_does_not_listen_elsewhere_in_silence(deployment: Deployment) -> None:
    done = deployment.kipuka(
        "serve", "--dev", "--directory", str(deployment.directory), "--listen", "127.0.0.1:4443", check=False
    )
    assert done.returncode == 1
    assert "listens elsewhere; change it there" in done.stderr


def test_a_password_s_ttl_that_is_no_duration_names_the_option(deployment: Deployment) -> None:
    done = deployment.kipuka("otp", "create", "device", "--ttl", "5x", check=False)
    assert done.returncode == 2
    assert "--ttl" in done.stderr


def test_an_order_without_the_built_in_policies_is_warned_of(deployment: Deployment) -> None:
    deployment.configure('[policy]\norder = ["validity"]')
    said = deployment.kipuka("check").stdout
    assert 'policy.order: "keys" is not in it, so keys of any type and strength are certified' in said
    assert 'policy.order: "names" is not in it, so every client gets a certificate for any name' in said


def test_a_device_ca_among_the_anchors_of_administrators_is_warned_of(deployment: Deployment) -> None:
    deployment.configure('[admin.client_auth]\ntrust_anchors = "state/ca/issuing.pem"\n')
    shown = deployment.kipuka("check").stdout
    assert "warning: admin.client_auth.trust_anchors: " in shown
    assert "is an issuer of a [[ca]], so what it signs is no admin credential" in shown


def test_an_enabled_plugin_that_no_order_names_is_warned_of(deployment: Deployment, tmp_path: Path) -> None:
    Distribution("kipuka-plant", "plant", "plant_plugin", _POLICY).install(tmp_path)
    deployment.configure('[plugins]\nenable = ["plant"]')
    with importable(tmp_path):
        said = deployment.kipuka("check", PYTHONPATH=str(tmp_path)).stdout
    assert "brings the policy 'plant', which is not in it and never asked" in said
