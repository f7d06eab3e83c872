"""A deployment in real processes, and what tests ask of it: requests, its database, its audit file."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sqlite3
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtensionOID

from kipuka_core.domain.one_time_passwords import hash_token, new_one_time_password
from kipuka_core.edges.store import open_store
from kipuka_core.edges.store.engine import default_sqlite_url
from kipuka_core.model.event import OtpCreated
from kipuka_core.testing.client import Answer, EstClient, basic, write_leaf
from kipuka_core.testing.pki import Authority, Leaf, make_csr, make_key, make_root
from kipuka_core.testing.server import Deployment, RunningServer, make_deployment, running_server

PKCS10 = {"Content-Type": "application/pkcs10"}
VENDOR: Authority = make_root("Vendor Root CA").subordinate("Vendor Device CA")
"""Makes the certificates that devices leave their factory with (IDevID); trusted where ``vendor_trusted``."""


@dataclass
class System:
    """A deployment and, while it runs, its server."""

    deployment: Deployment
    server: RunningServer
    tokens: list[str] = field(default_factory=list)

    @property
    def database_url(self) -> str:
        """Its ``[db] url``."""
        return default_sqlite_url(self.deployment.database.parent)

    def client(self, leaf: Leaf | None = None, *, tls: ssl.TLSVersion | None = None) -> EstClient:
        return EstClient(
            self.server.est_port,
            self.deployment.root_pem,
            leaf=leaf,
            directory=self.deployment.directory if leaf else None,
            tls=tls,
        )

    def otp(self, entity_id: str, *, label: str | None = None, ttl_seconds: int = 3600, max_usage: int = 1) -> str:
        """A one-time password, made as ``kipuka otp create`` makes it, without a process for it."""
        now = datetime.now(UTC)
        record, token = new_one_time_password(
            entity_id, now=now, ttl_seconds=ttl_seconds, max_usage=max_usage, label=label
        )
        event = OtpCreated(
            time=now, actor="test", otp_id=record.id, entity_id=entity_id, expires_at=record.expires_at.isoformat()
        )

        async def add() -> None:
            async with open_store(self.database_url) as store:
                await store.add_otp(record, event)

        asyncio.run(add())
        self.tokens.append(token)
        return token

    def enrolled(
        self, entity_id: str, *, label: str = "", san: Sequence[str] = (), subject: x509.Name | None = None
    ) -> Leaf:
        """A device with a certificate from here, by a one-time password."""
        key = make_key()
        csr = make_csr(key, entity_id, san, subject=subject)
        answer = self.client().enrol(csr, user=entity_id, password=self.otp(entity_id), label=label)
        return Leaf(answer.certificate(), key)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.deployment.database}?mode=ro", uri=True, timeout=30)) as database:
            return database.execute(sql, values).fetchall()

    def uses(self, token: str) -> tuple[int, int]:
        """How often a one-time password was used, and how often it is reserved now."""
        ((otp_id, used),) = self.rows("SELECT id, usage_count FROM otps WHERE token_hash = ?", hash_token(token))
        ((reserved,),) = self.rows("SELECT count(*) FROM otp_reservations WHERE otp_id = ?", otp_id)
        return used, reserved

    def issued_to(self, entity_id: str) -> int:
        """How many certificates are on record for an entity."""
        ((count,),) = self.rows("SELECT count(*) FROM certificates WHERE entity_id = ?", entity_id)
        return int(count)

    def audit(self) -> list[dict[str, Any]]:
        """Every line of the audit file, without its link."""
        lines = map(json.loads, self.deployment.audit_log.read_text(encoding="utf-8").splitlines())
        return [{name: value for name, value in line.items() if name != "chain"} for line in lines]

    def facts(self, request_id: str) -> list[dict[str, Any]]:
        """What the audit file says of a request; the store says the same."""
        facts = [fact for fact in self.audit() if fact.get("request_id") == request_id]
        stored = self.rows("SELECT body FROM events WHERE request_id = ? ORDER BY id", request_id)
        assert [json.loads(body) for (body,) in stored] == facts
        return facts

    def refused(self, answer: Answer, status: int, *words: str) -> dict[str, Any]:
        """Hold a refusal against RFC 7030 4.2.3 and return its one event; nothing was issued by this request."""
        assert answer.status == status, (answer.status, answer.text)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        reason, _, last = answer.text.rstrip("\n").rpartition("\n")
        for word in words:
            assert word in reason
        assert "Traceback" not in reason
        assert "\n" not in reason
        match = re.fullmatch(r"request ([0-9a-f]{16})", last)
        assert match, answer.text
        (fact,) = self.facts(match[1])
        assert fact["event"] == "enrolment_refused"
        assert fact["source_address"] == "127.0.0.1"
        assert fact["code"]
        assert self.rows("SELECT 1 FROM certificates WHERE request_id = ?", match[1]) == []
        return fact

    @cached_property
    def issuing_ca(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.deployment.root_pem.with_name("issuing.pem").read_bytes())

    @cached_property
    def root_ca(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.deployment.root_pem.read_bytes())

    @cached_property
    def own_ca(self) -> Authority:
        """The embedded CA with its key: for certificates that it never recorded."""
        return embedded_ca(self.deployment)


def embedded_ca(deployment: Deployment) -> Authority:
    """The issuing CA of a deployment, with its key and its root."""
    directory = deployment.root_pem.parent
    issuing, root = ((directory / name).read_bytes() for name in ("issuing.pem", "root.pem"))
    key = serialization.load_pem_private_key((directory / "issuing.key").read_bytes(), None)
    return Authority(
        x509.load_pem_x509_certificate(issuing),
        key,  # type: ignore[arg-type]  # a key that can sign
        (x509.load_pem_x509_certificate(root),),
    )


def deploy(
    directory: Path, toml: str = "", *, server: str = "", vendor_trusted: bool = True, workers: int = 1
) -> Deployment:
    """A deployment whose anchors are its own root and the vendor's CA."""
    deployment = make_deployment(directory)
    (directory / "vendor.pem").write_bytes(VENDOR.pem)
    anchors = '"state/ca/root.pem", "vendor.pem"' if vendor_trusted else '"state/ca/root.pem"'
    # Tests refuse more in a minute than anybody in earnest, and look at each of them.
    every_refusal = "[audit]\nanonymous_in_full = 100000\n" if "[audit]" not in toml else ""
    deployment.configure(
        every_refusal + toml, server=server, workers=workers, client_auth=f"trust_anchors = [{anchors}]\n"
    )
    return deployment


@contextmanager
def serving(deployment: Deployment, *, environment: Mapping[str, str] | None = None) -> Iterator[System]:
    """Run the deployment's server."""
    with running_server(deployment, environment=environment) as server:
        yield System(deployment, server)


class RawConnection:
    """TLS, and bytes as the test writes them."""

    def __init__(self, system: System, *, leaf: Leaf | None = None, tls: ssl.TLSVersion | None = None) -> None:
        context = ssl.create_default_context(cafile=str(system.deployment.root_pem))
        if tls is not None:
            context.minimum_version = context.maximum_version = tls
        if leaf is not None:
            context.load_cert_chain(*write_leaf(leaf, system.deployment.directory))
        connection = socket.create_connection(("127.0.0.1", system.server.est_port), timeout=60)
        self.socket = context.wrap_socket(connection, server_hostname="localhost")
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def interim(self) -> int:
        """The status of the next answer, which has to be an interim one (RFC 9110 15.2)."""
        status, _ = self._head()
        assert status < 200
        return status

    def answer(self, *, body: bool = True) -> Answer:
        """The next final answer; the server always says its length."""
        status, headers = self._head()
        while status < 200:
            status, headers = self._head()
        return Answer(status, headers, self._file.read(int(headers["content-length"])) if body else b"")

    def _head(self) -> tuple[int, dict[str, str]]:
        line = self._file.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        headers = {}
        while (field_line := self._file.readline().rstrip(b"\r\n")) != b"":
            name, _, value = field_line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return int(line.split()[1]), headers

    def at_end(self) -> bool:
        """Whether the server closes the connection without a further byte."""
        return self._file.read(1) == b""


def head(method: str, path: str, *lines: str) -> bytes:
    """The head of an HTTP/1.1 request below the base path."""
    return "\r\n".join((f"{method} /.well-known/est/{path} HTTP/1.1", "Host: localhost", *lines, "", "")).encode()


def credentials(user: str, password: str) -> dict[str, str]:
    """The headers of an enrolment with HTTP Basic."""
    return {**PKCS10, "Authorization": basic(user, password)}


def san_texts(certificate: x509.Certificate) -> list[str]:
    """The DNS names of a certificate."""
    extension = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    names = extension.value
    assert isinstance(names, x509.SubjectAlternativeName)
    return names.get_values_for_type(x509.DNSName)
