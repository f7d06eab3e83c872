import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kipuka_core.edges.store import SqlStore, default_sqlite_url, open_store
from tests.edges.store.store_samples import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return default_sqlite_url(tmp_path)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the schema and nothing else, made once: migrating takes longer than most tests."""
    directory = tmp_path_factory.mktemp("migrated")

    async def migrate() -> None:
        async with open_store(default_sqlite_url(directory)):
            pass

    asyncio.run(migrate())
    return directory / "kipuka.db"


@pytest.fixture
async def store(url: str, clock: Clock, migrated: Path, tmp_path: Path) -> AsyncIterator[SqlStore]:
    shutil.copy(migrated, tmp_path / "kipuka.db")
    async with open_store(url, clock=clock) as opened:
        yield opened
