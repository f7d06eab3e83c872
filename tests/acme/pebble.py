"""Pebble, an ACME CA for tests, and its DNS server; both in processes of their own on free ports."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from cryptography import x509

from kipuka_core.testing.pki import make_root
from kipuka_core.testing.server import wait_until

_TLS_ROOT = make_root("Pebble's TLS")
_STOP_SECONDS = 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Pebble:
    """One CA. It keeps all it knows in memory, its own keys too."""

    directory: Path
    port: int = field(default_factory=free_port)
    management_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    """Where it validates http-01, in place of 80."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    dns: Dns | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def directory_url(self) -> str:
        return f"https://127.0.0.1:{self.port}/dir"

    @property
    def trust_anchor(self) -> Path:
        return self.directory / "tls-root.pem"

    @property
    def chain_file(self) -> Path:
        return self.directory / "chain.pem"

    @property
    def log(self) -> str:
        return (self.directory / "pebble.log").read_text(encoding="utf-8")

    def start(self) -> None:
        server = _TLS_ROOT.server("ip:127.0.0.1", "dns:localhost")
        (self.directory / "tls.pem").write_bytes(server.chain_pem)
        (self.directory / "tls.key").write_bytes(server.key_pem)
        self.trust_anchor.write_bytes(_TLS_ROOT.pem)
        config = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management_port}",
            "certificate": str(self.directory / "tls.pem"),
            "privateKey": str(self.directory / "tls.key"),
            "httpPort": self.http_port,
            "tlsPort": 1,
            **self.settings,
        }
        (self.directory / "pebble.json").write_text(json.dumps({"pebble": config}), encoding="utf-8")
        command = [_program("pebble"), "-config", str(self.directory / "pebble.json")]
        if self.dns is not None:
            command += ["-dnsserver", f"127.0.0.1:{self.dns.port}"]
        environment = os.environ | {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"} | dict(self.environment)
        with (self.directory / "pebble.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait_until(self._serves, what=lambda: self.log)
        chain = [self.ca_pem("intermediates"), self.ca_pem("roots")]
        self.chain_file.write_bytes(b"".join(chain))

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(_STOP_SECONDS)
            self.process = None

    def restart(self) -> None:
        """Everything is forgotten."""
        self.kill()
        self.start()

    def ca_pem(self, what: str) -> bytes:
        pem: bytes = self._read(f"https://127.0.0.1:{self.management_port}/{what}/0")
        return pem

    def certificate_status(self, certificate: x509.Certificate) -> str:
        url = f"https://127.0.0.1:{self.management_port}/cert-status-by-serial/{certificate.serial_number:x}"
        status: str = json.loads(self._read(url))["Status"]
        return status

    def table(self, **more: Any) -> dict[str, Any]:
        """The ``[[ca]]`` table that fits Debian's pebble."""
        return {
            "id": "pebble",
            "directory": self.directory_url,
            "trust_anchors": str(self.trust_anchor),
            "chain": str(self.chain_file),
            "agree_to_terms": True,
            "sets_key_usage": ["digitalSignature", "keyEncipherment"],
            "sets_ext_key_usage": ["serverAuth", "clientAuth"],
            "keeps_subject": ["commonName"],
            **more,
        }

    def _read(self, url: str) -> bytes:
        context = ssl.create_default_context(cafile=str(self.trust_anchor))
        with urlopen(url, context=context, timeout=10) as answer:
            body: bytes = answer.read()
            return body

    def _serves(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        try:
            return bool(self._read(self.directory_url)) and bool(self.ca_pem("roots"))
        except (URLError, OSError):
            return False


@dataclass
class Dns:
    """pebble-challtestsrv: every name is 127.0.0.1, and TXT records are what they are told to be."""

    directory: Path
    port: int = field(default_factory=free_port)
    management_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            _program("pebble-challtestsrv"), "-dns01", f"127.0.0.1:{self.port}", "-defaultIPv6", "", "-http01", "",
            "-https01", "", "-tlsalpn01", "", "-management", f"127.0.0.1:{self.management_port}",
        ]  # fmt: skip
        with (self.directory / "dns.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._serves, what=lambda: (self.directory / "dns.log").read_text(encoding="utf-8"))

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(_STOP_SECONDS)

    def tell(self, what: str, **facts: Any) -> None:
        """One of its management requests, such as ``set-txt``."""
        url = f"http://127.0.0.1:{self.management_port}/{what}"
        with urlopen(Request(url, data=json.dumps(facts).encode(), method="POST"), timeout=10):
            pass

    def hook(self, *, exit_status: int = 0) -> Path:
        """A program as ``dns_hook`` wants one; what it is called with is in ``hook.calls``."""
        program = self.directory / "dns-hook"
        url = f"http://127.0.0.1:{self.management_port}"
        program.write_text(
            "#!/bin/sh\nset -eu\n"
            f'echo "$*" >> "{self.directory}/hook.calls"\nenv > "{self.directory}/hook.environment"\n'
            f"[ {exit_status} = 0 ] || exit {exit_status}\n"
            "case $1 in present) what=set-txt ;; cleanup) what=clear-txt ;; esac\n"
            f'exec curl -sf -d "{{\\"host\\": \\"$2.\\", \\"value\\": \\"$3\\"}}" "{url}/$what"\n',
            encoding="utf-8",
        )
        program.chmod(0o755)
        return program

    @property
    def hook_calls(self) -> Sequence[Sequence[str]]:
        """The arguments of every call so far."""
        file = self.directory / "hook.calls"
        return [line.split() for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []

    def _serves(self) -> bool:
        try:
            self.tell("set-default-ipv4", ip="127.0.0.1")
        except (URLError, OSError):
            return False
        return True


@contextmanager
def running_pebble(directory: Path, *, with_dns: bool = False, **fields: Any) -> Iterator[Pebble]:
    """A CA, and with ``with_dns`` a DNS server that it asks; both stopped at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        dns = None
        if with_dns:
            dns = Dns(directory)
            stack.callback(dns.kill)
            dns.start()
        pebble = Pebble(directory, dns=dns, **fields)
        stack.callback(pebble.kill)
        pebble.start()
        yield pebble


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing; on Debian, as root: apt-get install pebble")
    return found
