"""Plugins for the tests of ``kipuka plugins``, and how its commands are run."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from unittest.mock import patch

from kipuka_core.testing.server import Deployment
from tests.startup.distributions import Distribution, importable
from tests.startup.starting import Outcome, in_process

HEAD = '''\
"""Policy ``plant``: only devices of a plant."""

from contextlib import asynccontextmanager
from pydantic import Field, SecretStr
from kipuka_core import Allow, Authenticator, ClientIdentity, Policy, Provider, Settings, hookimpl

kipuka_api_version = 1

class PlantSettings(Settings):
    """``[policy.plant]``."""

    plants: tuple[str, ...] = Field(min_length=1, description="Names of plants.", examples=[["plant7"]])
    days: int = Field(default=90, description="The longest validity.")

class NoSettings(Settings):
    """Nothing."""

class PlantPolicy(Policy):
    pass

@asynccontextmanager
async def open_policy(settings, services):
    yield PlantPolicy()

'''
_HOOK = """
@hookimpl
def kipuka_policies():
    return [Provider("plant", {settings}, open_policy)]
"""
GOOD = HEAD + _HOOK.format(settings="PlantSettings")
NEEDS_NOTHING = HEAD + _HOOK.format(settings="NoSettings")
USED = """
[plugins]
enable = ["plant"]

[policy]
order = ["keys", "names", "extensions", "validity", "plant"]

[policy.plant]
plants = ["plant7"]
"""


def install(site: Path, source: str, *, name: str = "kipuka-plant", plugin: str = "plant", module: str = "") -> None:
    """Put a plugin into the directory of installed distributions."""
    Distribution(name=name, plugin=plugin, module=module or f"{plugin}_plugin", source=source).install(site)


def opening(*lines: str) -> str:
    """A plugin that needs no settings, with these lines as its open()."""
    return NEEDS_NOTHING.replace("    yield PlantPolicy()", textwrap.indent("\n".join(lines), "    "))


def plugins(deployment: Deployment, site: Path, *arguments: str, **environment: str) -> Outcome:
    """``kipuka plugins``: what it tries out has processes of its own anyway."""
    with importable(site), patch.dict(os.environ, {"KIPUKA_CONFIG": str(deployment.toml), **environment}):
        return in_process("plugins", *arguments)


def problems(done: Outcome) -> list[str]:
    """The lines about what is wrong; each comes with what to do."""
    lines = done.stdout.splitlines()
    found = [number for number, line in enumerate(lines) if line.startswith("problem: ")]
    assert all(lines[number + 1].startswith("  do: ") for number in found), done.stdout
    assert done.code == bool(found), done.stdout + done.stderr
    return [lines[number].removeprefix("problem: ") for number in found]
