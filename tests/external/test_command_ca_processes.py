"""CA backend ``command``: its programs end, whatever happens, and there are only so many."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from kipuka_core import (
    Issued,
    OutcomeUnknown,
    Unavailable,
)
from kipuka_core.testing.server import wait_until
from tests.external.command_kit import opened
from tests.external.external_kit import approved_by, logged

# -- time and number ---------------------------------------------------------------------------------------------------
STUCK = "sleep 1000 & echo $$ $! > pids.new; mv pids.new pids; wait"


def pids(directory: Path) -> list[int]:
    """The program and its child, once both run."""
    wait_until((directory / "pids").exists)
    return [int(pid) for pid in (directory / "pids").read_text().split()]


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # killed, and not yet reaped by whoever has inherited it


async def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    async with opened(tmp_path, STUCK, timeout=1) as backend:
        with pytest.raises(OutcomeUnknown, match="did not end within 1 s"):
            await backend.issue(await approved_by(backend))
    for pid in pids(tmp_path):
        wait_until(lambda pid=pid: not runs(pid))  # type: ignore[misc]


async def test_a_child_that_keeps_the_output_open_is_killed_too(tmp_path: Path) -> None:
    async with opened(tmp_path, STUCK.replace("wait", "cat answer.pem"), timeout=1) as backend:
        with pytest.raises(OutcomeUnknown):
            await backend.issue(await approved_by(backend))
    for pid in pids(tmp_path):
        wait_until(lambda pid=pid: not runs(pid))  # type: ignore[misc]


async def test_no_program_outlives_a_cancellation(tmp_path: Path) -> None:
    async with opened(tmp_path, STUCK) as backend:
        call = asyncio.create_task(backend.issue(await approved_by(backend)))
        started = await asyncio.to_thread(pids, tmp_path)
        assert all(map(runs, started))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    for pid in started:
        wait_until(lambda pid=pid: not runs(pid))  # type: ignore[misc]


async def test_a_program_that_somebody_kills_may_have_issued(tmp_path: Path) -> None:
    async with opened(tmp_path, STUCK) as backend:
        call = asyncio.create_task(backend.issue(await approved_by(backend)))
        program, child = await asyncio.to_thread(pids, tmp_path)
        os.kill(program, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        with pytest.raises(OutcomeUnknown, match="ended by signal 9"):
            await call


MEETING = """
mkfifo "$$.fifo"
echo $$ >> started
until [ "$(wc -l < started)" -ge 2 ]; do sleep 0.05; done
cat answer.pem
"""


async def test_two_programs_run_at_once(tmp_path: Path) -> None:
    """Each waits until the other one has started."""
    async with opened(tmp_path, MEETING, processes=2) as backend:
        approved = await approved_by(backend)
        issued = await asyncio.gather(backend.issue(approved), backend.issue(approved))
    assert [type(each) for each in issued] == [Issued, Issued]


async def test_no_more_programs_run_than_are_allowed(tmp_path: Path) -> None:
    """A further request waits for a while, and is then surely not issued."""
    async with opened(tmp_path, STUCK, processes=1, services={"call_timeout_seconds": 61.0}) as backend:
        approved = await approved_by(backend)
        first = asyncio.create_task(backend.issue(approved))
        started = await asyncio.to_thread(pids, tmp_path)
        with pytest.raises(Unavailable, match="too many requests") as caught:
            await backend.issue(approved)
        assert not isinstance(caught.value, OutcomeUnknown)
        os.killpg(started[0], signal.SIGKILL)
        with pytest.raises(OutcomeUnknown):
            await first
        (tmp_path / "sign").write_text("#!/bin/sh\ncat answer.pem\n", encoding="utf-8")
        assert isinstance(await backend.issue(approved), Issued), "its place is free again"


async def test_a_program_that_is_gone_was_not_started(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path, "cat answer.pem") as backend:
        (tmp_path / "sign").unlink()
        with pytest.raises(Unavailable, match="cannot be started") as caught:
            await backend.issue(await approved_by(backend))
    assert not isinstance(caught.value, OutcomeUnknown)
    assert "sign cannot be started: No such file or directory" in logged(caplog)
