"""The examples of third-party plugins, and what has to happen where they are installed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.programs import run

ROOT = Path(__file__).resolve().parents[2]

_STORY_SECONDS = 600
_ID_AA_EVIDENCE = "1.2.840.113549.1.9.16.2.59"


@dataclass(frozen=True, slots=True)
class Example:
    """A distribution under ``examples/`` with one module and one entry point."""

    name: str
    plugin: str
    """The name of its entry point, for ``[plugins] enable``."""
    lines: int
    """So many its module has at most: it is to be read in one sitting."""
    story: str
    """The program here that lives through what its README says."""
    judge: Callable[[dict[str, Any], Path], None]

    @property
    def source(self) -> Path:
        """The directory with its pyproject."""
        return ROOT / "examples" / self.name

    @property
    def module(self) -> Path:
        """Its one module."""
        return self.source / f"{self.name.replace('-', '_')}.py"

    def check_the_story(self, python: str | Path, directory: Path, **environment: str) -> None:
        """Let this Python, with its kipuka and its plugins, tell the story of the example's README."""
        story = Path(__file__).with_name(self.story)
        readme, env = self.source / "README.md", {**os.environ, **environment}
        told = run(python, story, directory, readme, cwd=directory, env=env, seconds=_STORY_SECONDS)
        happened = json.loads(told.stdout)
        not_enabled = happened.pop("installed and not enabled")
        assert f'add "{self.plugin}" to [plugins] enable' in not_enabled
        assert not_enabled.count("\n") == 1
        self.judge(happened, directory)

    def __str__(self) -> str:
        return self.name


def _serials(happened: dict[str, Any], directory: Path) -> None:
    no_list = happened.pop("start without a list")
    assert f"serial-allowlist.file: {directory / 'serials.txt'}: cannot be read" in no_list
    assert no_list.count("\n") == 1
    assert happened == {
        "in the list": 200,
        "not in the list": 401,
        "under the name of another": 403,
        "renewal": 200,
        "with the serial number of another": 403,
        "renewal, taken off the list": 403,
        "without a list": 500,
    }


def _directory(happened: dict[str, Any], directory: Path) -> None:
    empty = f"{directory / 'tls.d'}: holds no NAME.pem with its NAME.key that is valid now"
    assert happened == {
        "an empty directory": f"kipuka: error: tls.directory.path: {empty}\n",
        "the first is served": True,
        "the second is served": True,
        "nothing is left": empty,
        "and it serves": True,
    }


def _attested(happened: dict[str, Any], _directory: Path) -> None:
    with_a_ca = happened.pop("with a CA of devices")
    assert "error: policy.key-attestation.anchors: CN=Kipuka Test" in with_a_ca, with_a_ca
    assert with_a_ca.count("\n") == 1
    assert happened == {
        "devices are told": True,
        "attested": 200,
        "the certificate names the element": False,
        "without evidence": f"400: the CSR has no attestation evidence (attribute {_ID_AA_EVIDENCE}); add it",
        "evidence of another key": "400: the attestation evidence of the CSR is about another key",
        "another vendor": "400: the attestation evidence is not valid now, or its vendor is not trusted here",
        "nonsense": "400: the attestation evidence of the CSR cannot be read",
        "renewal, a new key in the element": 200,
        "renewal, a key from elsewhere": 400,
    }


def _inventory(happened: dict[str, Any], _directory: Path) -> None:
    assert happened == {
        "a name of the record": "pump-7.plant.example",
        "no name in the CSR": "pump-7.plant.example, 192.0.2.7",
        "another name": "403: the inventory does not have 'dns:pump-8.plant.example' for this device",
        "renewal": "pump-7.plant.example",
        "not in the inventory": "403: the inventory has no active device of this name",
        "the inventory sends us away": "503: the inventory of devices cannot be asked now; try again later",
        "what the log says of it": (
            "the inventory cannot be used: Redirect response '302 Found' for url 'https://cmdb.example/api/device?id=pump-9'"
        ),
        "renewal, out of service": "403: the inventory has no active device of this name",
    }


EXAMPLES = (
    Example("kipuka-cmdb-names", "cmdb-names", 131, "inventory_asked.py", _inventory),
    Example("kipuka-serial-allowlist", "serial-allowlist", 60, "serial_enrolment.py", _serials),
    Example("kipuka-key-attestation", "key-attestation", 120, "attested_enrolment.py", _attested),
    Example("kipuka-tls-directory", "directory", 80, "directory_served.py", _directory),
)
