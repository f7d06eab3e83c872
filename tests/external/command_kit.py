"""A CA backend ``command`` whose program is a shell script of the test's."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from kipuka_builtin.command_ca import PROVIDER, CommandCaSettings
from kipuka_core import (
    CaBackend,
)
from kipuka_core.testing import pki
from kipuka_core.testing.services import make_services

ROOT = pki.make_root()
ISSUING = ROOT.subordinate()
PEM = ISSUING.leaf("device", ["dns:device.example"]).certificate_pem.decode()


def opened(
    directory: Path, script: str, *, services: Mapping[str, Any] | None = None, **settings: Any
) -> AbstractAsyncContextManager[CaBackend]:
    """A backend whose program is this shell script."""
    program = directory / "sign"
    program.write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    (directory / "chain.pem").write_bytes(ISSUING.pem + ROOT.pem)
    (directory / "answer.pem").write_text(PEM, encoding="ascii")
    table = {"id": "shell", "program": ["sign"], "chain": "chain.pem", "timeout": 60} | settings
    lent = {"call_timeout_seconds": 62.0} | dict(services or {})
    return PROVIDER.open(CommandCaSettings(**table), make_services(directory, **lent))
