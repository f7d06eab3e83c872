from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kipuka_core.edges.store import default_sqlite_url, open_store
from kipuka_core.testing.pki import Authority, make_root
from tests.domain.harness import Harness, ListSink, MemoryCa


@pytest.fixture(scope="session")
def authority() -> Authority:
    """A root and an issuing CA for the whole session."""
    return make_root().subordinate()


@pytest.fixture
async def harness(tmp_path: Path, authority: Authority) -> AsyncIterator[Harness]:
    """A road over a fresh database."""
    async with open_store(default_sqlite_url(tmp_path)) as store:
        yield Harness(store, MemoryCa(authority), ListSink())
