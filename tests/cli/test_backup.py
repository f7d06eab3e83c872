"""`kipuka backup` of a running server, and `kipuka restore`: whole, private, and never over something newer."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kipuka_core.cli.backup.bundle import is_safe_name
from kipuka_core.testing.pki import make_csr
from kipuka_core.testing.server import Deployment, make_deployment
from tests.system.system_kit import System, serving

pytestmark = pytest.mark.long


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    made = make_deployment(tmp_path / "deployment")
    made.configure("")
    return made


@pytest.fixture
def system(deployment: Deployment) -> Iterator[System]:
    with serving(deployment) as system:
        yield system


def ask(database: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def copied(deployment: Deployment, directory: Path) -> Deployment:
    """Another machine: the configuration and what it names, no state."""
    shutil.copytree(deployment.directory, directory, ignore=shutil.ignore_patterns("state", "*.gz"))
    return Deployment(directory)


def test_what_was_answered_before_a_backup_is_in_it_while_others_enrol(
    system: System, deployment: Deployment, tmp_path: Path
) -> None:
    issued: list[str] = []
    stop = threading.Event()

    def enrol(worker: int) -> None:
        password = system.otp(f"device-{worker}", max_usage=1000)
        while not stop.is_set():
            name = f"device-{worker}"
            answer = system.client().enrol(make_csr(common_name=name), user=name, password=password)
            issued.append(f"{answer.certificate().serial_number:x}")

    system.enrolled("first")
    threads = [threading.Thread(target=enrol, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(3):
            before = list(issued)
            deployment.kipuka("backup", f"backup-{number}.tar.gz")
            other = copied(deployment, tmp_path / f"other-{number}")
            other.kipuka("restore", str(deployment.directory / f"backup-{number}.tar.gz"))
            assert {serial for (serial,) in ask(other.database, "SELECT serial_hex FROM certificates")} >= set(before)
            ((certificates, events),) = ask(
                other.database,
                "SELECT (SELECT count(*) FROM certificates),"
                " (SELECT count(*) FROM events WHERE name = 'certificate_issued')",
            )
            assert certificates == events
            assert ask(other.database, "PRAGMA integrity_check") == [("ok",)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert issued


def test_a_restored_server_renews_what_was_issued_and_takes_no_old_password(
    deployment: Deployment, tmp_path: Path
) -> None:
    with serving(deployment) as system:
        device, outstanding = system.enrolled("device"), system.otp("later")
        deployment.kipuka("backup", "backup.tar.gz")
    other = copied(deployment, tmp_path / "other")
    done = other.kipuka("restore", "../deployment/backup.tar.gz")
    assert "1 certificates" in done.stdout
    assert "1 outstanding one-time passwords were withdrawn" in done.stdout
    with serving(other) as restored:
        csr = make_csr(common_name="device")
        assert restored.client(device).reenrol(csr).status == 200
        assert restored.client().enrol(make_csr(common_name="later"), user="later", password=outstanding).status == 401
        restored.enrolled("new")
    assert ("backup_restored",) in ask(other.database, "SELECT name FROM events")
    assert ("backup_made",) in ask(deployment.database, "SELECT name FROM events")


def test_keep_otps_keeps_them(deployment: Deployment, tmp_path: Path) -> None:
    token = deployment.otp("device")
    deployment.kipuka("backup", "backup.tar.gz")
    other = copied(deployment, tmp_path / "other")
    other.kipuka("restore", "--keep-otps", "../deployment/backup.tar.gz")
    with serving(other) as restored:
        assert restored.client().enrol(make_csr(common_name="device"), user="device", password=token).status == 200


def test_a_backup_is_private_and_never_over_a_file(deployment: Deployment) -> None:
    deployment.otp("device")
    deployment.kipuka("backup", "backup.tar.gz")
    file = deployment.directory / "backup.tar.gz"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first = file.read_bytes()
    done = deployment.kipuka("backup", "backup.tar.gz", check=False)
    assert (done.returncode, file.read_bytes()) == (1, first)
    assert "exists already" in done.stderr
    assert [each.name for each in deployment.directory.iterdir() if "backup" in each.name] == ["backup.tar.gz"]
    with tarfile.open(file) as archive:
        names = archive.getnames()
    assert names[0] == "manifest.json"
    assert {"kipuka.toml", "database.sqlite", "state/ca/issuing.key", "state/ca/root.pem"} <= set(names)
    assert not [name for name in names if "jsonl" in name or "control" in name or "-wal" in name]


def test_a_backup_may_be_piped(deployment: Deployment, tmp_path: Path) -> None:
    deployment.otp("device")
    command = [sys.executable, "-m", "kipuka_core.cli"]
    made = subprocess.run(
        [*command, "backup", "-", "-c", str(deployment.toml)], capture_output=True, check=True, cwd=tmp_path
    )
    other = copied(deployment, tmp_path / "other")
    subprocess.run(
        [*command, "restore", "-", "-c", str(other.toml)], input=made.stdout, check=True, cwd=tmp_path,
        capture_output=True,
    )  # fmt: skip
    assert ask(other.database, "SELECT entity_id FROM otps") == [("device",)]


def test_nothing_newer_is_overwritten(deployment: Deployment) -> None:
    deployment.otp("device")
    deployment.kipuka("backup", "backup.tar.gz")
    deployment.otp("newer")
    before = ask(deployment.database, "SELECT id, revoked_at FROM otps")
    done = deployment.kipuka("restore", "backup.tar.gz", check=False)
    assert done.returncode == 1
    assert "holds newer data than the backup" in done.stderr
    assert "passwords up to" in done.stderr
    assert ask(deployment.database, "SELECT id, revoked_at FROM otps") == before
    deployment.database.rename(deployment.directory / "moved.db")
    deployment.kipuka("restore", "backup.tar.gz")
    assert len(ask(deployment.database, "SELECT id FROM otps")) == 1


def crashed(deployment: Deployment) -> None:
    """As if the power had failed: a one-time password for ``newer`` is in SQLite's log alone."""
    names = ("kipuka.db", "kipuka.db-wal")
    state, copies = deployment.database.parent, deployment.directory / "copies"
    copies.mkdir()
    with closing(sqlite3.connect(deployment.database)) as held:
        held.execute("SELECT id FROM otps").fetchall()
        deployment.otp("newer")
        for name in names:
            shutil.copyfile(state / name, copies / name)
    for name in names:
        shutil.copyfile(copies / name, state / name)


def test_a_newer_database_that_is_moved_away_after_the_refusal_is_whole(deployment: Deployment) -> None:
    deployment.otp("device")
    deployment.kipuka("backup", "backup.tar.gz")
    crashed(deployment)
    assert "holds newer data" in deployment.kipuka("restore", "backup.tar.gz", check=False).stderr
    moved = deployment.database.rename(deployment.directory / "moved.db")
    deployment.kipuka("restore", "backup.tar.gz")
    assert ("newer",) in ask(moved, "SELECT entity_id FROM otps")


def test_the_log_of_a_database_that_was_moved_away_without_it_is_kept(deployment: Deployment) -> None:
    deployment.otp("device")
    deployment.kipuka("backup", "backup.tar.gz")
    crashed(deployment)
    moved = deployment.database.rename(deployment.directory / "kipuka.db")
    done = deployment.kipuka("restore", "backup.tar.gz")
    (log,) = deployment.database.parent.glob("before-restore-*/kipuka.db-wal")
    assert str(log.parent) in done.stdout
    log.rename(moved.with_name("kipuka.db-wal"))
    assert ("newer",) in ask(moved, "SELECT entity_id FROM otps")
    assert ask(deployment.database, "SELECT entity_id FROM otps") == [("device",)]


def test_what_is_replaced_is_kept(deployment: Deployment) -> None:
    deployment.otp("device")
    deployment.kipuka("backup", "backup.tar.gz")
    (deployment.directory / "state" / "ca" / "root.pem").write_text("damaged")
    done = deployment.kipuka("restore", "backup.tar.gz")
    (aside,) = (deployment.directory / "state").glob("before-restore-*")
    assert str(aside) in done.stdout
    assert (aside / "ca" / "root.pem").read_text() == "damaged"
    assert ask(aside / "kipuka.db", "SELECT entity_id, revoked_at FROM otps") == [("device", None)]
    assert "BEGIN CERTIFICATE" in deployment.root_pem.read_text()
    deployment.kipuka("backup", "again.tar.gz")
    with tarfile.open(deployment.directory / "again.tar.gz") as archive:
        assert not [name for name in archive.getnames() if "before-restore" in name]


def test_a_running_server_is_not_restored_over(system: System, deployment: Deployment) -> None:
    deployment.kipuka("backup", "backup.tar.gz")
    with tarfile.open(deployment.directory / "backup.tar.gz") as archive:
        names = archive.getnames()
    assert "state/audit.key" in names
    assert not [name for name in names if "/run/" in name or "control" in name]
    done = deployment.kipuka("restore", "backup.tar.gz", check=False)
    assert done.returncode == 1
    assert "a server runs with" in done.stderr
    system.enrolled("device")


def test_the_configuration_is_restored_where_there_is_none(deployment: Deployment, tmp_path: Path) -> None:
    deployment.otp("device")
    deployment.kipuka("backup", "backup.tar.gz")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    nowhere = Deployment(fresh).kipuka(
        "restore", str(deployment.directory / "backup.tar.gz"), check=False, KIPUKA_CONFIG=""
    )
    assert "-c FILE says where the restored one goes" in nowhere.stderr
    deployment.kipuka("restore", "backup.tar.gz", "-c", str(fresh / "kipuka.toml"))
    assert (fresh / "kipuka.toml").read_bytes() == deployment.toml.read_bytes()
    for name in ("tls/server.pem", "tls/server.key"):
        there, restored = deployment.directory / name, fresh / name
        assert restored.read_bytes() == there.read_bytes()
        assert stat.S_IMODE(restored.stat().st_mode) == stat.S_IMODE(there.stat().st_mode)
    assert ask(fresh / "state" / "kipuka.db", "SELECT entity_id FROM otps") == [("device",)]


def test_files_beside_the_configuration_stay_where_they_are_there(deployment: Deployment) -> None:
    deployment.otp("device")
    deployment.kipuka("backup", "backup.tar.gz")
    certificate = deployment.directory / "tls" / "server.pem"
    certificate.write_text("renewed")
    deployment.kipuka("restore", "backup.tar.gz")
    assert certificate.read_text() == "renewed"


def rebuilt(file: Path, change: dict[str, bytes | None], **manifest: object) -> None:
    """The same archive with other members; None takes one away."""
    members: dict[str, bytes | None] = {}
    with tarfile.open(file) as archive:
        for each in archive:
            content = archive.extractfile(each)
            assert content is not None
            members[each.name] = content.read()
    fields = json.loads(members.pop("manifest.json") or b"") | manifest
    first: dict[str, bytes | None] = {"manifest.json": json.dumps(fields).encode()}
    with tarfile.open(file, "w:gz") as archive:
        for name, new in (first | members | change).items():
            if new is not None:
                member = tarfile.TarInfo(name)
                member.size = len(new)
                archive.addfile(member, io.BytesIO(new))


@pytest.mark.parametrize(
    ("change", "manifest", "words"),
    [
        ({"state/ca/root.pem": b"other"}, {}, "is damaged: state/ca/root.pem"),
        ({"state/ca/root.pem": None}, {}, "is cut off: state/ca/root.pem is missing"),
        ({"../../escaped": b"x"}, {}, "which its manifest does not name"),
        ({}, {"format": 2}, "has format 2"),
        ({}, {"schema": "9999"}, "use the newer kipuka"),
        ({}, {"files": {"database.sqlite": {}}}, "which its manifest does not name"),
        ({}, {"counts": None, "format": None}, "has format None"),
    ],
)
def test_a_backup_that_is_not_what_was_made_changes_nothing(
    deployment: Deployment, tmp_path: Path, change: dict[str, bytes | None], manifest: dict[str, object], words: str
) -> None:
    deployment.otp("device")
    deployment.kipuka("backup", "backup.tar.gz")
    rebuilt(deployment.directory / "backup.tar.gz", change, **manifest)
    other = copied(deployment, tmp_path / "other")
    done = other.kipuka("restore", str(deployment.directory / "backup.tar.gz"), check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (other.directory / "state").exists()
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", gzip.compress(b"no archive"), None],
    ids=["empty", "no archive", "compressed, no archive", "cut off"],
)
def test_what_is_no_backup_is_one_line(deployment: Deployment, tmp_path: Path, content: bytes | None) -> None:
    file = deployment.directory / "backup.tar.gz"
    if content is None:
        deployment.otp("device")
        deployment.kipuka("backup", "backup.tar.gz")
        content = file.read_bytes()[:-2000]
    file.write_bytes(content)
    other = copied(deployment, tmp_path / "other")
    done = other.kipuka("restore", str(file), check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"kipuka: error: {file} is ")
    assert not (other.directory / "state").exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../b", "a//b", "./a", "a\0b"])
def test_names_that_lead_elsewhere_are_not_safe(name: str) -> None:
    assert not is_safe_name(name)
    assert is_safe_name("state/ca/root.pem")
