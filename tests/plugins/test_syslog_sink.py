"""The event sink ``syslog`` against a server on this host."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kipuka_builtin import syslog_sink
from kipuka_core import ConfigurationError, Event, EventSink
from kipuka_core.model.event import CertificateIssued, EnrolmentRefused, ServerStarted
from kipuka_core.testing.contracts.event_sink import ODD_REASONS, EventSinkContract, numbered
from kipuka_core.testing.pki import Authority, make_root
from kipuka_core.testing.services import make_services
from tests.plugins.syslog_server import SyslogServer

ROOT: Authority = make_root("Syslog Root CA")
OTHER_ROOT: Authority = make_root("Another Root CA")


def server_context(directory: Path, authority: Authority = ROOT, *, asks: bool = False) -> ssl.SSLContext:
    leaf = authority.server()
    (directory / "syslog.pem").write_bytes(leaf.certificate_pem)
    (directory / "syslog.key").write_bytes(leaf.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "syslog.pem", directory / "syslog.key")
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=ROOT.pem.decode())
    return context


@pytest.fixture(params=["tcp", "tls"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(protocol: str, tmp_path: Path) -> Iterator[SyslogServer]:
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    with SyslogServer(protocol, server_context(tmp_path) if protocol == "tls" else None) as running:
        yield running


@pytest.fixture
def settings(server: SyslogServer, protocol: str) -> Mapping[str, object]:
    tls = {"ca_file": "ca.pem", "server_name": "localhost"} if protocol == "tls" else {}
    return {"address": f"127.0.0.1:{server.port}", "protocol": protocol, **tls}


def open_sink(directory: Path, settings: Mapping[str, Any]) -> AbstractAsyncContextManager[EventSink]:
    return syslog_sink.PROVIDER.open(syslog_sink.SyslogSettings(**settings), make_services(directory))


class TestContract(EventSinkContract):
    provider = syslog_sink.PROVIDER

    @pytest.fixture
    def settings(self, settings: Mapping[str, object]) -> Mapping[str, object]:
        return settings

    @pytest.fixture
    def read_back(self, server: SyslogServer) -> Callable[[], Sequence[dict[str, Any]]]:
        return lambda: [message.body for message in server.messages()]

    @pytest.fixture
    def break_it(self, server: SyslogServer) -> Callable[[], None]:
        return server.take_away

    @pytest.fixture
    def repair_it(self, server: SyslogServer) -> Callable[[], None]:
        return server.put_back


ISSUED = CertificateIssued(
    time=datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC), request_id="r1", actor='de"v\\ice]', label="factory",
    source_address="192.0.2.1", operation="simpleenroll", authenticator="otp", ca_id="default", serial="0a",
    subject="CN=Ünicode", not_after="2027", key_type="ecdsa256",
)  # fmt: skip


@pytest.mark.parametrize("protocol", ["tcp"])
async def test_a_message_is_as_rfc_5424_has_it(
    server: SyslogServer, settings: Mapping[str, object], tmp_path: Path
) -> None:
    more = {"facility": "local3", "host_name": "est 1.example", "sd_id": "audit@12345"}
    async with open_sink(tmp_path, {**settings, **more}) as sink:
        await sink.emit(ISSUED)
        await sink.emit(EnrolmentRefused(time=ISSUED.time, code="not_allowed", reason="no"))
    issued, refused = server.messages()
    assert issued.priority == 19 * 8 + 5
    assert issued.header == (
        "2026-01-02T03:04:05.678Z",
        "est_1.example",
        "kipuka",
        str(os.getpid()),
        "certificate_issued",
    )
    assert issued.sd_id == "audit@12345"
    assert issued.params["actor"] == 'de"v\\ice]'
    assert issued.params["subject"] == "CN=Ünicode"
    assert issued.body == ISSUED.as_dict()
    assert refused.priority == 19 * 8 + 4
    assert refused.params["code"] == "not_allowed"
    assert "reason" not in refused.params


async def test_a_server_that_was_restarted_costs_no_event(
    server: SyslogServer, settings: Mapping[str, object], tmp_path: Path
) -> None:
    async with open_sink(tmp_path, settings) as sink:
        for number in range(5):
            await sink.emit(numbered(number))
            assert len(server.messages()) == number + 1
            server.restart()
        await sink.ping()


async def test_ping_says_whether_the_server_is_there(
    server: SyslogServer, settings: Mapping[str, object], tmp_path: Path
) -> None:
    async with open_sink(tmp_path, settings) as sink:
        await sink.ping()
        server.take_away()
        with pytest.raises(OSError, match=r"."):
            await sink.ping()
        server.put_back()
        await sink.ping()


@pytest.mark.parametrize("protocol", ["tls"])
@pytest.mark.parametrize("wrong", ["name", "issuer"])
async def test_a_server_with_another_certificate_gets_nothing(
    server: SyslogServer, settings: Mapping[str, object], tmp_path: Path, wrong: str
) -> None:
    more: dict[str, object] = {"server_name": "syslog.example"}
    if wrong == "issuer":
        (tmp_path / "other.pem").write_bytes(OTHER_ROOT.pem)
        more = {"ca_file": "other.pem"}
    async with open_sink(tmp_path, {**settings, **more}) as sink:
        with pytest.raises(OSError, match="certificate verify failed"):
            await sink.emit(numbered(1))
    assert server.messages() == []


@pytest.mark.parametrize("has_certificate", [True, False])
async def test_a_server_may_ask_for_a_certificate(tmp_path: Path, has_certificate: bool) -> None:
    leaf = ROOT.leaf("kipuka")
    files = {"ca.pem": ROOT.pem, "me.pem": leaf.certificate_pem, "me.key": leaf.key_pem}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    with SyslogServer("tls", server_context(tmp_path, asks=True)) as server:
        settings: dict[str, Any] = {"address": f"localhost:{server.port}", "ca_file": "ca.pem"}
        if has_certificate:
            settings |= {"cert": "me.pem", "key": "me.key"}
        async with open_sink(tmp_path, settings) as sink:
            if has_certificate:
                await sink.emit(numbered(1))
                assert len(server.messages()) == 1
            else:
                with pytest.raises(OSError, match=r"."):
                    await sink.emit(numbered(1))


async def test_udp_sends_a_datagram_for_each_event_and_cuts_a_long_reason(tmp_path: Path) -> None:
    with SyslogServer("udp") as server:
        async with open_sink(tmp_path, {"address": f"127.0.0.1:{server.port}", "protocol": "udp"}) as sink:
            for number, reason in enumerate(ODD_REASONS):
                await sink.emit(numbered(number, reason))
            with pytest.raises(OSError, match="does not fit into a datagram"):
                await sink.emit(ServerStarted(time=ISSUED.time, version="1" * 10_000))
        messages = server.messages()
    assert [message.body["request_id"] for message in messages] == [f"{number:08d}" for number in range(6)]
    assert [message.body["reason"] for message in messages[:5]] == list(ODD_REASONS[:5])
    assert messages[5].body["reason"].endswith("x…")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"address": "log.example"}, "needs ca_file"),
        ({"address": "log.example", "protocol": "tcp", "ca_file": "ca.pem"}, 'ca_file is for protocol "tls"'),
        ({"address": "log.example:x", "protocol": "tcp"}, "host or host:port"),
        ({"address": "log.example", "protocol": "tcp", "facility": "local8"}, "must be one of kern"),
        ({"address": "log.example", "protocol": "tcp", "sd_id": "kipuka"}, "private enterprise number"),
        ({"address": "log.example", "ca_file": "ca.pem", "cert": "me.pem"}, "cert and key are set together"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        syslog_sink.SyslogSettings(**settings)


@pytest.mark.parametrize(
    ("address", "protocol", "expected"),
    [
        ("log.example", "udp", ("log.example", 514)),
        ("log.example", "tcp", ("log.example", 601)),
        ("log.example:5514", "tcp", ("log.example", 5514)),
        ("2001:db8::1", "tcp", ("2001:db8::1", 601)),
        ("[2001:db8::1]:99", "udp", ("2001:db8::1", 99)),
    ],
)
def test_the_port_has_a_default(address: str, protocol: Any, expected: tuple[str, int]) -> None:
    assert syslog_sink.SyslogSettings(address=address, protocol=protocol).host_and_port() == expected


async def test_a_ca_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name, problem in (("ca.pem", "cannot be used"), ("missing.pem", "No such file")):
        with pytest.raises(ConfigurationError, match=problem):
            async with open_sink(tmp_path, {"address": "log.example", "ca_file": name}):
                pass


async def test_an_event_that_json_cannot_say_is_its_own_emitters_affair(
    server: SyslogServer, settings: Mapping[str, object], tmp_path: Path
) -> None:
    class Odd(ServerStarted):
        def as_dict(self) -> dict[str, Any]:
            return {"event": "odd", "thing": 1j}

    odd: Event = Odd(time=ISSUED.time, version="1")
    async with open_sink(tmp_path, settings) as sink:
        with pytest.raises(TypeError):
            await sink.emit(odd)
        await sink.emit(numbered(1))
    assert len(server.messages()) == 1
