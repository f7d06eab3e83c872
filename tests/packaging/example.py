"""The example of a third-party plugin, and what has to happen where it is installed."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.interop.programs import run

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "kipuka-serial-allowlist"
_STORY = Path(__file__).with_name("serial_enrolment.py")


def check_the_story(python: str | Path, directory: Path, **environment: str) -> None:
    """Let this Python, with its kipuka and its plugin, tell the story of the example's README."""
    told = run(python, _STORY, directory, EXAMPLE / "README.md", cwd=directory, env={**os.environ, **environment})
    happened = json.loads(told.stdout)

    not_enabled, no_list = (happened.pop(step) for step in ("installed and not enabled", "start without a list"))
    assert 'add "serial-allowlist" to [plugins] enable' in not_enabled
    assert f"serial-allowlist.file: {directory / 'serials.txt'}: cannot be read" in no_list
    assert not_enabled.count("\n") == no_list.count("\n") == 1
    assert happened == {
        "in the list": 200,
        "not in the list": 401,
        "under the name of another": 403,
        "renewal": 200,
        "with the serial number of another": 403,
        "renewal, taken off the list": 403,
        "without a list": 500,
    }
