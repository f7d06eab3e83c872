"""What plugins bring besides providers: commands, and routes of the admin listener."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from quart import Blueprint, Quart

from kipuka_core import Policy, Provider, Services, Settings
from kipuka_core.cli.plugin_commands import plugin_commands
from kipuka_core.domain.guard import Guard
from kipuka_core.edges.http.admin import admin_app
from kipuka_core.edges.http.admin_credentials import AdminRule
from kipuka_core.edges.http.admin_gate import AdminGate
from kipuka_core.edges.http.admin_health import Health, HealthChecks, health_routes
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.event import Event
from kipuka_core.testing.server import Deployment, make_deployment
from tests.startup.distributions import Distribution, importable

_COMMAND = """
    import click
    from kipuka_core import hookimpl

    @click.command({name!r})
    def command():
        click.echo("hello from a plugin")

    @hookimpl
    def kipuka_cli_commands():
        return [command]
    """


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    deployment = make_deployment(tmp_path / "deployment")
    deployment.configure('[plugins]\nenable = ["greeter"]')
    with importable(tmp_path):
        yield deployment


def _install(directory: Path, command: str) -> None:
    Distribution("kipuka-greeter", "greeter", "greeter_plugin", _COMMAND.format(name=command)).install(directory)


def test_a_plugin_s_command_is_a_command_of_kipuka(deployment: Deployment, tmp_path: Path) -> None:
    _install(tmp_path, "greet")
    assert deployment.kipuka("greet", PYTHONPATH=str(tmp_path)).stdout == "hello from a plugin\n"
    assert "greet" in deployment.kipuka("--help", PYTHONPATH=str(tmp_path)).stdout


@pytest.mark.parametrize("option", [("-c",), ("--config",), ("--config=",)])
def test_the_command_line_may_name_the_configuration_that_brings_the_command(
    deployment: Deployment, tmp_path: Path, option: tuple[str, ...]
) -> None:
    command = _COMMAND.replace("@click.command({name!r})", "@click.command({name!r})\n    @config_option").replace(
        "def command()", "def command(config_path)"
    )
    source = command.replace("import click", "import click\n    from kipuka_core.commands import config_option")
    Distribution("kipuka-greeter", "greeter", "greeter_plugin", source.format(name="greet")).install(tmp_path)
    named = [f"{option[0]}{deployment.toml}"] if option[0].endswith("=") else [option[0], str(deployment.toml)]
    done = deployment.kipuka("greet", *named, KIPUKA_CONFIG="/nowhere", PYTHONPATH=str(tmp_path))
    assert done.stdout == "hello from a plugin\n"


def test_without_a_configuration_that_loads_an_unknown_command_says_so(deployment: Deployment) -> None:
    deployment.toml.write_text("[sever]\n")
    done = deployment.kipuka("greet", check=False)
    assert done.returncode == 2
    assert "kipuka itself has no command 'greet', and which ones plugins bring is not known: " in done.stderr
    assert "sever" in done.stderr
    assert "serve" in deployment.kipuka("--help").stdout


def test_a_command_whose_name_is_taken_is_a_configuration_error(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path, "serve")
    monkeypatch.setenv("KIPUKA_CONFIG", str(deployment.toml))
    with pytest.raises(ConfigurationError, match="'serve', which exists already"):
        plugin_commands({"serve": ""})


class _NoEvents:
    async def announce(self, event: Event) -> None:
        raise AssertionError(f"nothing is issued here: {event}")

    async def emit(self, event: Event) -> None:
        assert event.name == "admin_refused"


class _NobodyRevoked:
    async def check(self, chain: Sequence[x509.Certificate], now: datetime, *, needs_store: bool) -> None:
        raise AssertionError("nobody without a certificate gets this far")


def _app(blueprints: Sequence[Blueprint]) -> Quart:
    """The admin application of a server without administrators."""
    rule = AdminRule(anchors=lambda: (), own_issuers=lambda: ())
    gate = AdminGate(rule=rule, standing=_NobodyRevoked(), events=_NoEvents(), clock=lambda: datetime.now(UTC))
    checks = HealthChecks({}, Guard(timeout_seconds=10))
    health = Health(checks=checks, version="1", database_name="sqlite", ca_ids=(), warnings=lambda: (), started_at=0.0)
    return admin_app(gate, [health_routes(health)], blueprints)


def _blueprint(name: str, path: str, prefix: str | None = None) -> Blueprint:
    blueprint = Blueprint(name, __name__, url_prefix=prefix)

    @blueprint.get(path)
    async def answer() -> str:
        return "secret things"

    return blueprint


async def test_a_plugin_s_admin_route_is_behind_the_admin_credential() -> None:
    app = _app([_blueprint("inventory", "/devices")])
    answer = await app.test_client().get("/admin/inventory/devices")
    assert answer.status_code == 401
    assert (await answer.get_json())["error"] == "unauthorized"
    ready = await app.test_client().get("/admin/health/ready")
    assert (ready.status_code, await ready.get_json()) == (200, {"status": "ready", "failing": []})


@pytest.mark.parametrize(
    "blueprints",
    [
        [_blueprint("health", "/live", "/admin/health")],
        [_blueprint("elsewhere", "/x", "/elsewhere")],
        [_blueprint("twice", "/x"), _blueprint("twice", "/y")],
    ],
    ids=["taken", "not under /admin", "one name twice"],
)
async def test_a_route_that_is_taken_or_elsewhere_is_a_configuration_error(blueprints: list[Blueprint]) -> None:
    with pytest.raises(ConfigurationError, match="admin route"):
        _app(blueprints)


def test_a_provider_may_say_of_which_port_it_is() -> None:
    def opened(settings: Settings, services: Services) -> AbstractAsyncContextManager[Policy]:
        return nullcontext(Policy())

    plain: Provider[Policy] = Provider("acorn", Settings, opened)
    assert Provider[Policy]("acorn", Settings, opened) == plain
