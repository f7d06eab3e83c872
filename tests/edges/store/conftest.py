"""A store on each of the two databases; the PostgreSQL rows need its programs, so they are for `make test-all`."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kipuka_core.edges.store import SqlStore, default_sqlite_url, open_store
from tests.edges.store.store_samples import DATABASES, Clock


async def open_and_close(url: str) -> None:
    async with open_store(url):
        pass


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    """Which of the two this test runs on."""
    return str(request.param)


@pytest.fixture
def url(database: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database: with the schema and nothing else where the test asks for a store, else empty."""
    is_migrated = "store" in request.fixturenames
    if database == "sqlite":
        directory = request.getfixturevalue("tmp_path")
        if is_migrated:
            shutil.copy(request.getfixturevalue("migrated_sqlite"), directory / "kipuka.db")
        yield default_sqlite_url(directory)
        return
    cluster = request.getfixturevalue("postgresql")
    template = request.getfixturevalue("migrated_postgresql") if is_migrated else "template0"
    with cluster.fresh(template=template) as name:
        yield cluster.url(name)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the schema and nothing else, made once: migrating takes longer than most tests."""
    directory = tmp_path_factory.mktemp("migrated")
    asyncio.run(open_and_close(default_sqlite_url(directory)))
    return directory / "kipuka.db"


@pytest.fixture(scope="module")
def migrated_postgresql(request: pytest.FixtureRequest) -> Iterator[str]:
    """The same on PostgreSQL: the name of a database to copy."""
    cluster = request.getfixturevalue("postgresql")
    with cluster.fresh() as name:
        asyncio.run(open_and_close(cluster.url(name)))
        yield name


@pytest.fixture
async def store(url: str, clock: Clock) -> AsyncIterator[SqlStore]:
    async with open_store(url, clock=clock) as opened:
        yield opened
