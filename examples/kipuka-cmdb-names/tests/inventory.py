"""An inventory for tests: a real HTTPS server, which misbehaves if it is told to."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kipuka_core.testing.client import write_leaf
from kipuka_core.testing.pki import Authority, Leaf

TOKEN = "of-the-inventory-7"

Reply = Callable[["Request"], None]


class Inventory(ThreadingHTTPServer):
    """Answers ``GET /api/device?id=…`` with the record of a device, to who has the token."""

    daemon_threads = False

    def __init__(self, authority: Authority, leaf: Leaf, directory: Path) -> None:
        """``leaf`` is what the server presents, ``authority`` whom its clients should trust."""
        super().__init__(("127.0.0.1", 0), Request)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*write_leaf(leaf, directory))
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.authority = authority
        self.records: dict[str, dict[str, Any]] = {}
        self.asked_for: list[str] = []
        self.reply: Reply = record_of_the_device
        self.is_over = threading.Event()

    @property
    def url(self) -> str:
        """For ``policy.cmdb-names.url``."""
        return f"https://localhost:{self.server_port}/api/device"

    def enter(self, device: str, *, active: bool = True, dns: tuple[str, ...] = (), ip: tuple[str, ...] = ()) -> None:
        """Write a record; there are always more keys than somebody wants."""
        self.records[device] = {"id": device, "active": active, "dns": dns, "ip": ip, "rack": 7, "owner": {"team": "q"}}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: clients hang up on who misbehaves."""


class Request(BaseHTTPRequestHandler):
    """One request, and what is answered to it."""

    server: Inventory

    @property
    def device(self) -> str:
        """Who is asked for."""
        (device,) = parse_qs(urlsplit(self.path).query, strict_parsing=True)["id"]
        return device

    def do_GET(self) -> None:
        """Answer."""
        self.server.asked_for.append(self.device)
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.answer(401)
        elif urlsplit(self.path).path == "/elsewhere":
            record_of_the_device(self)
        else:
            self.server.reply(self)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Nothing."""


def record_of_the_device(request: Request) -> None:
    """The right answer."""
    record = request.server.records.get(request.device)
    request.answer(404 if record is None else 200, json.dumps(record).encode(), Content_Type="application/json")


@contextmanager
def running_inventory(authority: Authority, directory: Path, leaf: Leaf | None = None) -> Iterator[Inventory]:
    """An inventory on a free port, with the files ``cmdb-ca.pem`` and ``cmdb.token`` for its clients."""
    (directory / "cmdb-ca.pem").write_bytes(authority.pem)
    (directory / "cmdb.token").write_text(f"{TOKEN}\n", encoding="ascii")
    (directory / "cmdb.token").chmod(0o600)
    with Inventory(authority, leaf or authority.server(), directory) as inventory:
        thread = threading.Thread(target=inventory.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield inventory
        finally:
            inventory.is_over.set()
            inventory.shutdown()
            thread.join()
