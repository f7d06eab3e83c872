"""A machine for ``kipuka.service``: a file system of its own, and processes confined as the unit says.

There is no systemd to run the unit in a test, so what it promises the service is made with the same means: a mount
namespace in which only the state directory and /tmp can be written, the user of the sysusers snippet without
capabilities, and the unit's own filters of system calls (:mod:`tests.examples.confine`).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.interop.programs import run

UNIT = ROOT / "examples" / "systemd" / "kipuka.service"
SYSUSERS = UNIT.with_suffix(".sysusers")
_COPIED = ("passwd", "group", "hosts", "nsswitch.conf", "ld.so.cache", "ssl/openssl.cnf")
"""Of the machine's /etc: what programs need, and what systemd-sysusers adds to."""
_CONFINE = Path(__file__).with_name("confine.py")


def unit_lines() -> dict[str, list[str]]:
    """The settings of the unit, each with all its values in order; sections do not share names here."""
    settings: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            settings.setdefault(name, []).append(value)
    return settings


def allowed_system_calls(lines: list[str]) -> list[str]:
    """The calls that ``SystemCallFilter=`` lines leave, by systemd's own groups."""
    groups = _groups()

    def members(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        return set[str]().union(*(members(each) for each in groups[name]))

    allowed: set[str] = set()
    for line in lines:
        named = set[str]().union(*(members(name) for name in line.removeprefix("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return sorted(allowed)


def _groups() -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for line in run("systemd-analyze", "syscall-filter").stdout.decode().splitlines():
        word = line.strip()
        if line.startswith("@"):
            groups[word] = current = []
        elif line.startswith("#"):  # the list of calls that are in no group
            break
        elif word and not word.startswith("#"):
            current.append(word)
    return groups


@dataclass(frozen=True, slots=True)
class Machine:
    """Its /etc and /var are below ``directory``; programs are those of the real one."""

    directory: Path
    _settings: dict[str, list[str]] = field(default_factory=unit_lines)

    def __post_init__(self) -> None:
        if os.geteuid() != 0:
            pytest.fail("this test mounts file systems and becomes another user: run it as root")
        for name in ("etc/ssl", "etc/systemd/system", "etc/sysusers.d", "var/lib", "root"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        for name in _COPIED:
            source = Path("/etc") / name
            if source.exists():
                shutil.copy(source, self.directory / "etc" / name)
        families = [int(getattr(socket, name)) for name in self._settings["RestrictAddressFamilies"][0].split()]
        rules = {
            "system_calls": allowed_system_calls(self._settings["SystemCallFilter"]),
            "address_families": families,
            "deny_write_execute": self._settings.get("MemoryDenyWriteExecute") == ["yes"],
        }
        (self.directory / "etc" / "confine.json").write_text(json.dumps(rules), encoding="utf-8")
        self.directory.chmod(0o755)

    @property
    def etc(self) -> Path:
        return self.directory / "etc"

    @property
    def state(self) -> Path:
        return self.directory / "var" / "lib" / "kipuka"

    def as_root(self, script: str) -> None:
        """What an administrator types, in a checkout of the project."""
        command = f"cd {shlex.quote(str(ROOT))}\n{script}"
        done = run(*self._inside("rw"), "/bin/sh", "-eu", "-c", command, env=_ENVIRONMENT, check=False)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()

    def command(self, *words: str) -> list[str]:
        """A command line that runs these words as the unit runs its own."""
        (user,) = self._settings["User"]
        drop = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        drop += [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        python = [sys.executable, "-I", str(_CONFINE), "/etc/confine.json"]
        return [*self._inside("ro"), *drop, *python, *words]

    def unit_command(self, name: str) -> list[str]:
        """The command line of ``ExecStart`` and its like."""
        (line,) = self._settings[name]
        return self.command(*shlex.split(line))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command as the service."""
        return self.run_command(self.command(*words))

    def run_command(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command line of :meth:`unit_command`."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, check=False, text=True, timeout=60, cwd="/"
        )

    @property
    def environment(self) -> dict[str, str]:
        """That of a service: hardly anything, and what the unit says."""
        return _ENVIRONMENT | dict(line.split("=", 1) for line in self._settings["Environment"])

    def _inside(self, etc: str) -> list[str]:
        needed = [str(path) for path in dict.fromkeys((ROOT, Path(sys.prefix), Path(sys.base_prefix)))]
        enter = Path(__file__).with_name("enter-machine")
        return ["unshare", "--mount", "/bin/sh", str(enter), str(self.directory), etc, sys.prefix, *needed, "--"]


_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
