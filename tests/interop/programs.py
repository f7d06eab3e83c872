"""Programs of others as clients; one that is missing fails the test with what to do about it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest


def run(
    *command: str | Path,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    seconds: float = 60,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program; unless ``check`` is off, one that ends with another code than 0 fails the test."""
    program = str(command[0])
    if shutil.which(program) is None:
        pytest.fail(f"the program {program} is missing: run tests/interop/install-system-packages (as root)")
    done = subprocess.run(
        [str(word) for word in command],
        input=stdin,
        cwd=cwd,
        env=env,
        capture_output=True,
        check=False,
        timeout=seconds,
    )
    if check and done.returncode != 0:
        pytest.fail(f"{command} ended with {done.returncode}:\n{done.stdout.decode()}{done.stderr.decode()}")
    return done
