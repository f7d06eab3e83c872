"""How it is shown to pebble that names are the operator's: by real HTTP and real DNS."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from kipuka_core import ConfigurationError, NotAllowed, Unavailable
from kipuka_core.testing.contracts.ca_backend import asked
from tests.acme.acme_kit import approve, followed, issued, names, opened, ordered, polled
from tests.acme.pebble import Pebble, free_port, running_pebble


def http_listen(pebble: Pebble) -> str:
    return f"127.0.0.1:{pebble.http_port}"


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Say nothing."""


@contextmanager
def serving_files(directory: Path, port: int) -> Iterator[None]:
    """Another web server, which knows nothing of kipuka."""
    with ThreadingHTTPServer(("127.0.0.1", port), partial(QuietFiles, directory=str(directory))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


async def exchange(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    answer = await reader.read()
    writer.close()
    return answer


async def test_http_01_by_the_built_in_responder(tmp_path: Path, looking_pebble: Pebble) -> None:
    async with opened(tmp_path, looking_pebble.table(http_listen=http_listen(looking_pebble))) as backend:
        approved = await approve(backend, "dns:pump.example", "dns:pump.plant.example")
        reference = await ordered(backend, approved)
        references: list[str] = []

        certificate = await followed(backend, approved, reference, references=references)

    assert names(certificate) == ["pump.example", "pump.plant.example"]
    presented, after = references
    assert presented.startswith(f"{reference}#presented=")
    assert after == reference


async def test_an_ip_address_is_certified(tmp_path: Path, looking_pebble: Pebble) -> None:
    """RFC 8738."""
    async with opened(tmp_path, looking_pebble.table(http_listen=http_listen(looking_pebble))) as backend:
        certificate = await issued(backend, await approve(backend, "dns:pump.example", "ip:127.0.0.1"))
    assert names(certificate) == ["127.0.0.1", "pump.example"]


async def test_http_01_by_files_that_another_server_serves(tmp_path: Path, looking_pebble: Pebble) -> None:
    webroot = tmp_path / "webroot"
    webroot.mkdir()
    with serving_files(webroot, looking_pebble.http_port):
        async with opened(tmp_path, looking_pebble.table(http_webroot="webroot")) as backend:
            certificate = await issued(backend, await approve(backend, "dns:webroot.example"))
    assert names(certificate) == ["webroot.example"]
    assert [path for path in webroot.rglob("*") if path.is_file()] == []


async def test_two_processes_answer_on_the_same_port(tmp_path: Path, looking_pebble: Pebble) -> None:
    """Each worker opens the backend: they have one account, and each answers for the other's orders."""
    table = looking_pebble.table(http_listen=http_listen(looking_pebble))
    async with opened(tmp_path, table) as one, opened(tmp_path, table) as other:
        approved = [await approve(each, f"dns:both-{number}.example") for number, each in enumerate([one, other] * 4)]
        certificates = await asyncio.gather(*(issued(one, each) for each in approved))
    assert len({each.serial_number for each in certificates}) == 8


async def test_dns_01_for_a_wildcard_beside_its_base_name(
    tmp_path: Path, looking_pebble: Pebble, monkeypatch: Any
) -> None:
    dns = looking_pebble.dns
    assert dns is not None
    monkeypatch.setenv("KIPUKA_SECRET", "correct-horse-7319")
    table = looking_pebble.table(http_listen=http_listen(looking_pebble), dns_hook=str(dns.hook()))
    async with opened(tmp_path, table) as backend:
        approved = await approve(backend, "dns:*.plant.example", "dns:plant.example")

        certificate = await issued(backend, approved)

    assert names(certificate) == ["*.plant.example", "plant.example"]
    ((word, name, value), (last_word, last_name, last_value)) = dns.hook_calls
    assert (word, last_word) == ("present", "cleanup")
    assert name == last_name == "_acme-challenge.plant.example"
    assert value == last_value
    assert "KIPUKA_SECRET" not in (dns.directory / "hook.environment").read_text(encoding="utf-8")


async def test_the_ca_looks_only_after_dns_wait(tmp_path: Path, looking_pebble: Pebble) -> None:
    """The time is in the reference, so it goes on after a restart, in another process."""
    dns = looking_pebble.dns
    assert dns is not None
    table = looking_pebble.table(dns_hook=str(dns.hook()), dns_wait="1h")
    async with opened(tmp_path, table) as backend:
        approved = await approve(backend, "dns:*.slow.example")
        presented, seconds = await polled(backend, approved, await ordered(backend, approved))
        assert seconds == 3600
        again, seconds = await polled(backend, approved, presented)
        assert again == presented
        assert 3500 < seconds <= 3600
    url, _, presented_at = presented.partition("#presented=")
    earlier = f"{url}#presented={int(presented_at) - 3600}"
    async with opened(tmp_path, table) as backend:
        assert names(await followed(backend, approved, earlier)) == ["*.slow.example"]


async def test_a_name_that_cannot_be_proven_is_refused_in_the_cas_words(tmp_path: Path, looking_pebble: Pebble) -> None:
    async with opened(tmp_path, looking_pebble.table(http_listen=f"127.0.0.1:{free_port()}")) as backend:
        approved = await approve(backend, "dns:not-here.example")
        reference = await ordered(backend, approved)
        with pytest.raises(NotAllowed, match=r"the certification authority refuses: .*not-here\.example"):
            await followed(backend, approved, reference)
        with pytest.raises(NotAllowed, match="refuses"):
            await backend.poll(asked(approved, reference))


async def test_a_failed_challenge_is_cleaned_up(tmp_path: Path, looking_pebble: Pebble) -> None:
    webroot = tmp_path / "webroot"
    webroot.mkdir()
    async with opened(tmp_path, looking_pebble.table(http_webroot="webroot")) as backend:
        approved = await approve(backend, "dns:nobody-serves.example")
        with pytest.raises(NotAllowed):
            await issued(backend, approved)
    assert [path for path in webroot.rglob("*") if path.is_file()] == []


async def test_names_that_are_proven_already_are_not_proven_again(tmp_path: Path) -> None:
    webroot = tmp_path / "webroot"
    webroot.mkdir()
    with running_pebble(tmp_path / "pebble", with_dns=True, environment={"PEBBLE_AUTHZREUSE": "100"}) as pebble:
        async with opened(tmp_path, pebble.table(http_listen=http_listen(pebble))) as backend:
            first = await approve(backend, "dns:again.example")
            await issued(backend, first)
            second = await approve(backend, "dns:again.example")
            references: list[str] = []
            await followed(backend, second, await ordered(backend, second), references=references)
    assert references == []


async def test_a_challenge_that_nobody_here_answers_is_said(tmp_path: Path, looking_pebble: Pebble) -> None:
    async with opened(tmp_path, looking_pebble.table(http_listen=http_listen(looking_pebble))) as backend:
        approved = await approve(backend, "dns:*.wild.example")
        with pytest.raises(
            NotAllowed, match=r"proof for \*\.wild\.example by one of dns-01, and this server answers http-01"
        ):
            await issued(backend, approved)


async def test_a_hook_that_fails_is_tried_again(tmp_path: Path, looking_pebble: Pebble) -> None:
    dns = looking_pebble.dns
    assert dns is not None
    table = looking_pebble.table(dns_hook=str(dns.hook(exit_status=3)))
    async with opened(tmp_path, table) as backend:
        approved = await approve(backend, "dns:*.hook.example")
        reference = await ordered(backend, approved)
        with pytest.raises(Unavailable, match="program for DNS records has failed"):
            await backend.poll(asked(approved, reference))
        dns.hook()
        assert names(await followed(backend, approved, reference)) == ["*.hook.example"]


async def test_a_hook_that_hangs_is_ended(tmp_path: Path, looking_pebble: Pebble) -> None:
    program = tmp_path / "hook"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n", encoding="utf-8")
    program.chmod(0o755)
    async with opened(tmp_path, looking_pebble.table(dns_hook=str(program), timeout="1s")) as backend:
        approved = await approve(backend, "dns:*.hang.example")
        with pytest.raises(Unavailable, match="takes too long"):
            await issued(backend, approved)
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_what_cannot_be_cleaned_up_keeps_no_device_from_its_certificate(
    tmp_path: Path, looking_pebble: Pebble
) -> None:
    dns = looking_pebble.dns
    assert dns is not None
    warnings: list[str] = []
    table = looking_pebble.table(dns_hook=str(dns.hook()))
    async with opened(tmp_path, table, warn=warnings.append) as backend:
        approved = await approve(backend, "dns:*.dirty.example")
        presented, _ = await polled(backend, approved, await ordered(backend, approved))
        hook = dns.hook().read_text(encoding="utf-8")
        dns.hook().write_text(hook.replace("cleanup)", "cleanup) exit 1 ;; never)"), encoding="utf-8")
        assert isinstance(await followed(backend, approved, presented), x509.Certificate)
    assert warnings == ["ca.pebble: dns-01: the program for DNS records has failed; answers stay where they are"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /.well-known/acme-challenge/short HTTP/1.1\r\n\r\n",
        b"GET /.well-known/acme-challenge/<script>alert(1)</script> HTTP/1.1\r\n\r\n",
        b"GET /.well-known/acme-challenge/../../../../etc/passwd HTTP/1.1\r\n\r\n",
        b"POST /.well-known/acme-challenge/0123456789abcdef HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    ],
)
async def test_the_responder_answers_nothing_else(tmp_path: Path, pebble: Pebble, request_bytes: bytes) -> None:
    port = free_port()
    async with opened(tmp_path, pebble.table(http_listen=f"127.0.0.1:{port}")):
        answer = await exchange(port, request_bytes)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"\r\n\r\n")


async def test_the_responder_survives_those_who_send_nothing_or_too_much(tmp_path: Path, pebble: Pebble) -> None:
    port = free_port()
    async with opened(tmp_path, pebble.table(http_listen=f"127.0.0.1:{port}")):
        _, silent = await asyncio.open_connection("127.0.0.1", port)
        assert await exchange(port, b"x" * 100_000) == b""
        answer = await exchange(port, b"HEAD /.well-known/acme-challenge/0123456789abcdef HTTP/1.1\r\n\r\n")
        silent.close()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"http_webroot": "nowhere"}, r"ca\.pebble\.http_webroot: .*nowhere is not a directory"),
        ({"dns_hook": "nothing"}, r"ca\.pebble\.dns_hook: .*nothing is not a program that can be run"),
        ({"http_listen": "192.0.2.1:80"}, r"ca\.pebble\.http_listen: 192\.0\.2\.1:80 cannot be listened on"),
    ],
)
async def test_what_could_not_answer_stops_the_start(
    tmp_path: Path, pebble: Pebble, more: dict[str, str], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        async with opened(tmp_path, pebble.table(**more)):
            pass
