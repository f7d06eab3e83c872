"""Following a page as a reader does: its files are written, its commands are run in order, its server is started."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from kipuka_core.testing.server import wait_until
from tests.docs.blocks import ROOT, Block, blocks_of
from tests.docs.pip_here import install

_SECONDS = 120
_PORTS = {"est": "8443", "admin": "9443", "http": "8080", "cfssl": "8888"}
"""The ports of the pages; the servers of a walk listen on free ones."""
_SECOND_PORTS = {"est": "8444", "admin": "9444"}
"""Those of a second server that the same page starts beside the first one."""
_IN_A_CHECKOUT = {"docs/deployments.md": "examples/deployments"}
"""What the reader of a page has in the directory in which the page begins."""


@dataclass(slots=True)
class Walk:
    """One reader in one directory, from page to page."""

    directory: Path
    _where: Path = field(init=False)
    _plugins: list[str] = field(init=False, default_factory=list)
    _ports: dict[str, int] = field(init=False, default_factory=dict)
    """By the port that the page has: the one on which a server of this walk listens."""
    _second: list[Path] = field(init=False, default_factory=list)
    """Directories of second servers."""
    _servers: list[subprocess.Popen[bytes]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._where = self.directory

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.send_signal(signal.SIGTERM)
        for server in self._servers:
            try:
                server.wait(_SECONDS)
            finally:
                server.kill()  # does nothing to one that has ended

    def follow(self, page: str) -> None:
        """Do everything that the page says, in a copy of its directory where that is an example's."""
        if page.startswith("examples/"):
            shutil.copytree((ROOT / page).parent, self._where, dirs_exist_ok=True)
        if page in _IN_A_CHECKOUT:
            shutil.copytree(ROOT / _IN_A_CHECKOUT[page], self._where / _IN_A_CHECKOUT[page])
        for block in blocks_of(page):
            if block.why_not_run or block.language not in {"sh", "python", "toml"}:
                continue
            if block.language == "toml" and block.file_name != "pyproject.toml":
                continue  # a piece of configuration
            self._do(block)
        self._load_plugins(page)

    def _do(self, block: Block) -> None:
        if block.file_name:
            (self._where / block.file_name).write_text(block.text, encoding="utf-8")
            if block.file_name == "pyproject.toml":
                self._plugins += install(self._where)
        elif block.language == "python":
            self._run([sys.executable, "-W", "error", "-c", block.text], block)
        elif block.text.startswith("kipuka serve"):
            self._serve(block)
        elif block.text.startswith("cfssl serve"):
            self._serve_cfssl(block)
        else:
            self._run(["bash", "-euo", "pipefail", "-c", self._script(block)], block)

    def _script(self, block: Block) -> str:
        text = block.text
        for shown, port in self._ports.items():
            text = text.replace(f":{shown}", f":{port}")
        return f'trap "pwd > {shlex.quote(str(self.directory / ".where"))}" EXIT\n{self._pip()}\n{text}'

    def _pip(self) -> str:
        """A shell function that does without an index what matters of ``pip install -e .``."""
        program, known = Path(__file__).with_name("pip_here.py"), self.directory / ".installed"
        here = f"{shlex.quote(sys.executable)} {shlex.quote(str(program))} && pwd >> {shlex.quote(str(known))}"
        return f'pip() {{ {here} && export PYTHONPATH="$PWD:$PYTHONPATH"; }}'

    def _run(self, command: list[str], block: Block | str) -> None:
        done = subprocess.run(
            command,
            cwd=self._where,
            env=self._environment(),
            capture_output=True,
            check=False,
            text=True,
            timeout=_SECONDS,
        )
        assert done.returncode == 0, f"{block}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        if (self.directory / ".where").exists():
            self._where = Path((self.directory / ".where").read_text().strip())
        for toml in self.directory.rglob("kipuka.toml"):
            text = toml.read_text(encoding="utf-8")
            if re.search(r'^listen = ".*:8444"$', text, re.MULTILINE):
                self._second.append(toml.parent)
            toml.write_text(re.sub(':(8443|8444|9443|9444|8080)"', ':0"', text), encoding="utf-8")

    def _serve(self, block: Block) -> None:
        command = shlex.split(block.text)
        if "--dev" in command:
            command += ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        log = self.directory / f"server-{len(self._servers)}.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                command, cwd=self._where, env=self._environment(), stdout=subprocess.DEVNULL, stderr=output
            )
        self._servers.append(server)

        def listens() -> bool:
            assert server.poll() is None, f"{block}: {log.read_text()}"
            lines = [line for line in log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
            heard = [line for line in map(json.loads, lines) if line["event"] == "listening"]
            ports = _SECOND_PORTS if self._where in self._second else _PORTS
            self._ports |= {
                shown: int(line[name].rpartition(":")[2])
                for line in heard
                for name, shown in ports.items()
                if name in line
            }
            return bool(heard)

        wait_until(listens, what=log.read_text)

    def _serve_cfssl(self, block: Block) -> None:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = self._ports[_PORTS["cfssl"]] = free.getsockname()[1]
        command = shlex.split(block.text.replace("\\\n", " ").replace(_PORTS["cfssl"], str(port)))
        log = self.directory / "cfssl.log"
        with log.open("wb") as output:
            server = subprocess.Popen(command, cwd=self._where, env=self._environment(), stdout=output, stderr=output)
        self._servers.append(server)

        def listens() -> bool:
            assert server.poll() is None, f"{block}: {log.read_text()}"
            with closing(socket.socket()) as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens, what=log.read_text)

    def _load_plugins(self, page: str) -> None:
        """What kipuka does with them at start-up."""
        if self._plugins:
            load = f"from kipuka_core.hooks.manager import load_plugins; load_plugins({self._plugins})"
            self._run([sys.executable, "-W", "error", "-c", load], page)
            self._plugins.clear()

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KIPUKA_")}
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        known = self.directory / ".installed"
        installed = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
        modules = os.pathsep.join(dict.fromkeys((str(self._where), *installed)))
        return inherited | {"PATH": path, "PYTHONPATH": modules, "HOME": str(self.directory)}
