"""A plugin that cannot be used stops the start: one line that names its distribution and says what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from kipuka_core.testing.server import make_deployment
from tests.startup.distributions import Distribution, importable
from tests.startup.starting import Outcome, check, serve

_HEAD = """\
from contextlib import asynccontextmanager
from kipuka_core import Authenticator, Provider, Settings, hookimpl

class Never(Authenticator):
    async def authenticate(self, offer):
        return None

def opening(value):
    @asynccontextmanager
    async def open_it(settings, services):
        if isinstance(value, Exception):
            raise value
        yield value
    return open_it

"""
_ENABLE = '[plugins]\nenable = ["acorn"]\n'
_USE = f'{_ENABLE}[auth]\norder = ["acorn", "otp"]\n'


def _provider(opened: str = "Never()", name: str = "acorn") -> str:
    provider = f"Provider({name!r}, Settings, opening({opened}))"
    return f"{_HEAD}@hookimpl\ndef kipuka_authenticators():\n    return [{provider}]\n"


@dataclass(frozen=True, slots=True)
class PluginFault:
    """Something that is wrong with a plugin, and what the error has to say."""

    name: str
    source: str
    says: tuple[str, ...]
    toml: str = _ENABLE


FAULTS = [
    PluginFault("its import fails", "import no_such_module", ("cannot be imported", "no_such_module")),
    PluginFault("its module has a syntax error", "def", ("cannot be imported", "SyntaxError")),
    PluginFault(
        "a hook is not marked",
        "def kipuka_policies():\n    return []",
        ("kipuka_policies", "is not marked with @hookimpl"),
    ),
    PluginFault(
        "a hook is misspelt",
        f"{_HEAD}@hookimpl\ndef kipuka_authenticator():\n    return []",
        ("there is no hook 'kipuka_authenticator'", 'did you mean "kipuka_authenticators"?'),
    ),
    PluginFault("it speaks a newer hook API", "kipuka_api_version = 99", ("hook API version 99", "upgrade kipuka")),
    PluginFault("it speaks an older hook API", "kipuka_api_version = 0", ("version 0", "upgrade acorn-kipuka")),
    PluginFault("its hook API is no number", 'kipuka_api_version = "1"', ("kipuka_api_version is '1'", "a number")),
    PluginFault(
        "a hook is a wrapper",
        f"{_HEAD}@hookimpl(wrapper=True)\ndef kipuka_policies():\n    return (yield)",
        ("kipuka_policies", "is a hook wrapper"),
    ),
    PluginFault(
        "a hook raises",
        f"{_HEAD}@hookimpl\ndef kipuka_policies():\n    return [1 / 0]",
        ("kipuka_policies raised ZeroDivisionError",),
    ),
    PluginFault(
        "a hook returns no list",
        f"{_HEAD}@hookimpl\ndef kipuka_policies():\n    return None",
        ("kipuka_policies returned NoneType", "has to return a list"),
    ),
    PluginFault(
        "a hook takes an argument",
        f"{_HEAD}@hookimpl\ndef kipuka_policies(config):\n    return []",
        ("kipuka_policies", "config"),
    ),
    PluginFault(
        "it claims the name of a built-in provider",
        _provider(name="otp"),
        ("plugin 'builtin' of distribution kipuka", "both provide the authenticator 'otp'"),
    ),
    PluginFault(
        "its provider fails to open",
        _provider("OSError('the card reader is away')"),
        ("auth.acorn", "failed to start", "the card reader is away"),
        _USE,
    ),
    PluginFault(
        "its provider opens the wrong type",
        _provider("object()"),
        ("auth.acorn", "opened a object, which is not a Authenticator"),
        _USE,
    ),
    PluginFault(
        "it is installed and not enabled",
        _provider(),
        ("auth.acorn", "distribution acorn-kipuka is installed", 'add "acorn" to [plugins] enable'),
        '[auth]\norder = ["acorn", "otp"]\n',
    ),
]


def _install(directory: Path, source: str, name: str = "acorn-kipuka", module: str = "acorn_plugin") -> None:
    Distribution(name=name, plugin="acorn", module=module, source=source).install(directory)


def _check(tmp_path: Path, toml: str) -> Outcome:
    deployment = make_deployment(tmp_path / "deployment")
    deployment.configure(toml)
    with importable(tmp_path / "site"):
        return check(deployment)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_check_names_the_plugin_when(fault: PluginFault, tmp_path: Path) -> None:
    _install(tmp_path / "site", fault.source)

    line = _check(tmp_path, fault.toml).only_line()

    assert "acorn" in line
    for text in fault.says:
        assert text in line


def test_a_sound_plugin_starts(tmp_path: Path) -> None:
    _install(tmp_path / "site", _provider())

    outcome = _check(tmp_path, _USE)

    assert (outcome.code, outcome.stderr) == (0, "")


def test_a_plugin_that_is_not_installed_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    _install(tmp_path / "site", _provider())

    line = _check(tmp_path, '[plugins]\nenable = ["acorm"]\n').only_line()

    assert line.startswith("plugins.enable: ")
    assert "'acorm'" in line
    assert 'did you mean "acorn"?' in line


def test_two_distributions_with_one_plugin_name_are_both_named(tmp_path: Path) -> None:
    _install(tmp_path / "site", _provider())
    _install(tmp_path / "site", _provider(), name="other-kipuka", module="other_plugin")

    line = _check(tmp_path, _ENABLE).only_line()

    assert "acorn-kipuka" in line
    assert "other-kipuka" in line
    assert "both claim the plugin name 'acorn'" in line


def test_two_plugins_with_one_provider_name_are_both_named(tmp_path: Path) -> None:
    _install(tmp_path / "site", _provider())
    Distribution("other-kipuka", "other", "other_plugin", _provider()).install(tmp_path / "site")

    line = _check(tmp_path, '[plugins]\nenable = ["acorn", "other"]\n').only_line()

    assert "distribution acorn-kipuka" in line
    assert "distribution other-kipuka" in line
    assert "both provide the authenticator 'acorn'" in line


def test_serve_says_it_in_one_line_too(tmp_path: Path) -> None:
    _install(tmp_path / "site", _provider("OSError('the card reader is away')"))
    deployment = make_deployment(tmp_path / "deployment")
    deployment.configure(_USE)

    line = serve(deployment, PYTHONPATH=str(tmp_path / "site")).only_line()

    assert line == "auth.acorn: plugin 'acorn' failed to start: OSError: the card reader is away"
