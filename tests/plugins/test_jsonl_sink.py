"""The event sink ``jsonl``."""
# ruff: noqa: ASYNC240 - a test may block its own event loop

import asyncio
import errno
import json
import os
import resource
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kipuka_builtin import append_file, jsonl_sink
from kipuka_core import ConfigurationError, Event, EventSink
from kipuka_core.model.audit_chain import ChainKey
from kipuka_core.testing.contracts.event_sink import EventSinkContract, numbered, numbers
from kipuka_core.testing.services import make_services


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The events, without the links of their chain."""
    lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    return [{name: value for name, value in line.items() if name != "chain"} for line in lines]


def sink_on(path: Path) -> jsonl_sink.JsonlSink:
    return jsonl_sink.JsonlSink(append_file.AppendFile(path), ChainKey(bytes(32)), lambda _head: None)


def open_sink(path: Path) -> AbstractAsyncContextManager[EventSink]:
    return jsonl_sink.PROVIDER.open(jsonl_sink.JsonlSettings(path=path), make_services(path.parent.parent))


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "log" / "audit.jsonl"


@pytest.fixture(autouse=True)
def log_dir(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


class TestContract(EventSinkContract):
    provider = jsonl_sink.PROVIDER

    @pytest.fixture
    def settings(self) -> Mapping[str, object]:
        return {"path": "log/audit.jsonl"}

    @pytest.fixture
    def read_back(self, audit: Path) -> Callable[[], Sequence[dict[str, Any]]]:
        return lambda: lines_of(audit)

    @pytest.fixture
    def break_it(self, log_dir: Path) -> Callable[[], None]:
        def delete_the_directory() -> None:
            for path in log_dir.iterdir():
                path.unlink()
            log_dir.rmdir()

        return delete_the_directory

    @pytest.fixture
    def repair_it(self, log_dir: Path) -> Callable[[], None]:
        return log_dir.mkdir


async def test_the_default_is_a_private_file_in_the_state_directory(tmp_path: Path) -> None:
    services = make_services(tmp_path / "log", state_dir=tmp_path)
    async with jsonl_sink.PROVIDER.open(jsonl_sink.JsonlSettings(), services) as sink:
        await sink.emit(numbered(1))
    assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600
    assert lines_of(tmp_path / "audit.jsonl") == [numbered(1).as_dict()]


async def test_a_dry_run_makes_no_file_and_says_when_there_can_be_none(audit: Path, tmp_path: Path) -> None:
    settings = jsonl_sink.JsonlSettings(path=audit)
    services = make_services(tmp_path, dry_run=True)
    async with jsonl_sink.PROVIDER.open(settings, services) as sink:
        await sink.emit(numbered(1))
    assert not audit.exists()
    audit.write_text("before\n")
    async with jsonl_sink.PROVIDER.open(settings, services) as sink:
        await sink.emit(numbered(1))
    assert audit.read_text() == "before\n"
    nowhere = jsonl_sink.JsonlSettings(path=tmp_path / "nowhere" / "audit.jsonl")
    with pytest.raises(ConfigurationError, match="cannot be opened for appending: No such file"):
        async with jsonl_sink.PROVIDER.open(nowhere, services):
            pass


async def test_a_file_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"audit\.jsonl: cannot be opened for appending: No such file"):
        async with open_sink(tmp_path / "missing" / "audit.jsonl"):
            pass


async def test_concurrent_events_share_a_write_and_an_fsync(audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_sink(audit) as sink:
        calls: list[str] = []
        real_write, real_fsync = os.write, os.fsync

        def write(descriptor: int, content: bytes) -> int:
            calls.append("write")
            return real_write(descriptor, content)

        def fsync(descriptor: int) -> None:
            calls.append("fsync")
            real_fsync(descriptor)

        monkeypatch.setattr(os, "write", write)
        monkeypatch.setattr(os, "fsync", fsync)
        await asyncio.gather(*(sink.emit(numbered(number)) for number in range(500)))
        monkeypatch.undo()
    assert calls == ["write", "fsync"]
    assert numbers(lines_of(audit)) == list(range(500))


async def test_a_line_torn_by_a_crash_is_not_joined_with_the_next(audit: Path) -> None:
    audit.write_bytes(b'{"event":"whole"}\n{"event":"to')
    async with open_sink(audit) as sink:
        await sink.emit(numbered(1))
        await sink.emit(numbered(2))
    lines = audit.read_bytes().split(b"\n")
    assert lines[1] == b'{"event":"to'
    assert [json.loads(line)["request_id"] for line in lines[2:-1]] == ["00000001", "00000002"]


async def test_a_full_disk_raises_for_everybody_in_the_batch() -> None:
    sink = sink_on(Path("/dev/full"))
    outcomes = await asyncio.gather(*(sink.emit(numbered(number)) for number in range(10)), return_exceptions=True)
    await sink.close()
    failures = [outcome for outcome in outcomes if isinstance(outcome, OSError)]
    assert [failure.errno for failure in failures] == [errno.ENOSPC] * 10
    assert len({id(failure) for failure in failures}) == 10


async def test_a_write_that_was_cut_short_raises_and_the_next_begins_a_new_line(audit: Path) -> None:
    async with open_sink(audit) as sink:
        await sink.emit(numbered(1))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (audit.stat().st_size + 50, hard))
        try:
            outcomes = await asyncio.gather(*map(sink.emit, map(numbered, (2, 3))), return_exceptions=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert all(isinstance(outcome, OSError) for outcome in outcomes)
        await sink.emit(numbered(4))
    lines = audit.read_bytes().split(b"\n")
    assert len(lines[1]) == 50
    assert json.loads(lines[2])["request_id"] == "00000004"


async def test_after_logrotate_moved_the_file_a_new_one_is_written(audit: Path) -> None:
    async with open_sink(audit) as sink:
        await sink.emit(numbered(1))
        moved = audit.rename(audit.with_suffix(".1"))
        await sink.emit(numbered(2))
        audit.unlink()
        await sink.ping()
        await sink.emit(numbered(3))
    assert numbers(lines_of(moved)) == [1]
    assert numbers(lines_of(audit)) == [3]


async def test_ping_raises_when_the_directory_is_gone(audit: Path, log_dir: Path) -> None:
    async with open_sink(audit) as sink:
        await sink.ping()
        audit.unlink()
        log_dir.rmdir()
        with pytest.raises(FileNotFoundError):
            await sink.ping()


_WRITER = """
import asyncio, pathlib, sys
from kipuka_builtin import jsonl_sink
from kipuka_core.testing.contracts.event_sink import numbered
from kipuka_core.testing.services import make_services

async def main(path, first):
    async with jsonl_sink.PROVIDER.open(jsonl_sink.JsonlSettings(path=path), make_services(path.parent)) as sink:
        print("ready", flush=True)
        sys.stdin.readline()
        for start in range(first, first + 200, 10):
            await asyncio.gather(*(sink.emit(numbered(number, "x" * 3000)) for number in range(start, start + 10)))

asyncio.run(main(pathlib.Path(sys.argv[1]), int(sys.argv[2])))
"""


async def test_two_processes_append_to_one_file_without_mixing_lines(audit: Path) -> None:
    writers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WRITER, str(audit), str(first),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for first in (0, 200)
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        assert await writer.stdout.readline() == b"ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
    for writer in writers:
        await writer.communicate()
        assert writer.returncode == 0
    assert sorted(numbers(lines_of(audit))) == list(range(400))


@dataclass(frozen=True, slots=True, kw_only=True)
class _OddEvent(Event):
    thing: object


async def test_an_event_that_json_cannot_say_is_its_own_emitters_affair(audit: Path) -> None:
    async with open_sink(audit) as sink:
        odd = _OddEvent(time=numbered(1).time, thing=1j)
        outcomes = await asyncio.gather(sink.emit(numbered(1)), sink.emit(odd), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), TypeError]
    assert numbers(lines_of(audit)) == [1]


async def test_nobody_waits_for_a_writer_that_was_stopped(audit: Path) -> None:
    async with open_sink(audit) as sink:
        emits = [asyncio.create_task(sink.emit(numbered(number))) for number in range(3)]
        await asyncio.sleep(0)
        assert isinstance(sink, jsonl_sink.JsonlSink)
        assert sink._writer is not None
        sink._writer.cancel()
        outcomes = await asyncio.wait_for(asyncio.gather(*emits, return_exceptions=True), 60)
        assert {type(outcome) for outcome in outcomes} == {OSError}
        await sink.emit(numbered(9))
    assert numbers(lines_of(audit))[-1] == 9


async def test_closing_twice_does_nothing_more(audit: Path) -> None:
    sink = sink_on(audit)
    await sink.emit(numbered(1))
    await sink.close()
    await sink.close()
    with pytest.raises(RuntimeError, match="closed"):
        await sink.emit(numbered(2))
    assert numbers(lines_of(audit)) == [1]
