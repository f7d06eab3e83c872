"""Something between kipuka and pebble that misbehaves on demand: real TLS, real HTTP, and pebble behind it."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.acme.pebble import Pebble


@dataclass(frozen=True)
class Request:
    """What kipuka has sent."""

    method: str
    path: str
    body: bytes

    @property
    def payload(self) -> Any:
        """What is signed; None for GET, HEAD and POST-as-GET."""
        if not self.body:
            return None
        text = json.loads(self.body)["payload"]
        return json.loads(base64.urlsafe_b64decode(text + "==")) if text else None


@dataclass(frozen=True)
class Reply:
    """What kipuka gets."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def problem(cls, kind: str, detail: str = "", status: int = 400, **headers: str) -> Reply:
        document = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail}
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(document).encode(), {"Content-Type": "application/problem+json", **more})


_OF_THE_CONNECTION = frozenset({"content-length", "date", "transfer-encoding"})


class Lost(Exception):
    """Raised by a rule: the connection breaks without an answer."""


Ask = Callable[[], Reply]
Rule = Callable[[Request, Ask], Reply]
"""Answers a request; asks pebble, or not."""


@dataclass
class Between:
    """``rule`` decides about every request; ``requests`` are those that have come."""

    pebble: Pebble
    port: int
    rule: Rule | None = None
    requests: list[Request] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    """Set at the end, for rules that hang until then."""

    @property
    def directory_url(self) -> str:
        return f"https://127.0.0.1:{self.port}/dir"

    def seen(self, path_part: str) -> Sequence[Request]:
        """The requests so far whose path has this in it."""
        return [each for each in self.requests if path_part in each.path]

    def table(self, **more: Any) -> dict[str, Any]:
        return self.pebble.table(directory=self.directory_url, **more)

    def ask(self, request: Request, headers: Mapping[str, str]) -> Reply:
        """Pass a request on. Pebble makes its URLs of the Host header, so all of them lead here."""
        context = ssl.create_default_context(cafile=str(self.pebble.trust_anchor))
        connection = http.client.HTTPSConnection("127.0.0.1", self.pebble.port, context=context, timeout=30)
        try:
            connection.request(request.method, request.path, request.body or None, dict(headers))
            answer = connection.getresponse()
            kept = {
                key: value
                for key, value in answer.getheaders()
                if key.lower() not in {"content-length", "date", "transfer-encoding"}
            }
            return Reply(answer.status, answer.read(), kept)
        finally:
            connection.close()


def _handler(between: Between) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            request = Request(self.command, self.path, self.rfile.read(int(self.headers.get("content-length", 0))))
            between.requests.append(request)

            def ask() -> Reply:
                return between.ask(request, dict(self.headers))

            try:
                reply = ask() if between.rule is None else between.rule(request, ask)
            except Lost:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for key, value in reply.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_HEAD = do_POST = answer  # noqa: N815  # the base class's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
            """Say nothing."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nothing to write about."""


@contextmanager
def between(pebble: Pebble) -> Iterator[Between]:
    """Listens until the end."""
    server = _Server(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pebble.directory / "tls.pem", pebble.directory / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    found = Between(pebble, server.server_address[1])
    server.RequestHandlerClass = _handler(found)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        found.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
