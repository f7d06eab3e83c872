"""kill -9 in the middle of a renewal: at every step of the file system the pair that serves is whole."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kipuka_builtin.tls_self_files import PairDirectory
from kipuka_core import Unavailable
from kipuka_core.testing import pki
from tests.tls_material.own_ca_kit import files_in

_CA = pki.make_root().subordinate()
_PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
from kipuka_builtin.tls_self_files import PairDirectory
from kipuka_core.testing import pki

STEPS = {"open", "os.symlink", "os.rename", "os.remove", "os.scandir", "os.listdir"}
authority, directory = pki.make_root().subordinate(), PairDirectory(Path(sys.argv[1]))

async def renew(steps_left):
    leaf = authority.server()

    def count(event, arguments):
        nonlocal steps_left
        steps_left -= event in STEPS
        if event in STEPS and steps_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async with directory.locked(60):
        sys.addaudithook(count)
        directory.put(leaf.key, (leaf.certificate, *leaf.chain[:-1]))
        os._exit(0)

for line in sys.stdin:
    if os.fork() == 0:
        asyncio.run(renew(int(line)))
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


class Renewals:
    """Renewals, each in a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def is_killed_after(self, steps: int) -> bool:
        """Renew, and be killed before the next step of the file system; False when there is none."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(steps, file=self.process.stdin, flush=True)
        code = int(self.process.stdout.readline())
        assert code in {0, -signal.SIGKILL}
        return code != 0


@pytest.fixture
def renewals(tmp_path: Path) -> Iterator[Renewals]:
    running = Renewals(tmp_path / "tls-self")
    with running.process:
        yield running


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_renewal_that_is_killed_leaves_a_pair_that_belongs_together(
    tmp_path: Path, renewals: Renewals, is_first: bool
) -> None:
    directory = PairDirectory(tmp_path / "tls-self")
    if not is_first:
        await put(directory, _CA.server())
    steps = 0
    while renewals.is_killed_after(steps):
        pair = directory.read()  # raises for one that is damaged
        assert pair is not None or is_first
        leaf = _CA.server()
        await put(directory, leaf)
        after = directory.read()
        assert after is not None
        assert after.leaf == leaf.certificate
        assert len(files_in(directory.path)) <= 4, "the lock, the link, this generation and the one before"
        steps += 1
    assert steps >= 5, "the program was killed at no step"


async def put(directory: PairDirectory, leaf: pki.Leaf) -> None:
    async with directory.locked(60):
        directory.put(leaf.key, (leaf.certificate, *leaf.chain[:-1]))


@pytest.fixture
def lock_holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, tmp_path / "tls-self"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process


_HOLDER = """
import asyncio, sys
from pathlib import Path
from kipuka_builtin.tls_self_files import PairDirectory

async def hold():
    async with PairDirectory(Path(sys.argv[1])).locked(60):
        print("held", flush=True)
        sys.stdin.read()

asyncio.run(hold())
"""


async def test_a_process_that_dies_with_the_lock_lets_go_of_it(
    tmp_path: Path, lock_holder: subprocess.Popen[bytes]
) -> None:
    directory = PairDirectory(tmp_path / "tls-self")
    with pytest.raises(Unavailable, match="another process has been renewing for 0 s"):
        async with directory.locked(0):
            pass
    lock_holder.kill()
    async with directory.locked(60):
        pass
