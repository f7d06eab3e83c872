"""The event sink ``stdout``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kipuka_builtin import stdout_sink
from kipuka_core import ConfigurationError, Services
from kipuka_core.testing.contracts.event_sink import EventSinkContract
from kipuka_core.testing.services import make_services


class TestContract(EventSinkContract):
    provider = stdout_sink.PROVIDER

    @pytest.fixture
    def file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """What the sink takes for standard output."""
        path = tmp_path / "output"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        monkeypatch.setattr(stdout_sink, "_STDOUT", descriptor)
        yield path
        os.close(descriptor)

    @pytest.fixture
    def replace(self, file: Path) -> Callable[[str], None]:
        """Standard output is another file from now on."""

        def replace(path: str) -> None:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.dup2(descriptor, stdout_sink._STDOUT)
            os.close(descriptor)

        return replace

    @pytest.fixture
    def services(self, file: Path, tmp_path: Path) -> Services:
        return make_services(tmp_path)

    @pytest.fixture
    def read_back(self, file: Path) -> Callable[[], Sequence[dict[str, Any]]]:
        return lambda: [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]

    @pytest.fixture
    def break_it(self, replace: Callable[[str], None]) -> Callable[[], None]:
        return lambda: replace("/dev/full")

    @pytest.fixture
    def repair_it(self, replace: Callable[[str], None], file: Path) -> Callable[[], None]:
        return lambda: replace(str(file))


_WRITER = """
import asyncio, pathlib, sys
from kipuka_builtin import stdout_sink
from kipuka_core.testing.contracts.event_sink import numbered
from kipuka_core.testing.services import make_services

async def main(directory, first):
    async with stdout_sink.PROVIDER.open(stdout_sink.StdoutSettings(), make_services(directory)) as sink:
        print("ready", file=sys.stderr, flush=True)
        sys.stdin.readline()
        for start in range(first, first + 100, 10):
            await asyncio.gather(*(sink.emit(numbered(number, "x" * 9000)) for number in range(start, start + 10)))

asyncio.run(main(pathlib.Path(sys.argv[1]), int(sys.argv[2])))
"""


def test_two_processes_share_a_pipe_without_mixing_long_lines(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # as some programs leave it
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path), str(first)],
            stdin=subprocess.PIPE,
            stdout=writing,
            stderr=subprocess.PIPE,
        )
        for first in (0, 100)
    ]
    os.close(writing)
    for writer in writers:
        assert writer.stderr is not None
        assert writer.stderr.readline() == b"ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    with os.fdopen(reading, "rb") as output:
        found = [int(json.loads(line)["request_id"]) for line in output]
    for writer in writers:
        writer.communicate()
    assert [writer.returncode for writer in writers] == [0, 0]
    assert sorted(found) == list(range(200))


async def test_a_state_directory_without_room_for_the_lock_stops_the_start(tmp_path: Path) -> None:
    services = make_services(tmp_path, state_dir=tmp_path / "missing")
    with pytest.raises(ConfigurationError, match=r"stdout\.lock: cannot be opened"):
        async with stdout_sink.PROVIDER.open(stdout_sink.StdoutSettings(), services):
            pass
