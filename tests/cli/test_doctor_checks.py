"""The doctor's checks of the machine, with machines that are other than this one."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kipuka_core.cli.doctor import machine
from kipuka_core.cli.doctor.files import configured_files
from kipuka_core.cli.doctor.finding import Finding, Level, Section, without_repetitions
from kipuka_core.cli.doctor.machine import clock, exporter, fips, kernel_clock_is_synchronised
from kipuka_core.cli.doctor.process import ServerState, judge_room, process
from kipuka_core.config import Config, load
from kipuka_core.edges.serving.control import server_process
from kipuka_core.testing.server import make_deployment

NOT_RUNNING = ServerState(None, None, False)
GIB = 2**30


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return load(make_deployment(tmp_path_factory.mktemp("checks") / "deployment").toml, {})


def whats(section: Section) -> list[str]:
    return [each.what for each in section.findings]


# -- files ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("pkcs11:object=issuing", None),
        ("erp-serials:issuing", None),
        ("x.y+z:issuing", None),
        ("issuing.key", "issuing.key"),
        ("file:issuing.key", "issuing.key"),
    ],
)
def test_a_key_in_a_store_of_any_scheme_is_no_file(tmp_path: Path, key: str, file: str | None) -> None:
    deployment = make_deployment(tmp_path / "deployment")
    deployment.configure(f'[[ca]]\nid = "ours"\nkey = "{key}"\n')
    looked_at = {each.path for each in configured_files(load(deployment.toml, {})) if each.toml_path.endswith(".key")}
    assert looked_at - {deployment.directory / "tls/server.key"} == ({deployment.directory / file} if file else set())


# -- FIPS ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kernel", "in_tls", "in_signatures", "says"),
    [
        ("0\n", False, False, []),
        (None, False, False, []),
        ("1\n", True, True, []),
        ("1\n", False, True, ["OpenSSL's TLS is not"]),
        ("1\n", True, False, ["cryptography's own OpenSSL"]),
        ("0\n", True, False, ["cryptography's own OpenSSL"]),
        ("1\n", False, False, ["OpenSSL's TLS is not", "cryptography's own OpenSSL"]),
    ],
)
def test_fips_mode_that_is_only_half_on_is_a_warning(
    kernel: str | None, in_tls: bool, in_signatures: bool, says: list[str], tmp_path: Path
) -> None:
    switch = tmp_path / "fips_enabled"
    if kernel is not None:
        switch.write_text(kernel)

    section = fips(switch, tls_mode=lambda: in_tls, signature_mode=lambda: in_signatures)

    assert dict(section.facts)["kernel"] == ("on" if kernel == "1\n" else "off")
    assert [each.level for each in section.findings] == [Level.WARNING] * len(says)
    assert all(text in what for text, what in zip(says, whats(section), strict=True))


def test_an_exporter_that_fails_its_self_test_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "exporter_problem", lambda: "this is not CPython's SSL object")
    section = exporter()
    assert section.facts == [("exporter self-test", "failed")]
    assert "this is not CPython's SSL object" in section.findings[0].what


# -- clock -----------------------------------------------------------------------------------------------------------
def test_files_from_the_future_and_an_unsynchronised_clock_are_found(tmp_path: Path) -> None:
    file = tmp_path / "kipuka.db"
    file.write_text("")
    now = datetime.now(UTC)
    files = (tmp_path / "missing", file)

    assert clock(files, now=now, is_synchronised=lambda: True).findings == []
    assert clock(files, now=now, is_synchronised=lambda: None).findings == []
    behind = clock(files, now=now - timedelta(hours=1), is_synchronised=lambda: False).findings
    assert [each.level for each in behind] == [Level.ERROR, Level.WARNING]
    assert str(file) in behind[0].what


def test_the_kernel_answers_whether_its_clock_is_synchronised() -> None:
    assert kernel_clock_is_synchronised() in {True, False, None}


# -- the process -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("state", "own_uid", "is_found"),
    [
        (ServerState(1, 0, True), 1000, True),
        (ServerState(1, 1000, True), 0, False),
        (NOT_RUNNING, 1000, False),
    ],
)
def test_a_server_of_root_is_a_warning_that_names_the_unit(
    config: Config, state: ServerState, own_uid: int, is_found: bool
) -> None:
    found = [each for each in process(config, state, own_uid=own_uid).findings if "root" in each.what]
    assert len(found) == is_found
    assert all("examples/systemd/kipuka.service" in each.remedy for each in found)


@pytest.fixture
def few_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_files")
def test_too_few_open_files_for_max_connections_is_a_warning(config: Config) -> None:
    (found,) = (each for each in process(config, NOT_RUNNING).findings if "open files" in each.what)
    assert "1024" in found.what
    assert "LimitNOFILE=4224" in found.remedy


def test_enough_open_files_is_none(config: Config) -> None:
    modest = config.model_copy(update={"server": config.server.model_copy(update={"max_connections": 100})})
    assert [what for what in whats(process(modest, NOT_RUNNING)) if "open files" in what] == []


def test_nobody_serves_a_directory_without_a_socket(tmp_path: Path) -> None:
    assert server_process(tmp_path) is None
    assert server_process(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("free_bytes", "free_inodes", "level"),
    [
        (5 * GIB, 10**6, None),
        (5 * GIB, None, None),
        (GIB - 1, 10**6, Level.WARNING),
        (10**8, 10**6, Level.ERROR),
        (5 * GIB, 10, Level.ERROR),
    ],
)
def test_a_full_disk_is_found(free_bytes: int, free_inodes: int | None, level: Level | None, tmp_path: Path) -> None:
    section = Section("Disk")
    judge_room(section, tmp_path, free_bytes, free_inodes)
    assert [each.level for each in section.findings] == ([level] if level else [])


# -- findings --------------------------------------------------------------------------------------------------------
def test_what_two_checks_find_is_said_once() -> None:
    first, second = Section("a"), Section("b")
    first.error("tls.key: /k is not there", "put it there", said_as="/k")
    first.warning("the same", "once")
    second.error("tls: /k: No such file", "look")
    second.warning("the same", "once")
    second.note("another", "read")

    kept = without_repetitions([first, second])

    assert kept[0].findings == first.findings
    assert kept[1].findings == [Finding(Level.NOTE, "another", "read")]
