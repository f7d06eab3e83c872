import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kipuka_core.edges.store import default_sqlite_url, open_store
from tests.edges.status.status_kit import StatusSite
from tests.edges.store.conftest import migrated_sqlite  # noqa: F401  # a fixture
from tests.edges.store.store_samples import Clock


@pytest.fixture
def url(tmp_path: Path, migrated_sqlite: Path) -> str:  # noqa: F811
    shutil.copy(migrated_sqlite, tmp_path / "kipuka.db")
    return default_sqlite_url(tmp_path)


@pytest.fixture
async def site(url: str) -> AsyncIterator[StatusSite]:
    clock = Clock()
    async with open_store(url, clock=clock) as store:
        yield StatusSite(store, clock)
