"""The newcomer's ten minutes, for every kind: make a plugin, install it, run its tests, enable it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kipuka_core.testing.server import make_deployment
from tests.plugin_new.made import KIND_WORDS, Environment, Made, make, make_environment, run

pytestmark = pytest.mark.long

_PROVIDER_KIND = {
    "auth": "authenticator",
    "policy": "policy",
    "ca": "ca_backend",
    "keys": "key_store",
    "tls": "tls_material",
    "events": "event_sink",
}


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return make_environment(tmp_path / "venv")


@pytest.mark.parametrize("kind", KIND_WORDS)
def test_a_new_plugin_installs_passes_its_tests_and_is_enabled_as_its_readme_says(
    kind: str, environment: Environment, tmp_path: Path
) -> None:
    made = make(kind, "erp-serials", tmp_path)
    environment.install(made)

    tests = _passed(environment, made)
    assert any("test_server.py" in name for name in tests)
    assert any("Contract" in name for name in tests) == (kind != "command")
    assert len(tests) >= 8

    installed = environment.site_packages / made.package
    assert {file.name for file in installed.iterdir()} - {"__pycache__"} == {"__init__.py", "py.typed"}
    _enable(environment, made, kind, tmp_path / "deployment")


def _passed(environment: Environment, made: Made) -> list[str]:
    """Its own tests, all of which have passed."""
    options = ("-v", "-p", "no:cacheprovider", f"--basetemp={made.directory.with_name('tests-of-it')}")
    done = run(environment.python, "-I", "-m", "pytest", *options, cwd=made.directory)
    lines = [line for line in done.stdout.splitlines() if re.search(r"::.* \[ *\d+%\]$", line)]
    assert lines
    assert all(" PASSED" in line for line in lines), done.stdout
    return lines


def _enable(environment: Environment, made: Made, kind: str, directory: Path) -> None:
    """Check a configuration with the lines of the readme, in a directory as ``kipuka init`` makes it."""
    deployment = make_deployment(directory)
    deployment.configure(made.block("toml"))
    script = f'set -eu\n{made.block("sh")}\nexec "$@"\n'

    def kipuka(*arguments: str, check: bool = True) -> str:
        command = [str(environment.python), "-m", "kipuka_core.cli", *arguments, "-c", str(deployment.toml)]
        done = run("bash", "-c", script, "bash", *command, cwd=deployment.directory, check=check)
        return done.stdout + done.stderr

    tried = kipuka("plugins", "check", "erp-serials")  # opens everything that `kipuka check` does
    assert [line for line in tried.splitlines() if line.startswith("problem")] == []
    listed = [line.split() for line in kipuka("plugins", "list").splitlines()]
    if kind in _PROVIDER_KIND:
        row = ["erp-serials", _PROVIDER_KIND[kind], "kipuka-erp-serials", "0.1.0", "1", "yes"]
        assert row in [each[: len(row)] for each in listed]
    else:
        assert (
            "erp-serials"
            in run(
                environment.python, "-m", "kipuka_core.cli", "--help", cwd=directory, KIPUKA_CONFIG=str(deployment.toml)
            ).stdout
        )
