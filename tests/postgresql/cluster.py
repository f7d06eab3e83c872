"""A PostgreSQL of the tests' own: a cluster in a temporary directory, and databases in it.

It sorts text as people do (ICU, en-US), serves TLS, wants passwords, and runs as a user other than root. So whatever
leans on the order of bytes, on trust or on a superuser shows.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from psycopg import sql

from kipuka_core.testing.pki import Authority, make_root
from kipuka_core.testing.server import wait_until

ROLE, PASSWORD = "kipuka", "correct-horse/battery@staple"
URL_PASSWORD = "correct-horse%2Fbattery%40staple"
SUPERUSER = "postgres"
_SUPERUSER_PASSWORD = "of-the-superuser"
_STOP_SECONDS = 60
_CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
fsync = off  # a test ends processes and never the machine
log_line_prefix = '%m [%p] %u@%d '
deadlock_timeout = '200ms'
ssl = on
ssl_cert_file = 'server.pem'
ssl_key_file = 'server.key'
"""


def program(name: str) -> str:
    """The path of a program of the PostgreSQL server: Debian keeps them beside the path, by version."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    found = shutil.which(name, path=os.pathsep.join((*map(str, reversed(versions)), os.environ["PATH"])))
    if found is None:
        pytest.fail(f"the program {name} is missing: run tests/interop/install-system-packages (as root)")
    return found


class Cluster:
    """A running PostgreSQL; ``kill`` and ``start`` as often as a test likes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.log_file = directory / "log"
        self.root: Authority = make_root("Database Root CA")
        self.port = _free_port()
        self._count = 0
        self._process: subprocess.Popen[bytes] | None = None
        password = directory / "superuser"
        password.write_text(_SUPERUSER_PASSWORD)
        _own(directory, password)
        done = subprocess.run(
            [
                *_as_another_user(),
                program("initdb"),
                *("--pgdata", self.data, "--username", SUPERUSER, "--pwfile", password, "--auth", "scram-sha-256"),
                *("--encoding", "UTF8", "--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "en-US"),
                "--no-sync",
            ],
            cwd="/",
            capture_output=True,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self._configure()

    def _configure(self) -> None:
        leaf = self.root.server()
        (self.data / "server.pem").write_bytes(leaf.certificate_pem)
        (self.data / "server.key").write_bytes(leaf.key_pem)
        (self.data / "server.key").chmod(0o600)
        _own(self.data / "server.pem", self.data / "server.key")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"{_CONFIGURATION}port = {self.port}\n")

    # -- its process -----------------------------------------------------------------------------------------------
    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it answers; also where the processes of one that was killed are still leaving."""
        wait_until(self._try_to_start, what=lambda: self.log_file.read_text(errors="replace"))
        return self

    def _try_to_start(self) -> bool:
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(
                [*_as_another_user(), program("postgres"), "-D", self.data],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        process = self._process

        def decided() -> bool:
            return process.poll() is not None or self._answers()

        wait_until(decided, what=lambda: self.log_file.read_text(errors="replace"))
        return process.poll() is None

    def _answers(self) -> bool:
        try:
            self.admin("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """``kill -9`` of the postmaster: what it knew only in memory is gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(_STOP_SECONDS)

    def stop(self) -> None:
        """Stop it, ending every session."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_STOP_SECONDS)

    # -- databases -------------------------------------------------------------------------------------------------
    def admin(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A session of the superuser, without transactions."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname=database,
            user=SUPERUSER,
            password=_SUPERUSER_PASSWORD,
            autocommit=True,
            connect_timeout=10,
        )

    def execute(self, statement: str, database: str = "postgres") -> None:
        """A statement of the superuser."""
        with self.admin(database) as connection:
            connection.execute(statement.encode())

    def create(self, *, template: str = "template0", options: str = "") -> str:
        """A new database that belongs to the role of kipuka; its name."""
        self._count += 1
        name = f"kipuka_{self._count}"
        with self.admin() as connection:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE ROLE kipuka LOGIN PASSWORD {}").format(PASSWORD))
            connection.execute(f"CREATE DATABASE {name} OWNER {ROLE} TEMPLATE {template} {options}".encode())
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever uses it."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, name: str, *, password: str = URL_PASSWORD, query: str = "") -> str:
        """The ``[db] url`` of a database."""
        secret = f":{password}" if password else ""
        return f"postgresql://{ROLE}{secret}@127.0.0.1:{self.port}/{name}{query}"

    def administrator(self) -> Mapping[str, str]:
        """What PostgreSQL's own programs need to work as its superuser."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": SUPERUSER,
            "PGPASSWORD": _SUPERUSER_PASSWORD,
        }

    @contextmanager
    def fresh(self, *, template: str = "template0", options: str = "") -> Iterator[str]:
        """A database for as long as the block lasts; its name."""
        name = self.create(template=template, options=options)
        try:
            yield name
        finally:
            self.drop(name)

    def rows(self, name: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds in a database."""
        with self.admin(name) as connection:
            return connection.execute(statement.encode(), values).fetchall()


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A cluster of its own, stopped and removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="kipuka-pg-", dir=_where_others_may_go()))
    cluster = None
    try:
        cluster = Cluster(directory).start()
        yield cluster
    finally:
        if cluster is not None:
            cluster.stop()
        shutil.rmtree(directory)


def _as_another_user() -> list[str]:
    """postgres refuses to run as root."""
    if os.geteuid() != 0:
        return []
    user = _postgres_user()
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _postgres_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        pytest.fail("the user postgres is missing: run tests/interop/install-system-packages (as root)")


def _own(*paths: Path) -> None:
    """Hand files to the user that postgres runs as."""
    if os.geteuid() == 0:
        user = _postgres_user()
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid)


def _where_others_may_go() -> Path:
    """A temporary directory that another user can reach; TMPDIR itself may be for one user only."""
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    return next(place for place in places if os.geteuid() != 0 or _is_open(place.resolve()))


def _is_open(place: Path) -> bool:
    return all(each.stat().st_mode & stat.S_IXOTH for each in (place, *place.parents))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
