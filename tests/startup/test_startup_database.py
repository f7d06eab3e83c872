"""A database that cannot be used stops ``kipuka serve``: one line that names it. ``kipuka check`` leaves it alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from kipuka_core.testing.server import Deployment, make_deployment
from tests.startup.starting import Fault, check, serve


def _run_sql(deployment: Deployment, statement: str) -> None:
    with closing(sqlite3.connect(deployment.database)) as connection:
        connection.execute(statement)
        connection.commit()


def _after_first_use(damage: Callable[[Deployment], None]) -> Callable[[Deployment], None]:
    def make(deployment: Deployment) -> None:
        deployment.otp("device")
        damage(deployment)

    return make


def _garble(deployment: Deployment) -> None:
    deployment.database.write_bytes(b"this is not SQLite\n" * 100)


def _elsewhere(url: str) -> Callable[[Deployment], None]:
    return lambda deployment: deployment.configure(f'[db]\nurl = "{url}"')


FAULTS = [
    Fault("the file is not a database", _garble, ("db.url", "state/kipuka.db", "not a database")),
    Fault("a directory is in its place", lambda it: it.database.mkdir(), ("db.url", "state/kipuka.db", "directory")),
    Fault(
        "its directory does not exist",
        _elsewhere("sqlite:///nowhere/kipuka.db"),
        ("db.url", "nowhere/kipuka.db", "does not exist"),
    ),
    Fault(
        "its directory is a file",
        _elsewhere("sqlite:///kipuka.toml/kipuka.db"),
        ("db.url", "kipuka.toml/kipuka.db", "directory"),
    ),
    Fault(
        "nobody may write where it is",
        _elsewhere("sqlite:////proc/kipuka.db"),
        ("db.url", "/proc/kipuka.db", "cannot be opened for writing"),
    ),
    Fault(
        "a newer kipuka has migrated it",
        _after_first_use(lambda it: _run_sql(it, "UPDATE alembic_version SET version_num = '9999'")),
        ("db.url", "state/kipuka.db", "schema 9999", "use the newer kipuka"),
    ),
    Fault(
        "a table is missing",
        _after_first_use(lambda it: _run_sql(it, "DROP TABLE otps")),
        ("db.url", "state/kipuka.db", "lacks the table otps"),
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_serve_names_the_database_when(fault: Fault, tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    fault.make(deployment)

    line = serve(deployment).only_line()

    for text in fault.says:
        assert text in line


def test_check_neither_needs_nor_touches_the_database(tmp_path: Path) -> None:
    deployment = make_deployment(tmp_path)
    _garble(deployment)
    before = deployment.database.read_bytes()

    assert check(deployment).code == 0
    assert deployment.database.read_bytes() == before
