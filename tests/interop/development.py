"""``kipuka serve --dev`` as a newcomer meets it: started in an empty directory, and its printed lines pasted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kipuka_core.testing.server import wait_until
from tests.interop.programs import run

THIS_KIPUKA = (sys.executable, "-m", "kipuka_core.cli")
_LAST_LINE = "openssl verify "
_FREE_PORTS = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")


@dataclass(frozen=True, slots=True)
class Development:
    """A ``kipuka serve --dev`` that serves, and what it printed."""

    directory: Path
    output: str

    @property
    def token(self) -> str:
        """The one-time password in the printed lines."""
        match = re.search(r"-u 'device-1:([^']+)'", self.output)
        assert match
        return match[1]

    def file(self, name: str) -> bytes:
        """A file of the development state."""
        return (self.directory / "kipuka-dev" / name).read_bytes()

    def paste(self) -> None:
        """Run the lines in a shell, in the directory that they are made for, and see the last of them agree."""
        lines = self.output[self.output.index("# 1. ") :]
        done = run("sh", "-eu", "-c", lines, cwd=self.directory)
        assert done.stdout.decode().endswith("kipuka-dev/device-1-renewed.pem: OK\n")


@contextmanager
def development_server(directory: Path, kipuka: Sequence[str] = THIS_KIPUKA) -> Iterator[Development]:
    """Start it, wait until it says how to use it, and stop it at the end."""
    output, log_file = directory / "output.txt", directory / "log.txt"
    with output.open("wb") as stdout, log_file.open("ab") as log:
        process = subprocess.Popen(
            [*kipuka, "serve", "--dev", *_FREE_PORTS],
            cwd=directory,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=log,
        )
    try:
        wait_until(
            lambda: _LAST_LINE in output.read_text(encoding="utf-8") or process.poll() is not None,
            what=lambda: log_file.read_text(encoding="utf-8"),
        )
        assert process.poll() is None, log_file.read_text(encoding="utf-8")
        yield Development(directory, output.read_text(encoding="utf-8"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
