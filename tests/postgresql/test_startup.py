"""A PostgreSQL that cannot be used stops ``kipuka serve``: one line that says why, without the password."""

from __future__ import annotations

from pathlib import Path

import pytest

from kipuka_core.testing.server import make_deployment
from tests.postgresql.cluster import PASSWORD, URL_PASSWORD, Cluster
from tests.startup.starting import check, serve

pytestmark = [pytest.mark.interop, pytest.mark.long]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://kipuka:wrong-{password}@127.0.0.1:{port}/{name}", ("password authentication failed", "kipuka")),
        ("postgresql://nobody:{password}@127.0.0.1:{port}/{name}", ("authentication failed", "nobody")),
        ("postgresql://kipuka:{password}@127.0.0.1:{port}/elsewhere", ("elsewhere", "does not exist")),
        ("postgresql://kipuka:{password}@127.0.0.1:1/{name}", ("127.0.0.1", "refused")),
        ("postgresql://kipuka:{password}@127.0.0.1:{port}x/{name}", ("is not a database URL",)),
        ("postgresql://kipuka@127.0.0.1:{port}/{name}?passfile=/nowhere", ("no password supplied",)),
    ],
)
def test_serve_says_what_is_wrong(tmp_path: Path, postgresql: Cluster, url: str, says: tuple[str, ...]) -> None:
    deployment = make_deployment(tmp_path)
    with postgresql.fresh() as name:
        written = url.format(password=URL_PASSWORD, port=postgresql.port, name=name)
        deployment.configure(f'[db]\nurl = "{written}"')
        outcome = serve(deployment)
        line = outcome.only_line()
    assert line.startswith("db.url: ")
    for text in says:
        assert text in line
    for secret in (PASSWORD, URL_PASSWORD, PASSWORD.partition("/")[0]):
        assert secret not in line
    assert check(deployment).code == 0  # which leaves the database alone


def test_a_table_of_somebody_else_is_named(tmp_path: Path, postgresql: Cluster) -> None:
    deployment = make_deployment(tmp_path)
    with postgresql.fresh() as name:
        postgresql.execute("CREATE TABLE requests (id text)", name)
        deployment.configure(f'[db]\nurl = "{postgresql.url(name)}"')
        assert 'relation "requests" already exists' in serve(deployment).only_line()
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        assert postgresql.rows(name, tables) == [("requests",)]  # all of a migration or nothing
