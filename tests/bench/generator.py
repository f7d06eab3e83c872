"""A closed-loop load generator for EST: each of ``-c`` threads sends its next request when it has its last answer.

Python is slower than a compiled generator, yet faster than the server under test: it parses one header and signs
nothing. What is measured is the CPU that the server uses per request, so the server has to be busy, not overrun.

The flags are the interface of any generator: the environment variable ``KIPUKA_LOAD_GENERATOR`` names a program that
takes the same ones and prints the same JSON line.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import socket
import ssl
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from kipuka_core.testing.client import basic, write_leaf
from kipuka_core.testing.pki import Leaf, make_csr, make_key
from tests.bench.cores import process_cpu_seconds
from tests.bench.floor import ClientFiles, client_context, issued_certificate

_DIFFERENT_KEYS = 4
_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.005
_GETS = frozenset({"cacerts", "csrattrs"})


@dataclass(frozen=True, slots=True)
class Device:
    """What one device sends; with a client certificate where it has one."""

    csr_der: bytes
    tls: ssl.SSLContext

    @property
    def body(self) -> bytes:
        """The CSR in base64."""
        return base64.encodebytes(self.csr_der)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    closes: bool


class Link:
    """One connection."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext) -> None:
        plain = socket.create_connection(address, _TIMEOUT_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls = context.wrap_socket(plain)

    def ask(self, request: bytes) -> Answer:
        """Send a request and read its whole answer."""
        self._tls.sendall(request)
        received = self._tls.recv(65536)
        while received and b"\r\n\r\n" not in received:
            received += self._tls.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        while len(body) < length:
            body += self._tls.recv(65536)
        return Answer(int(lines[0].split()[1]), body, b"connection: close" in lines)

    def close(self) -> None:
        """Say goodbye and do not wait for the answer."""
        self._tls.setblocking(False)
        with contextlib.suppress(OSError):
            self._tls.unwrap()
        self._tls.close()


class Load:
    """All threads of a run."""

    def __init__(self, options: argparse.Namespace) -> None:
        url = urlsplit(options.url)
        self._options = options
        self._address = ("127.0.0.1" if url.hostname == "localhost" else str(url.hostname), url.port or 443)
        self._host = url.netloc
        self._next = count()
        self._done = [0] * options.c
        self._failures: list[str] = []
        self._stop = threading.Event()
        directory = tempfile.TemporaryDirectory()
        with directory:
            self._devices = self._make_devices(Path(directory.name))

    def run(self) -> dict[str, object]:
        """Warm up, measure, stop; the result."""
        options = self._options
        threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(options.c)]
        for thread in threads:
            thread.start()
        time.sleep(options.warmup)
        before, done_before, cpu_before = time.monotonic(), sum(self._done), self._server_cpu()
        while not self._stop.wait(options.d if not options.n else _POLL_SECONDS):
            if not options.n or sum(self._done) - done_before >= options.n:
                break
        seconds, done, cpu = time.monotonic() - before, sum(self._done) - done_before, self._server_cpu() - cpu_before
        self._stop.set()
        for thread in threads:
            thread.join()
        return {
            "op": options.op,
            "mode": "keep-alive" if options.keepalive else "new-conn",
            "secs": seconds,
            "ok": done,
            "rps": done / seconds,
            "errors": len(self._failures),
            "error_kinds": {failure: self._failures.count(failure) for failure in set(self._failures)},
            "server_cpu": cpu / seconds,
            "server_ms_per_req": 1000 * cpu / max(done, 1),
        }

    def _server_cpu(self) -> float:
        pid = self._options.server_pid
        return process_cpu_seconds(pid) if pid else 0.0

    def _work(self, number: int) -> None:
        link: Link | None = None
        device: Device | None = None
        try:
            while not self._stop.is_set():
                turn = next(self._next)
                if link is None or device is None or not self._options.bootstrap:
                    device = self._devices[turn % len(self._devices)]  # a kept connection keeps its identity
                link = link or Link(self._address, device.tls)
                answer = link.ask(self._request(self._options.op, device, password=not self._options.nobasic_in_run))
                self._check(answer, device, parse=bool(self._options.verify) and turn % self._options.verify == 0)
                self._done[number] += 1
                if answer.closes or not self._options.keepalive:
                    link.close()
                    link = None
        except (OSError, AssertionError, ValueError) as error:
            self._failures.append(f"{type(error).__name__}: {error}")
            self._stop.set()
        finally:
            if link is not None:
                link.close()

    def _check(self, answer: Answer, device: Device, *, parse: bool) -> None:
        if answer.status != 200:
            raise AssertionError(f"HTTP {answer.status} {answer.body.decode(errors='replace')[:200]}")
        if parse and self._options.op not in _GETS:
            _issued_to(device.csr_der, answer)

    def _make_devices(self, directory: Path) -> list[Device]:
        options = self._options
        number = options.bootstrap or options.pool
        key_type = "rsa2048" if options.keytype == "rsa" else "ecdsa256"
        keys = [make_key(key_type) for _ in range(min(number, _DIFFERENT_KEYS))]
        anonymous = client_context(None)
        devices = []
        for index in range(number):
            key, name = keys[index % len(keys)], options.cn.replace("%d", str(index))
            device = Device(make_csr(key, name, [f"dns:{name}"]), anonymous)
            if options.bootstrap:
                link = Link(self._address, anonymous)
                answer = link.ask(self._request("simpleenroll", device, password=True))
                link.close()
                self._check(answer, device, parse=False)
                leaf = Leaf(_issued_to(device.csr_der, answer), key)
                device = Device(device.csr_der, client_context(ClientFiles(*write_leaf(leaf, directory))))
            devices.append(device)
        return devices

    def _request(self, operation: str, device: Device, *, password: bool) -> bytes:
        options = self._options
        label = f"{options.label}/" if options.label else ""
        method = "GET" if operation in _GETS else "POST"
        lines = [
            f"{method} /.well-known/est/{label}{operation} HTTP/1.1",
            f"Host: {self._host}",
            "User-Agent: kipuka-bench",
            "Accept: */*",
        ]
        if options.user and password:
            lines.append(f"Authorization: {basic(options.user, getattr(options, 'pass'))}")
        if not options.keepalive:
            lines.append("Connection: close")
        body = b""
        if method == "POST":
            body = device.body
            lines += ["Content-Type: application/pkcs10", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body


def _issued_to(csr_der: bytes, answer: Answer) -> x509.Certificate:
    certificate = issued_certificate(answer.body)
    if certificate.public_key() != x509.load_der_x509_csr(csr_der).public_key():
        raise AssertionError("the certificate holds another key than the CSR")
    return certificate


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line; flags with one dash, as Go programs have them."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("-url", required=True, help="https://HOST:PORT")
    parser.add_argument("-op", default="simpleenroll", help="simpleenroll, simplereenroll, cacerts or csrattrs")
    parser.add_argument("-label", default="", help="path segment before the operation")
    parser.add_argument("-c", type=int, default=16, help="connections at a time")
    parser.add_argument("-d", type=_seconds, default=10.0, help="measured duration, such as 2.5s")
    parser.add_argument("-n", type=int, default=0, help="stop after so many measured requests instead")
    parser.add_argument("-warmup", type=_seconds, default=1.0, help="not measured, before that")
    parser.add_argument("-keepalive", action="store_true", help="keep connections; default: a new one per request")
    parser.add_argument("-tls", choices=("1.3",), default="1.3", help="TLS version; without resumption")
    parser.add_argument("-bootstrap", type=int, default=0, help="enrol so many client certificates first and use them")
    parser.add_argument("-nobasic-in-run", action="store_true", help="HTTP Basic only for -bootstrap")
    parser.add_argument("-user", default="", help="HTTP Basic user")
    parser.add_argument("-pass", default="", help="HTTP Basic password")
    parser.add_argument("-keytype", choices=("ec", "rsa"), default="ec", help="P-256 or RSA-2048")
    parser.add_argument("-pool", type=int, default=64, help="number of different CSRs")
    parser.add_argument("-cn", default="load-%d.example", help="CN and dNSName; %%d is the CSR's number")
    parser.add_argument("-verify", type=int, default=50, help="parse every Nth answer; 0: none")
    parser.add_argument("-server-pid", type=int, default=0, help="the process whose CPU is reported")
    parser.add_argument("-json", action="store_true", required=True, help="print one JSON line")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run once; 1 where anything failed."""
    result = Load(parse(arguments)).run()
    sys.stdout.write(json.dumps(result) + "\n")
    return 1 if result["errors"] or not result["ok"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
