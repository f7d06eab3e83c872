"""A kipuka that one of the careless plugins is installed and used in: all of it, in this process."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import structlog

from kipuka_core.assemble import Assembly, assemble
from kipuka_core.config import load
from kipuka_core.edges import log
from kipuka_core.testing.client import basic
from kipuka_core.testing.pki import make_csr
from kipuka_core.testing.server import Deployment
from tests.kit.careless.authenticators import TIMEOUT_SECONDS
from tests.kit.careless.sound import PASSWORD, USER
from tests.kit.careless.table import Careless


def toml_for(row: Careless) -> str:
    """A configuration that uses the plugin, and beside it what is sound."""
    authenticator = row.name if row.kind == "authenticator" else "sound"
    uses = {
        "policy": f'[policy]\norder = ["names", "{row.name}"]\n',
        "ca_backend": f'[[ca]]\nid = "default"\nbackend = "{row.name}"\n',
        "key_store": (
            f'[key_store.{row.name}]\n[[ca]]\nid = "default"\nbackend = "local"\nkey = "sound:key"\n'
            'cert = "state/ca/issuing.pem"\nchain = "state/ca/root.pem"\n'
        ),
        "event_sink": f'[[audit.sink]]\nuse = "{row.name}"\nrequired = true\n',
    }
    tls = (
        f'material = "{row.name}"' if row.kind == "tls_material" else 'cert = "tls/server.pem"\nkey = "tls/server.key"'
    )
    return (
        '[server]\nlisten = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"\nstate_dir = "state"\n'
        f'[tls]\n{tls}\n[tls.client_auth]\nmode = "none"\n'
        f'[plugins]\nenable = ["sound", "{row.name}"]\ntimeout = "{TIMEOUT_SECONDS}s"\n'
        f'[auth]\norder = ["{authenticator}"]\n{uses.get(row.kind, "")}'
    )


@dataclass(slots=True)
class Answer:
    """What a client gets."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""


@dataclass(slots=True)
class Tried:
    """What became of a plugin in a server."""

    answer: Answer
    certificates_on_record: int
    log: str


@contextmanager
def logged() -> Iterator[StringIO]:
    """The log as a server writes it."""
    stream, root = StringIO(), logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()
    log.configure(stream)
    try:
        yield stream
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**before)


@asynccontextmanager
async def assembled(deployment: Deployment, row: Careless) -> AsyncIterator[Assembly]:
    """The server with everything open."""
    deployment.toml.write_text(toml_for(row), encoding="utf-8")
    async with assemble(load(deployment.toml, {})) as assembly:
        yield assembly


async def enrol(assembly: Assembly) -> Answer:
    """A simpleenroll of the device that is known, over TLS."""
    answer = Answer()
    body = base64.b64encode(make_csr(common_name=USER))
    headers = [
        (b"content-type", b"application/pkcs10"),
        (b"authorization", basic(USER, PASSWORD).encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/.well-known/est/simpleenroll",
        "http_version": "1.1",
        "headers": headers,
        "client": ("192.0.2.7", 4711),
        "extensions": {"tls": {"client_cert_chain": [], "client_cert_error": None, "tls_version": 0x0304}},
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], dict(message["headers"])
        else:
            answer.body += message.get("body", b"")

    await assembly.est(scope, receive, send)
    return answer


def lines(text: str) -> list[dict[str, Any]]:
    """The lines of a log."""
    return [json.loads(line) for line in text.splitlines()]
