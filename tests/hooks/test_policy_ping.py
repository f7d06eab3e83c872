"""A policy that says that what it asks is away shows on the health page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kipuka_core.testing.client import EstClient
from kipuka_core.testing.server import RunningServer
from tests.startup.distributions import Distribution

_ASKING = """
    from contextlib import asynccontextmanager
    from pathlib import Path
    from pydantic import Field
    from kipuka_core import Policy, Provider, Settings, Unavailable, hookimpl

    class AskingSettings(Settings):
        file: Path = Field(description="What it asks.")

    class Asking(Policy):
        def __init__(self, settings):
            self.file = settings.file

        async def ping(self):
            if not self.file.exists():
                raise Unavailable("the inventory is away")

    @asynccontextmanager
    async def opened(settings, services):
        yield Asking(settings)

    @hookimpl
    def kipuka_policies():
        return [Provider("asking", AskingSettings, opened)]
    """


def test_the_server_is_ready_only_while_the_policy_is(
    kipuka_serve: Callable[..., RunningServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Distribution("kipuka-asking", "asking", "asking_plugin", _ASKING).install(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    server = kipuka_serve(
        '[plugins]\nenable = ["asking"]\n[policy]\norder = ["keys", "names", "validity", "asking"]\n'
        '[policy.asking]\nfile = "inventory"\n'
    )
    admin = EstClient(server.admin_port, server.deployment.root_pem)

    away = admin.request("GET", "/admin/health/ready")

    assert (away.status, json.loads(away.body)["failing"]) == (503, ["policy asking"])
    (line,) = server.wait_for_log(lambda line: "the inventory is away" in str(line))
    assert "policy asking" in str(line)
