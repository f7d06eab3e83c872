"""20 reloads under load, with alternating server certificates and trust anchors: who is trusted throughout sees none.

The two server certificates are of different roots, both known to the clients. The CA that comes and goes is not that of
the clients under load; its own client has no rights left at the end, on whatever connection it comes.
"""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kipuka_core.edges.serving.control import command_server
from kipuka_core.testing.client import EstClient
from kipuka_core.testing.pki import Leaf, make_csr, make_key, make_root
from kipuka_core.testing.server import RunningServer, running_server, wait_until
from tests.startup.starting import pem, write_server
from tests.system.system_kit import PKCS10
from tests.tls_settings.settings_kit import (
    CACERTS,
    DEVICE_CA,
    DEVICE_ROOT,
    NO_CONNECTION,
    SITE_ROOT,
    Seen,
    client_context,
    connection,
    look,
    make_site,
    server_leaf,
)

pytestmark = pytest.mark.long

_RELOADS = 20
_REQUESTS_BETWEEN = 3
"""Answers that each client has got since a reload before the next one begins: there is load at every one."""
OTHER_SITE_CA = make_root("Other Site Root CA")
COMING_AND_GOING = make_root("Coming and going Root CA")
_EST = "/.well-known/est"
Ask = tuple[str, str, bytes | None, dict[str, str]]


def enrolment(name: str, operation: str = "simpleenroll") -> Ask:
    """A request for a certificate in this name."""
    return ("POST", f"{_EST}/{operation}", base64.b64encode(make_csr(common_name=name)), PKCS10)


@dataclass
class Load:
    """Clients, each in a thread, that ask until they are stopped; and every answer that was not what it should be."""

    directory: Path
    port: int
    stopping: threading.Event = field(default_factory=threading.Event)
    answered: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    resumed: set[str] = field(default_factory=set)
    """The TLS versions of sessions that were resumed."""

    def context(self, leaf: Leaf | None = None, tls: str | None = None) -> ssl.SSLContext:
        """One client's; to be made before the threads run, because two of the same leaf write the same files."""
        return client_context(self.directory, leaf, tls=tls)

    def client(self, name: str, answers: Iterator[int | str]) -> threading.Thread:
        """A thread that takes one answer after the other."""
        self.answered[name] = 0

        def run() -> None:
            try:
                while not self.stopping.is_set():
                    if (answer := next(answers)) != 200:
                        self.wrong.append(f"{name}: {answer}")
                    self.answered[name] += 1
            except Exception as error:  # noqa: BLE001  # whatever it is, this client did not get its answer
                self.wrong.append(f"{name}: {error!r}")

        return threading.Thread(target=run, name=name)

    def anew(self, ask: Ask, context: ssl.SSLContext) -> Iterator[int | str]:
        """Each request on a connection of its own."""
        while True:
            with connection(self.port, context) as raw:
                yield raw.ask(*ask)

    def kept(self, ask: Ask, context: ssl.SSLContext) -> Iterator[int | str]:
        """All requests on one connection, which nobody may close unless the last answer says so (the thousandth)."""
        with connection(self.port, context) as raw:
            raw.auto_open = 0
            while True:
                if raw.sock is None:
                    raw.connect()
                yield raw.ask(*ask)

    def resuming(self, context: ssl.SSLContext) -> Iterator[int | str]:
        """Each connection offers the session of the one before."""
        session = None
        while True:
            seen = look(self.port, context, CACERTS, session)
            session = seen.session if isinstance(seen, Seen) else None
            if isinstance(seen, Seen) and seen.reused:
                self.resumed.add(seen.version)
            yield seen.status if isinstance(seen, Seen) else seen

    def await_more(self) -> None:
        """Return when every client has had some further answers, or something went wrong."""
        goal = {name: count + _REQUESTS_BETWEEN for name, count in self.answered.items()}
        wait_until(
            lambda: bool(self.wrong) or all(self.answered[name] >= goal[name] for name in goal),
            what=lambda: f"answers for all clients, which have {self.answered}",
        )


@contextmanager
def under_load(load: Load, clients: list[threading.Thread]) -> Iterator[None]:
    """The clients run meanwhile."""
    for client in clients:
        client.start()
    try:
        yield
    finally:
        load.stopping.set()
        for client in clients:
            client.join()


def issued_here(load: Load) -> Leaf:
    """A device with a certificate of the server's own CA."""
    client = EstClient(
        load.port, load.directory / "site-root.pem", leaf=DEVICE_CA.leaf("renewed"), directory=load.directory
    )
    key = make_key()
    return Leaf(client.enrol(make_csr(key, "renewed")).certificate(), key)


def valid_clients(load: Load) -> list[threading.Thread]:
    """Enrolling, renewing, asking for CA certificates; anew, kept and resumed; TLS 1.2 and 1.3."""
    first, second, renewed = DEVICE_CA.leaf("first"), DEVICE_CA.leaf("second"), issued_here(load)
    cacerts: Ask = ("GET", CACERTS, None, {})
    context = load.context
    return [
        load.client("enrols anew", load.anew(enrolment("first"), context(first))),
        load.client("enrols on a kept connection", load.kept(enrolment("second"), context(second))),
        load.client("enrols on a kept connection, TLS 1.2", load.kept(enrolment("second"), context(second, "1.2"))),
        load.client("renews anew", load.anew(enrolment("renewed", "simplereenroll"), context(renewed))),
        load.client("renews on a kept connection", load.kept(enrolment("renewed", "simplereenroll"), context(renewed))),
        load.client("without a certificate anew, TLS 1.2", load.anew(cacerts, context(tls="1.2"))),
        load.client("without a certificate on a kept connection", load.kept(cacerts, context())),
        load.client("resumes, TLS 1.2", load.resuming(context(first, "1.2"))),
        load.client("resumes, TLS 1.3", load.resuming(context(first, "1.3"))),
    ]


def test_no_valid_client_notices_twenty_reloads_and_the_dropped_ca_s_client_is_out(tmp_path: Path) -> None:
    deployment = make_site(tmp_path / "site", {"server.workers": "2"})
    certificates = (server_leaf(), OTHER_SITE_CA.server())
    anchors = (pem(DEVICE_ROOT.certificate), pem(DEVICE_ROOT.certificate, COMING_AND_GOING.certificate))
    (deployment.directory / "site-root.pem").write_bytes(SITE_ROOT.pem + OTHER_SITE_CA.pem)
    dropped = COMING_AND_GOING.leaf("dropped")

    def reload(number: int) -> None:
        write_server(deployment, certificates[number % 2])
        (deployment.directory / "devices.pem").write_bytes(anchors[number % 2])
        outcome = command_server(deployment.directory / "state", "reload", timeout_seconds=120)
        assert outcome.ok, outcome.lines

    with running_server(deployment) as server:
        load = Load(deployment.directory, server.est_port)
        with under_load(load, valid_clients(load)):
            for number in range(1, _RELOADS):
                reload(number)
                load.await_more()
            # The last one was odd: the other CA is trusted now, for the last time.
            context = load.context(dropped)
            with connection(server.est_port, context) as kept:
                assert kept.ask(*enrolment("dropped")) == 200
                session = kept.tls.session
                load.await_more()

                reload(_RELOADS)
                load.await_more()

                assert kept.ask(*enrolment("dropped")) == 401
            for _ in range(8):  # whichever worker it meets
                assert look(server.est_port, context) == NO_CONNECTION
                assert look(server.est_port, context, session=session) == NO_CONNECTION
        assert load.wrong == []
        assert load.resumed == {"TLSv1.2", "TLSv1.3"}
        assert served_by(server, load) == {certificates[0].certificate.serial_number}
        reloads = [line for line in server.log() if line.get("what") == "reloaded"]
        assert len(reloads) == _RELOADS
        assert not [line for line in server.log() if line.get("what") in {"reload_failed", "worker_died"}]
        assert server.stop() == 0


def served_by(server: RunningServer, load: Load) -> set[int]:
    """The serial numbers of the server certificates that new connections meet."""
    seen = [look(server.est_port, load.context()) for _ in range(8)]
    return {each.certificate.serial_number for each in seen if isinstance(each, Seen)}
