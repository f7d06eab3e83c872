"""A checker with its sources over real HTTP."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from kipuka_core.edges.blocking import BlockingWork
from kipuka_core.edges.revocation import RevocationChecker, RevocationSettings, open_revocation
from kipuka_core.model.revocation import RevocationStatus
from kipuka_core.testing.pki import Leaf, make_root
from tests.edges.revocation.revocation_kit import (
    Answering,
    Responding,
    chain_of,
)

ROOT = make_root("Root CA")
CA = ROOT.subordinate("Device CA")
GOOD, BAD = CA.leaf("good"), CA.leaf("bad")
IS_GOOD, IS_REVOKED, IS_UNKNOWN = RevocationStatus.GOOD, RevocationStatus.REVOKED, RevocationStatus.UNKNOWN


@asynccontextmanager
async def checker(check: Any, **more: Any) -> AsyncIterator[RevocationChecker]:
    settings = RevocationSettings(check=check, **{"timeout_seconds": 30.0, **more})
    async with open_revocation(settings, BlockingWork().run) as opened:
        yield opened


async def ask(opened: RevocationChecker, leaf: Leaf, *, now: datetime | None = None, length: int = 2) -> Any:
    """The answer about the leaf under its CA as anchor; ``length`` 3: also about the CA."""
    return await opened.status_of(chain_of(leaf)[:length], now or datetime.now(UTC))


def responding(leaf: Leaf, **more: Any) -> Answering:
    made = Responding(authority=CA, revoked=frozenset({BAD.certificate.serial_number}), **more)
    return lambda body: made.answer(leaf.certificate, body)


def closed_port_url() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/"
