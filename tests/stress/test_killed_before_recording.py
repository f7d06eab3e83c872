"""``kill -9`` of the whole server between asking a CA and recording its answer, again and again.

Afterwards every certificate that the CA knows of is on record, and no request has two.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kipuka_core.testing.client import Answer
from kipuka_core.testing.pki import make_csr, make_key
from kipuka_core.testing.server import Deployment, RunningServer, wait_until
from tests.cfssl.cfssl_server import Cfssl, make_cfssl, running_cfssl
from tests.cfssl.cfssl_site import make_site
from tests.system.system_kit import System, serving

pytestmark = [pytest.mark.long, pytest.mark.interop]

_KILLS = int(os.environ.get("KIPUKA_KILLS", "5"))
"""A kill takes ten seconds; 50 of them are for a look at a change, not for every run."""
_AT_ONCE = 3
_SEED = 20260
_LONGEST_PAUSE_SECONDS = 0.06
"""From the moment a request goes to CFSSL: in this time it has answered, and kipuka has recorded, on any machine, or
not. Where the kill falls does not matter for what has to be true afterwards."""


@dataclass
class Relay:
    """Before CFSSL; it tells when a request for a certificate goes through."""

    target: int
    asked: threading.Event = field(default_factory=threading.Event)
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.target)) as server, suppress(OSError):
            back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
            back.start()
            self._copy(client, server)
            back.join()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if b"/authsign" in data:
                    self.asked.set()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def relay_to(port: int) -> Iterator[Relay]:
    relay = Relay(port)
    thread = threading.Thread(target=relay.serve)
    thread.start()
    try:
        yield relay
    finally:
        relay.close()
        thread.join()


@dataclass(frozen=True)
class Device:
    name: str
    csr: bytes
    token: str

    def enrol(self, system: System) -> Answer | None:
        """The answer; None where the server is gone before it."""
        try:
            return system.client().enrol(self.csr, user=self.name, password=self.token)
        except (OSError, HTTPException):
            return None


def kill(server: RunningServer) -> None:
    """The supervisor first, so that it starts no worker again."""
    server.process.kill()
    for pid in server.worker_pids().values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.process.wait()


def test_what_a_killed_server_had_asked_for_is_on_record_in_the_end(tmp_path: Path) -> None:
    chance = random.Random(_SEED)
    with running_cfssl(make_cfssl(tmp_path / "cfssl")) as cfssl, relay_to(cfssl.port) as relay:
        settings = cfssl.settings_with_serials | {"url": f"http://127.0.0.1:{relay.port}", "settle_after": 1}
        site = make_site(tmp_path / "site", settings)
        devices: list[Device] = []
        unanswered = 0
        for kill_number in range(_KILLS):
            unanswered += _one_round(site, relay, devices, kill_number, chance)
        with serving(site) as system:
            _all_settled(system)
            certificates = _fetch_all(system, devices)
        _check(system, cfssl, certificates)
    assert unanswered > 0, "no kill fell into a request"


def _one_round(site: Deployment, relay: Relay, devices: list[Device], number: int, chance: random.Random) -> int:
    """Some devices at once, and the end of the server while they are served; how many had no answer."""
    with serving(site) as system:
        fresh = []
        for place in range(_AT_ONCE):
            name = f"device-{number}-{place}"
            fresh.append(Device(name, make_csr(make_key(), name, [f"dns:{name}"]), system.otp(name)))
        relay.asked.clear()
        with ThreadPoolExecutor(_AT_ONCE) as clients:
            answers: list[Future[Answer | None]] = [clients.submit(each.enrol, system) for each in fresh]
            assert relay.asked.wait(60), "CFSSL was never asked"
            threading.Event().wait(chance.uniform(0, _LONGEST_PAUSE_SECONDS))
            kill(system.server)
        devices += fresh
        return sum(answer.result() is None for answer in answers)


def _all_settled(system: System) -> None:
    """Nothing is left whose outcome is unknown."""
    wait_until(
        lambda: system.rows("SELECT count(*) FROM requests WHERE state = 'intent'") == [(0,)],
        what=lambda: str(system.rows("SELECT * FROM requests WHERE state = 'intent'")),
    )


def _fetch_all(system: System, devices: list[Device]) -> dict[str, x509.Certificate]:
    """Every device asks again, as one that had no answer does."""
    answers = {each.name: each.enrol(system) for each in devices}
    assert {answer.status if answer else 0 for answer in answers.values()} == {200}
    return {name: answer.certificate() for name, answer in answers.items() if answer}


def _check(system: System, cfssl: Cfssl, certificates: dict[str, x509.Certificate]) -> None:
    issued = cfssl.issued()
    on_record = {der for (der,) in system.rows("SELECT certificate_der FROM certificates")}
    assert {each.public_bytes(Encoding.DER) for each in issued} == on_record, "the CA's records are kipuka's"
    keys = [each.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for each in issued]
    assert len(set(keys)) == len(keys) == len(certificates), "one certificate for each device"
    assert set(certificates.values()) == set(issued), "each device has its own in the end"
