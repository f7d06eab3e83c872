"""The chain of the sink ``jsonl`` with a real store: processes, crashes, full disks, logrotate."""
# ruff: noqa: ASYNC240, ASYNC220 - a test may block its own event loop

import asyncio
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kipuka_builtin import jsonl_sink
from kipuka_core import ConfigurationError, EventSink
from kipuka_core.domain.audit_verification import AuditFile, Verification, verify
from kipuka_core.edges.store import SqlStore, default_sqlite_url, open_store
from kipuka_core.model.audit_chain import ChainKey
from kipuka_core.testing.contracts.event_sink import numbered
from kipuka_core.testing.server import wait_until
from kipuka_core.testing.services import make_services


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    async with open_store(default_sqlite_url(tmp_path)) as opened:
        yield opened


@asynccontextmanager
async def opened(directory: Path, store: SqlStore) -> AsyncIterator[EventSink]:
    services = make_services(directory, store=store)
    async with jsonl_sink.PROVIDER.open(jsonl_sink.JsonlSettings(), services) as sink:
        yield sink


async def checked(store: SqlStore, *files: Path) -> Verification:
    await anchored(store)
    key = ChainKey.parse((files[-1].parent / "audit.key").read_bytes())
    heads = await store.audit_heads()

    def opener(file: Path) -> AuditFile:
        return AuditFile(file.name, lambda: file.read_bytes().splitlines(keepends=True))

    return verify([opener(file) for file in files], heads, key)


async def anchored(store: SqlStore) -> None:
    """A write takes along what is pending."""
    await store.release("nobody")


def told(result: Verification) -> list[tuple[str, int]]:
    return [(str(finding.kind), finding.line) for finding in result.findings]


async def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path, store: SqlStore) -> None:
    before = os.umask(0)
    try:
        async with opened(tmp_path, store), opened(tmp_path, store):
            pass
    finally:
        os.umask(before)
    key = tmp_path / "audit.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    first = key.read_bytes()
    assert len(bytes.fromhex(first.decode())) == 32
    async with opened(tmp_path, store):
        pass
    assert key.read_bytes() == first
    assert sorted(path.name for path in tmp_path.glob("audit*")) == ["audit.jsonl", "audit.key"]
    assert first.decode().strip() not in repr(ChainKey.parse(first))


@pytest.mark.parametrize("content", ["", "short", "z" * 64])
@pytest.mark.parametrize("dry_run", [False, True])
async def test_what_is_no_key_stops_the_start_and_the_check(tmp_path: Path, content: str, dry_run: bool) -> None:
    (tmp_path / "audit.key").write_text(content)
    (tmp_path / "audit.key").chmod(0o600)
    with pytest.raises(ConfigurationError, match="is not a key of the audit trail") as caught:
        async with jsonl_sink.PROVIDER.open(jsonl_sink.JsonlSettings(), make_services(tmp_path, dry_run=dry_run)):
            pass
    assert "z" * 8 not in str(caught.value)


async def test_lines_of_several_sinks_in_one_file_are_whole(audit: Path, store: SqlStore) -> None:
    async with opened(audit.parent, store) as one, opened(audit.parent, store) as two:
        for start in range(0, 60, 6):
            await asyncio.gather(*((one, two)[number % 2].emit(numbered(number)) for number in range(start, start + 6)))
        result = await checked(store, audit)
    assert (result.findings, result.lines, result.chains) == ((), 60, 2)


async def test_the_end_of_every_batch_is_recorded_with_the_next_write_or_soon(audit: Path, store: SqlStore) -> None:
    async with opened(audit.parent, store) as sink:
        await sink.emit(numbered(1))
        await anchored(store)
        (head,) = await store.audit_heads()
        assert (head.seq, head.file) == (1, audit)
        await asyncio.gather(*(sink.emit(numbered(number)) for number in range(2, 8)))

        async def is_recorded() -> bool:  # although nobody writes
            return [each.seq for each in await store.audit_heads()] == [7]

        async with asyncio.timeout(60):
            while not await is_recorded():  # noqa: ASYNC110 - another task of the store writes it
                await asyncio.sleep(0.01)
    last = json.loads(audit.read_text().splitlines()[-1])
    (head,) = await store.audit_heads()
    assert (last["chain"]["mac"], last["chain"]["writer"]) == (head.mac, head.writer)


async def test_the_last_lines_before_the_store_is_closed_are_recorded(audit: Path) -> None:
    async with open_store(default_sqlite_url(audit.parent)) as store, opened(audit.parent, store) as sink:
        await sink.emit(numbered(1))
    async with open_store(default_sqlite_url(audit.parent)) as store:
        assert [head.seq for head in await store.audit_heads()] == [1]


async def test_a_cut_tail_and_a_deleted_file_are_found(audit: Path, store: SqlStore) -> None:
    async with opened(audit.parent, store) as sink:
        for number in range(10):
            await sink.emit(numbered(number))
        await anchored(store)
    lines = audit.read_bytes().splitlines(keepends=True)
    audit.write_bytes(b"".join(lines[:7]))
    assert told(await checked(store, audit)) == [("cut", 7)]
    audit.write_bytes(b"")
    assert told(await checked(store, audit)) == [("missing", 0)]


async def test_a_full_disk_leaves_half_a_line_and_no_damage(audit: Path, store: SqlStore) -> None:
    async with opened(audit.parent, store) as sink:
        await sink.emit(numbered(1))
        await anchored(store)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (audit.stat().st_size + 700, hard))
        try:
            outcomes = await asyncio.gather(*map(sink.emit, map(numbered, range(2, 9))), return_exceptions=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert all(isinstance(outcome, OSError) for outcome in outcomes)
        await sink.emit(numbered(9))
        result = await checked(store, audit)
    assert result.is_whole
    assert {finding.kind for finding in result.findings} == {"torn", "unanchored"}


async def test_logrotate_moves_the_file_and_the_chain_goes_on(audit: Path, store: SqlStore) -> None:
    async with opened(audit.parent, store) as sink:
        for number in range(3):
            await sink.emit(numbered(number))
        moved = audit.rename(audit.with_name("audit.jsonl.1"))
        for number in range(3):
            await sink.emit(numbered(number))
        assert (await checked(store, moved, audit)).findings == ()
        assert told(await checked(store, audit)) == [("missing", 1)]
        assert told(await checked(store, moved)) == [("cut", 3)]


_WRITER = """
import asyncio, pathlib, sys
from kipuka_builtin import jsonl_sink
from kipuka_core.edges.store import default_sqlite_url, open_store
from kipuka_core.testing.contracts.event_sink import numbered
from kipuka_core.testing.services import make_services

async def main(directory):
    async with open_store(default_sqlite_url(directory)) as store:
        services = make_services(directory, store=store)
        async with jsonl_sink.PROVIDER.open(jsonl_sink.JsonlSettings(), services) as sink:
            number = 0
            while True:
                await asyncio.gather(*(sink.emit(numbered(number + each, "x" * 2000)) for each in range(10)))
                await store.release("nobody")
                number += 10

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


async def test_processes_that_are_killed_while_they_write_do_not_look_like_tampering(
    audit: Path, store: SqlStore
) -> None:
    for _ in range(3):
        writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(audit.parent)]) for _ in range(2)]
        before = audit.stat().st_size if audit.exists() else 0
        try:
            wait_until(lambda before=before: audit.exists() and audit.stat().st_size > before + 300_000)  # type: ignore[misc]
        finally:
            for writer in writers:
                writer.send_signal(signal.SIGKILL)
                writer.wait()
    result = await checked(store, audit)
    assert result.is_whole, [str(finding) for finding in result.findings if finding.is_damage]
    assert result.chains >= 3  # one of two may be killed before its first line
    assert result.lines > 300
