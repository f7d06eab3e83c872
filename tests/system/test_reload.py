"""``kipuka reload`` on a server of three processes: all change over, or none does and each error is one line."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kipuka_core.edges.serving.control import command_server
from kipuka_core.edges.serving.reload import Outcome
from kipuka_core.testing.pki import Authority, Leaf, key_pem, make_csr, make_key, make_root
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.server import RunningServer, running_server, wait_until
from tests.startup.starting import pem, write_server
from tests.system.system_kit import PKCS10
from tests.tls_settings.settings_kit import (
    CACERTS,
    DEVICE_CA,
    DEVICE_ROOT,
    NO_CONNECTION,
    Seen,
    client_context,
    connection,
    look,
    make_site,
    server_leaf,
)

pytestmark = pytest.mark.long

OTHER_ROOT: Authority = make_root("Other Device Root CA")
ADMIN_CA: Authority = make_root("Site Admin CA")
OTHER_ADMIN_CA: Authority = make_root("Other Admin CA")
_NUMBERS = itertools.count()
ENROL = "/.well-known/est/simpleenroll"
HEALTH = "/admin/health"
ATTEMPTS = 8
"""Connections that are looked at where every worker has to be met: workers share a socket."""
_LONG_AGO = datetime.now(UTC) - timedelta(days=400)


@dataclass
class Site:
    """A running server and its files."""

    directory: Path
    server: RunningServer
    first: Leaf = field(default_factory=server_leaf)

    def write(self, name: str, content: bytes) -> None:
        write_private(self.directory / name, content)

    def trust(self, *authorities: Authority, name: str = "devices.pem") -> None:
        """Write a file of anchors."""
        self.write(name, pem(*(each.certificate for each in authorities)))

    def present(self, leaf: Leaf) -> None:
        """Write a server certificate and its key."""
        write_server(self.server.deployment, leaf)

    def make_sound(self) -> None:
        """Everything as it was at the start."""
        self.present(self.first)
        self.trust(DEVICE_ROOT)
        self.trust(ADMIN_CA, name="admins.pem")

    def reload(self) -> Outcome:
        """What the server answers on its control socket."""
        return command_server(self.directory / "state", "reload", timeout_seconds=120)

    def reloaded(self) -> tuple[str, ...]:
        outcome = self.reload()
        assert outcome.ok, outcome.lines
        return outcome.lines

    def audit(self, event: str) -> list[dict[str, Any]]:
        """The audit events of this name."""
        lines = self.server.deployment.audit_log.read_text(encoding="utf-8").splitlines()
        return [fact for fact in map(json.loads, lines) if fact["event"] == event]

    def next_event(self, event: str, known: int) -> dict[str, Any]:
        """The one event of this name beyond those that were known; who asked is told before it is written."""
        wait_until(lambda: len(self.audit(event)) > known, what=lambda: f"the event {event}")
        (found,) = self.audit(event)[known:]
        return found

    def context(self, leaf: Leaf | None = None, tls: str | None = None) -> ssl.SSLContext:
        return client_context(self.directory, leaf, tls=tls)

    def serials(self) -> set[int]:
        """The serial numbers of the server certificates that clients of both listeners meet."""
        found = set()
        listeners = [(self.server.est_port, CACERTS)] * ATTEMPTS + [(self.server.admin_port, HEALTH)]
        for port, path in listeners:
            seen = look(port, self.context(), path)
            assert isinstance(seen, Seen)
            found.add(seen.certificate.serial_number)
        return found

    def enrols(self, leaf: Leaf, name: str = "device") -> int | str:
        """What a device with this certificate gets on a connection of its own."""
        with connection(self.server.est_port, self.context(leaf)) as raw:
            return raw.ask("POST", ENROL, base64.b64encode(make_csr(common_name=name)), PKCS10)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("reload") / "site"
    settings = {
        "server.workers": "2",
        "admin.client_auth.mode": '"optional"',
        "admin.client_auth.trust_anchors": '"admins.pem"',
    }
    deployment = make_site(directory, settings)
    (directory / "admins.pem").write_bytes(ADMIN_CA.pem)
    with running_server(deployment) as server:
        yield Site(directory, server)


@pytest.fixture
def site(running: Site) -> Site:
    """The server with sound files and a certificate that it never had before; what happened earlier is written down."""
    running.first = server_leaf(common_name=f"server-{next(_NUMBERS)}")
    running.make_sound()
    running.reloaded()
    name = running.first.certificate.subject.rfc4514_string()
    wait_until(
        lambda: any(f"{name} until" in fact["reason"] for fact in running.audit("tls_reloaded")),
        what=lambda: "the event of the reload",
    )
    return running


def serial(leaf: Leaf) -> int:
    return leaf.certificate.serial_number


def test_every_process_serves_the_new_certificate_and_one_event_says_so(site: Site) -> None:
    assert site.serials() == {serial(site.first)}
    events = len(site.audit("tls_reloaded"))
    new = server_leaf("rsa2048")
    site.present(new)
    assert site.serials() == {serial(site.first)}, "nothing is read before it is asked for"

    done = site.server.deployment.kipuka("reload")

    until = f"until {new.certificate.not_valid_after_utc:%Y-%m-%d %H:%M}Z"
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines == [
        f"reloaded, est: certificate CN=localhost {until}, 3 trust anchors",
        f"reloaded, admin: certificate CN=localhost {until}, 1 trust anchor",
    ]
    assert site.serials() == {serial(new)}
    assert site.next_event("tls_reloaded", events)["reason"] == "; ".join(
        line.removeprefix("reloaded, ") for line in lines
    )


def test_sighup_does_the_same(site: Site) -> None:
    events = len(site.audit("tls_reloaded"))
    new = server_leaf()
    site.present(new)
    site.server.process.send_signal(signal.SIGHUP)
    site.next_event("tls_reloaded", events)
    assert site.serials() == {serial(new)}


def _expired_anchor() -> Authority:
    leaf = OTHER_ROOT.leaf("an old CA", ca=True, not_before=_LONG_AGO)
    return Authority(leaf.certificate, leaf.key)


FAULTS: dict[str, tuple[Callable[[Site], object], tuple[str, ...]]] = {
    "the certificate is missing": (lambda site: (site.directory / "tls/server.pem").unlink(), ("server.pem",)),
    "the certificate is garbled": (lambda site: site.write("tls/server.pem", b"garbled"), ("server.pem",)),
    "the certificate is empty": (lambda site: site.write("tls/server.pem", b""), ("server.pem",)),
    "the certificate expired": (
        lambda site: site.present(make_root().leaf("localhost", not_before=_LONG_AGO)),
        ("server.pem", "expired on"),
    ),
    "the certificate is of next year": (
        lambda site: site.present(make_root().leaf("localhost", not_before=datetime.now(UTC) + timedelta(days=300))),
        ("server.pem", "is valid from"),
    ),
    "the key is missing": (lambda site: (site.directory / "tls/server.key").unlink(), ("tls.key", "server.key")),
    "the key is another's": (
        lambda site: site.write("tls/server.key", key_pem(make_key())),
        ("tls.key", "server.key", "is not the key of"),
    ),
    "the key is encrypted": (
        lambda site: site.write("tls/server.key", key_pem(make_key(), b"password of a test")),
        ("tls.key", "server.key", "encrypted"),
    ),
    "the anchors are missing": (
        lambda site: (site.directory / "devices.pem").unlink(),
        ("tls.client_auth.trust_anchors", "devices.pem", "does not exist"),
    ),
    "the anchors are empty": (
        lambda site: site.write("devices.pem", b"\n"),
        ("tls.client_auth.trust_anchors", "devices.pem", "is empty"),
    ),
    "the anchors are garbled": (
        lambda site: site.write("devices.pem", b"garbled"),
        ("tls.client_auth.trust_anchors", "devices.pem", "no PEM certificate"),
    ),
    "an anchor is no CA": (
        lambda site: site.write("devices.pem", DEVICE_ROOT.pem + DEVICE_CA.leaf("device").certificate_pem),
        ("tls.client_auth.trust_anchors", "devices.pem", "CN=device", "is not a CA certificate"),
    ),
    "an anchor expired": (
        lambda site: site.trust(DEVICE_ROOT, _expired_anchor()),
        ("tls.client_auth.trust_anchors", "devices.pem", "CN=an old CA", "is valid only from"),
    ),
    "an administrators' anchor is no CA": (
        lambda site: site.write("admins.pem", ADMIN_CA.leaf("Ana").certificate_pem),
        ("admin.client_auth.trust_anchors", "admins.pem", "CN=Ana", "is not a CA certificate"),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_changes_anywhere_and_one_line_says_why_when(name: str, site: Site) -> None:
    make, says = FAULTS[name]
    events = len(site.audit("tls_reload_failed"))
    site.present(server_leaf())  # would be served, if the rest were sound
    site.trust(OTHER_ROOT)
    site.trust(OTHER_ADMIN_CA, name="admins.pem")
    make(site)

    outcome = site.reload()

    assert not outcome.ok
    (line,) = outcome.lines
    for text in says:
        assert text in line
    assert site.next_event("tls_reload_failed", events)["reason"] == line
    assert site.serials() == {serial(site.first)}
    assert {site.enrols(DEVICE_CA.leaf("device")) for _ in range(4)} == {200}
    assert site.enrols(OTHER_ROOT.leaf("device")) == NO_CONNECTION
    ana = site.context(ADMIN_CA.leaf("Ana"))
    assert isinstance(look(site.server.admin_port, ana, HEALTH), Seen)
    assert look(site.server.admin_port, site.context(OTHER_ADMIN_CA.leaf("Ana")), HEALTH) == NO_CONNECTION


def test_the_command_prints_each_error_once_and_ends_with_1(site: Site) -> None:
    site.write("devices.pem", b"")
    site.write("admins.pem", b"")
    done = site.server.deployment.kipuka("reload", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    # Each process names the first thing that stops it.
    assert sorted(done.stderr.splitlines()) == [
        f"kipuka: error: not reloaded: {table}.client_auth.trust_anchors: {site.directory / name} is empty"
        for table, name in (("admin", "admins.pem"), ("tls", "devices.pem"))
    ]


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_a_dropped_ca_s_devices_have_no_rights_left(site: Site, tls: str) -> None:
    site.trust(DEVICE_ROOT, OTHER_ROOT)
    site.reloaded()
    port, other, device = site.server.est_port, OTHER_ROOT.leaf("other"), DEVICE_CA.leaf("device")
    context = site.context(other, tls)
    request = ("POST", ENROL, base64.b64encode(make_csr(common_name="other")), PKCS10)
    with connection(port, context) as kept, connection(port, site.context(device, tls)) as others_kept:
        assert kept.ask(*request) == 200
        assert others_kept.ask("GET", CACERTS) == 200
        session = kept.tls.session
        assert session is not None
        before = look(port, context, session=session)
        assert isinstance(before, Seen), "the session can be resumed, or the server made a new one"

        site.trust(DEVICE_ROOT)
        site.reloaded()

        assert kept.ask(*request) == 401
        assert others_kept.ask("POST", ENROL, base64.b64encode(make_csr(common_name="device")), PKCS10) == 200
    for _ in range(ATTEMPTS):
        assert look(port, context) == NO_CONNECTION
        assert look(port, context, session=session) == NO_CONNECTION
    assert site.enrols(device) == 200


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_a_dropped_admin_ca_s_administrators_have_no_rights_left(site: Site, tls: str) -> None:
    site.trust(ADMIN_CA, OTHER_ADMIN_CA, name="admins.pem")
    site.reloaded()
    port, ana, ben = site.server.admin_port, ADMIN_CA.leaf("Ana"), OTHER_ADMIN_CA.leaf("Ben")
    context = site.context(ben, tls)
    first = look(port, context, HEALTH)
    assert isinstance(first, Seen)
    again = look(port, context, HEALTH, first.session)
    assert isinstance(again, Seen)
    assert (again.status, again.reused) == (200, True)
    with connection(port, context) as kept, connection(port, context, again.session) as resumed:
        assert (kept.ask("GET", HEALTH), resumed.ask("GET", HEALTH)) == (200, 200)
        assert resumed.tls.session_reused

        site.trust(ADMIN_CA, name="admins.pem")
        site.reloaded()

        for raw in (kept, resumed):
            assert raw.ask("GET", HEALTH) == 401
            assert raw.ask("GET", "/admin/health/live") == 200
    assert look(port, context, HEALTH) == NO_CONNECTION
    assert look(port, context, HEALTH, again.session) == NO_CONNECTION
    seen = look(port, site.context(ana, tls), HEALTH)
    assert isinstance(seen, Seen)
    assert seen.status == 200


def test_an_admin_ca_that_comes_back_is_one_again_also_on_a_kept_connection(site: Site) -> None:
    with connection(site.server.admin_port, site.context(ADMIN_CA.leaf("Ana"))) as kept:
        assert kept.ask("GET", HEALTH) == 200
        site.trust(OTHER_ADMIN_CA, name="admins.pem")
        site.reloaded()
        assert kept.ask("GET", HEALTH) == 401
        site.trust(ADMIN_CA, name="admins.pem")
        site.reloaded()
        # Its handshake is what was verified; what the reload took away does not come back by itself.
        assert kept.ask("GET", HEALTH) == 401
    seen = look(site.server.admin_port, site.context(ADMIN_CA.leaf("Ana")), HEALTH)
    assert isinstance(seen, Seen)
    assert seen.status == 200


def test_a_request_in_the_middle_is_finished_on_its_connection(site: Site) -> None:
    body = base64.b64encode(make_csr(common_name="device"))
    with connection(site.server.est_port, site.context(DEVICE_CA.leaf("device"))) as raw:
        raw.putrequest("POST", ENROL)
        for name, value in {**PKCS10, "Content-Length": str(len(body))}.items():
            raw.putheader(name, value)
        raw.endheaders(body[:20])
        site.present(server_leaf())
        site.reloaded()
        raw.send(body[20:])
        response = raw.getresponse()
        assert (response.status, bool(response.read())) == (200, True)
        assert raw.ask("GET", CACERTS) == 200


def test_reloads_at_the_same_time_all_end_well(site: Site) -> None:
    new = server_leaf()
    site.present(new)
    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(lambda _: site.reload(), range(4)))
    assert all(outcome.ok for outcome in outcomes)
    assert site.serials() == {serial(new)}


@pytest.mark.parametrize("worker", ["est-1", "admin"])
def test_a_worker_that_is_killed_beside_a_reload_comes_back_with_the_new_files(site: Site, worker: str) -> None:
    killed = site.server.worker_pids()[worker]
    new = server_leaf()
    site.present(new)
    os.kill(killed, signal.SIGKILL)
    site.reloaded()
    wait_until(lambda: site.server.worker_pids()[worker] != killed, what=lambda: "the replacement")
    assert site.serials() == {serial(new)}


def test_a_worker_that_cannot_come_back_with_the_files_as_they_are_is_back_after_the_next_reload(site: Site) -> None:
    killed = site.server.worker_pids()["est-1"]
    site.write("tls/server.pem", b"garbled")
    os.kill(killed, signal.SIGKILL)
    outcome = site.reload()
    assert not outcome.ok
    assert all("server.pem" in line for line in outcome.lines)
    assert site.enrols(DEVICE_CA.leaf("device")) == 200

    new = server_leaf()
    site.present(new)
    site.reloaded()

    wait_until(lambda: site.server.worker_pids()["est-1"] != killed, what=lambda: "the replacement")
    assert site.serials() == {serial(new)}


def test_in_mode_required_a_dropped_ca_s_kept_connection_gets_not_even_the_ca_certificates(tmp_path: Path) -> None:
    deployment = make_site(tmp_path / "site", {"tls.client_auth.mode": '"required"'})
    with running_server(deployment) as server:
        strict = Site(deployment.directory, server)
        strict.trust(DEVICE_ROOT, OTHER_ROOT)
        strict.reloaded()
        others, devices = (strict.context(ca.leaf("device")) for ca in (OTHER_ROOT, DEVICE_CA))
        with connection(server.est_port, others) as dropped, connection(server.est_port, devices) as kept:
            assert (dropped.ask("GET", CACERTS), kept.ask("GET", CACERTS)) == (200, 200)
            strict.trust(DEVICE_ROOT)
            strict.reloaded()
            assert (dropped.ask("GET", CACERTS), kept.ask("GET", CACERTS)) == (401, 200)
        assert look(server.est_port, others) == NO_CONNECTION
