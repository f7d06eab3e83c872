"""A process of its own for code of a plugin that nobody has enabled yet: whatever it does, the command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_INSIDE = "kipuka_core.cli.plugins.inside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came out of the process, as far as it got."""

    records: tuple[dict[str, Any], ...]
    """What :mod:`kipuka_core.cli.plugins.inside` has written, in order; a plugin cannot get into between."""
    end: str
    """How it ended where it should not have; empty: by itself, when everything was done."""
    step: str
    """What it was doing last."""
    printed: bool
    """Whether it wrote to standard output."""

    def all(self, kind: str) -> list[Any]:
        """The records of one kind."""
        return [record[kind] for record in self.records if kind in record]


def told_by_process(request: dict[str, Any], *, timeout_seconds: float) -> Told:
    """Have ``request`` done in a process of its own, and kill it and what it started when the time is over."""
    with TemporaryDirectory(prefix="kipuka-") as name:
        directory = Path(name)
        records, printed = directory / "records", directory / "stdout"
        records.touch()
        ask = {**request, "records": str(records), "path": sys.path}
        (directory / "tmp").mkdir()
        with printed.open("wb") as output, _process(ask, directory / "tmp", output.fileno()) as process:
            try:
                code = process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                code = None
        read = tuple(_records(records.read_bytes()))
        steps = [record["step"] for record in read if "step" in record]
        is_done = any("done" in record for record in read)
        return Told(
            records=read,
            end="" if code == 0 and is_done else _how_it_ended(code, timeout_seconds),
            step=steps[-1] if steps else "starting",
            printed=printed.stat().st_size > 0,
        )


@contextmanager
def _process(request: dict[str, Any], scratch: Path, output: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(  # noqa: S603  # our own module, without a shell
        [sys.executable, "-P", "-m", _INSIDE, json.dumps(request)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.DEVNULL,  # a traceback would show what a plugin had in its hands
        env={**os.environ, "TMPDIR": str(scratch)},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        # The session's leader may have ended, and others of its group not: they would hold what they have open.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _how_it_ended(code: int | None, timeout_seconds: float) -> str:
    if code is None:
        return f"did not come to an end within {timeout_seconds:g} s"
    if code < 0:
        names = {each.value: each.name for each in signal.Signals}
        return f"died of {names.get(-code, f'signal {-code}')}"
    return f"ended the process with exit code {code}"


def _records(written: bytes) -> Iterator[dict[str, Any]]:
    for line in written.splitlines():
        with suppress(ValueError):  # the last one of a process that was killed
            yield json.loads(line)
