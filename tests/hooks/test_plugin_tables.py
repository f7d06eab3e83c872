"""``[plugin.NAME]``: what a plugin's commands and admin routes are told by ``kipuka.toml``."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from kipuka_core.testing.server import Deployment, RunningServer
from tests.startup.distributions import Distribution

_GREETER = """
    from pathlib import Path
    import click
    from pydantic import Field
    from quart import Blueprint, current_app
    from kipuka_core import Settings, hookimpl
    from kipuka_core.commands import config_option, settings_of_plugin

    class GreeterSettings(Settings):
        greeting: str = Field(description="What to say.")
        book: Path = Field(default=Path("book.txt"), description="Where it is written down.")

    kipuka_api_version = 1
    kipuka_settings = GreeterSettings

    @click.command()
    @config_option
    def greet(config_path):
        settings = settings_of_plugin(config_path, "greeter", GreeterSettings)
        click.echo(f"{settings.greeting} {settings.book}")

    routes = Blueprint("greeter", __name__)

    @routes.get("/hello")
    async def hello():
        return {"greeting": current_app.config["KIPUKA_SETTINGS"]["greeter"].greeting}

    @hookimpl
    def kipuka_cli_commands():
        return [greet]

    @hookimpl
    def kipuka_admin_routes():
        return [routes]
    """
_ENABLE = '[plugins]\nenable = ["greeter"]\n'
_TABLE = '[plugin.greeter]\ngreeting = "hello"\n'


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Distribution("kipuka-greeter", "greeter", "greeter_plugin", _GREETER).install(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))


@pytest.mark.usefixtures("installed")
def test_a_command_is_told_what_the_table_says(kipuka_deployment: Deployment) -> None:
    kipuka_deployment.configure(_ENABLE + _TABLE)

    said = kipuka_deployment.kipuka("greet", "-c", str(kipuka_deployment.toml)).stdout

    assert said == f"hello {kipuka_deployment.directory / 'book.txt'}\n"


@pytest.mark.usefixtures("installed")
def test_an_admin_route_is_told_what_the_table_says(
    kipuka_serve: Callable[..., RunningServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREETER_TOKEN", "t" * 40)
    server = kipuka_serve(f'{_ENABLE}{_TABLE}[admin]\nbearer_token_env = "GREETER_TOKEN"\n')
    context = ssl.create_default_context(cafile=str(server.deployment.root_pem))
    admin = http.client.HTTPSConnection("localhost", server.admin_port, context=context, timeout=60)

    admin.request("GET", "/admin/greeter/hello", headers={"Authorization": f"Bearer {'t' * 40}"})
    answer = admin.getresponse()

    assert (answer.status, json.loads(answer.read())) == (200, {"greeting": "hello"})
    admin.close()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("toml", "says"),
    [
        (_ENABLE, "plugin.greeter.greeting: required"),
        (f'{_ENABLE}{_TABLE}greting = "x"\n', 'plugin.greeter.greting: unknown key; did you mean "greeting"?'),
        (f'{_ENABLE}{_TABLE}[plugin.greter]\nx = "y"\n', "plugin.greter: no installed plugin is called 'greter'"),
        (_TABLE, 'plugin.greeter: the plugin is not enabled: add "greeter" to [plugins] enable'),
        (f"{_ENABLE}{_TABLE}[plugin.builtin]\nx = 1\n", "plugin.builtin: this plugin has no settings here"),
    ],
)
def test_a_table_that_nobody_reads_or_that_is_wrong_stops_the_start(
    kipuka_deployment: Deployment, toml: str, says: str
) -> None:
    kipuka_deployment.configure(toml)

    done = kipuka_deployment.kipuka("check", check=False)

    assert done.returncode == 1
    assert done.stderr.startswith(f"kipuka: error: {says}")
    assert done.stderr.count("\n") == 1


def test_settings_that_are_no_class_of_settings_stop_the_start(kipuka_deployment: Deployment, tmp_path: Path) -> None:
    Distribution("kipuka-greeter", "greeter", "greeter_plugin", "kipuka_settings = dict").install(tmp_path / "site")
    kipuka_deployment.configure(_ENABLE)

    done = kipuka_deployment.kipuka("check", check=False, PYTHONPATH=str(tmp_path / "site"))

    assert "distribution kipuka-greeter: its kipuka_settings is the class dict, not a pydantic model" in done.stderr
