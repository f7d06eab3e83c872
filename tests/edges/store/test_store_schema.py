import asyncio
import os
import re
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from kipuka_core.edges.store import SqlStore, default_sqlite_url, open_store, schema
from kipuka_core.edges.store.tables import metadata
from kipuka_core.errors import ConfigurationError
from tests.edges.store.store_samples import engine_of, on_sqlite


async def open_and_close(url: str, **options: Any) -> None:
    async with open_store(url, **options):
        pass


async def refusal(url: str, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        await open_and_close(url, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run_sql(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def definitions(path: Path) -> dict[str, list[str] | None]:
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
    connection.close()
    # Constraints come in another order, and that is all that may differ.
    return {
        name: sorted(re.split(r",\s*", re.sub(r"\s+", " ", sql)[:-1].rstrip(") "))) if sql else None
        for name, sql in found
        if name != "alembic_version"
    }


async def test_the_migrations_give_the_schema_of_the_tables(url: str) -> None:
    await open_and_close(url)
    engine = engine_of(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


async def test_the_migrations_give_every_index_of_the_tables(tmp_path: Path) -> None:
    await open_and_close(default_sqlite_url(tmp_path))
    other = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    metadata.create_all(other)
    other.dispose()
    assert definitions(tmp_path / "kipuka.db").keys() == definitions(tmp_path / "other.db").keys()


def test_the_head_in_the_code_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD
    assert schema.HEAD in schema.known_revisions()


async def test_a_second_start_does_not_import_alembic(url: str) -> None:
    await open_and_close(url)
    program = (
        "import asyncio, sys\n"
        "from kipuka_core.edges.store import open_store\n"
        "async def main():\n"
        "    async with open_store(sys.argv[1]) as store:\n"
        "        await store.ping()\n"
        "asyncio.run(main())\n"
        "assert 'alembic' not in sys.modules\n"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program, url], check=True)


async def test_stores_that_open_a_new_file_at_once_migrate_it_once(url: str) -> None:
    await asyncio.gather(*(open_and_close(url) for _ in range(4)))


def file_modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


@on_sqlite
async def test_the_database_is_private_whatever_the_umask(url: str, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with open_store(url) as store:
            await store.ping()
            modes = file_modes(tmp_path)
    finally:
        os.umask(before)
    assert {"kipuka.db", "kipuka.db-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}


@on_sqlite
async def test_writes_are_synced_and_foreign_keys_are_on(store: SqlStore) -> None:
    async def ask(pragma: str) -> object:
        return await store._write(lambda batch: batch.connection.exec_driver_sql(f"PRAGMA {pragma}").scalar())

    assert [await ask(pragma) for pragma in ("journal_mode", "synchronous", "foreign_keys")] == ["wal", 2, 1]


async def test_a_database_of_a_newer_kipuka_is_refused(url: str) -> None:
    await open_and_close(url)
    with engine_of(url).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert "schema 9999" in await refusal(url)


@on_sqlite
async def test_a_migration_that_fails_leaves_nothing_behind(url: str, tmp_path: Path) -> None:
    run_sql(tmp_path / "kipuka.db", "CREATE TABLE requests (id)")
    assert str(tmp_path / "kipuka.db") in await refusal(url)
    assert definitions(tmp_path / "kipuka.db").keys() == {"requests"}


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path / 'missing'} does not exist" in await refusal(default_sqlite_url(tmp_path / "missing"))


async def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "kipuka.db").mkdir()
    message = await refusal(default_sqlite_url(tmp_path))
    assert f"{tmp_path / 'kipuka.db'}: cannot be opened for writing" in message


@on_sqlite
async def test_a_file_that_is_no_database_is_named(url: str, tmp_path: Path) -> None:
    (tmp_path / "kipuka.db").write_bytes(b"this is a letter and not a database" * 100)
    message = await refusal(url)
    assert message.startswith(f"db.url: {tmp_path / 'kipuka.db'}: ")
    assert "not a database" in message


@on_sqlite
async def test_a_database_that_another_program_holds_is_named(url: str, tmp_path: Path) -> None:
    await open_and_close(url)
    other = sqlite3.connect(tmp_path / "kipuka.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    message = await refusal(url, busy_timeout_seconds=0.05)
    other.close()
    assert str(tmp_path / "kipuka.db") in message
    assert "another program" in message


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("mysql://db.example/kipuka", "mysql is not supported"),
        ("no url, but a secret", "is not a database URL"),
    ],
)
async def test_a_url_that_cannot_be_used_says_what_to_write(url: str, expected: str) -> None:
    message = await refusal(url)
    assert message.startswith("db.url: ")
    assert expected in message
    assert "secret" not in message


async def test_an_unreachable_postgresql_is_one_line_without_the_password() -> None:
    message = await refusal("postgresql://kipuka:hunter2@127.0.0.1:1/kipuka")
    assert message.startswith("db.url: ")
    assert "hunter2" not in message


def test_the_default_database_is_a_file_in_the_state_directory(tmp_path: Path) -> None:
    assert default_sqlite_url(tmp_path) == f"sqlite:///{tmp_path}/kipuka.db"
