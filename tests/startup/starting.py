"""Starting kipuka on a deployment that something is wrong with, and what an operator then sees."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kipuka_core.cli import main
from kipuka_core.testing.pki import Authority, Leaf
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.server import Deployment

OTHER_ANCHORS = 'trust_anchors = "anchors.pem"\n'


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did: its exit code and what it wrote."""

    code: int
    stdout: str
    stderr: str

    def only_line(self) -> str:
        """The one line of an error that stops the start; nothing stands beside it."""
        assert self.code == 1, f"exit code {self.code}:\n{self.stdout}{self.stderr}"
        assert self.stdout == ""
        (line,) = self.stderr.splitlines()
        assert line.startswith("kipuka: error: ")
        return line.removeprefix("kipuka: error: ")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with a deployment, and what the error has to say."""

    name: str
    make: Callable[[Deployment], object]
    says: tuple[str, ...]


def check(deployment: Deployment) -> Outcome:
    """``kipuka check``, in this process."""
    return in_process("check", "-c", str(deployment.toml))


def in_process(*arguments: str) -> Outcome:
    """A command in this process: an unexpected exception is the test's own failure."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
    return Outcome(code, out.getvalue(), err.getvalue())


def serve(deployment: Deployment, **environment: str) -> Outcome:
    """``kipuka serve``, in processes of its own, when it is to end by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "kipuka_core.cli", "serve", "-c", str(deployment.toml)],
        cwd=deployment.directory,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def write_authority(deployment: Deployment, authority: Authority) -> None:
    """Put a CA of the test's own in the place of the embedded one: its certificate, key and root."""
    directory = deployment.directory / "state" / "ca"
    (directory / "issuing.pem").write_bytes(authority.pem)
    write_private(directory / "issuing.key", Leaf(authority.certificate, authority.key).key_pem)
    (directory / "root.pem").write_bytes(pem(authority.chain[-1]))


def write_server(deployment: Deployment, leaf: Leaf) -> None:
    """Put a server certificate of the test's own in place."""
    directory = deployment.directory / "tls"
    (directory / "server.pem").write_bytes(leaf.chain_pem if leaf.chain else leaf.certificate_pem)
    write_private(directory / "server.key", leaf.key_pem)


def pem(*certificates: x509.Certificate) -> bytes:
    """Certificates as PEM."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)
