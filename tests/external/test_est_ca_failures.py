"""CA backend ``est`` when its upstream is away, slow, wrong, hostile, or does not want it."""

import asyncio
import socket
import ssl
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from kipuka_core import (
    Approved,
    CaBackend,
    ConfigurationError,
    CsrRefused,
    Issued,
    NotAllowed,
    OutcomeUnknown,
    Unavailable,
    Wait,
)
from kipuka_core.domain.postcheck import check_issued
from kipuka_core.errors import PostcheckFailed, RequestRefused
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.ca_backend import asked
from kipuka_core.testing.server import wait_until
from tests.external.est_kit import (
    PKCS7,
    RA,
    RA_CA,
    UPSTREAM_CA,
    Talk,
    ToldUpstream,
    certs_only,
    csr_of,
    http_answer,
    issuing,
    opened,
    says,
    told_upstream,
    write_ra,
)
from tests.external.external_kit import approved_by, logged


async def failure(backend: CaBackend, approved: Approved | None = None) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        await backend.issue(approved or await approved_by(backend))
    return caught.value


async def failure_of_poll(backend: CaBackend) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        await backend.poll(asked(await approved_by(backend), "202"))
    return caught.value


# -- what is asked -----------------------------------------------------------------------------------------------------
async def test_the_csr_is_passed_on_as_it_is(tmp_path: Path, upstream: ToldUpstream) -> None:
    upstream.enrol = issuing()
    async with opened(tmp_path, upstream.port, sets_validity_days=100) as backend:
        approved = await approved_by(backend)
        issued = await backend.issue(approved)
        assert isinstance(issued, Issued)
        check_issued(issued.certificate, approved.template, approved.issuer, profile=backend.may_set)
        assert await backend.poll(asked(approved, "202")) != issued
    first, second = upstream.enrolments
    assert first == second, "RFC 7030 4.2.3: the identical request"
    assert csr_of(first) == approved.enrolment.csr.der
    head = first.partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"post /.well-known/est/ra/simpleenroll http/1.1\r\n")
    assert b"\r\ncontent-type: application/pkcs10\r\n" in head
    assert b"\r\nauthorization: basic cme6czn" in head
    assert b"cookie" not in head


@pytest.mark.parametrize("more", [(), UPSTREAM_CA.chain], ids=["alone", "with its chain"])
async def test_the_certificate_for_the_key_is_taken(
    tmp_path: Path, upstream: ToldUpstream, more: tuple[x509.Certificate, ...]
) -> None:
    upstream.enrol = issuing(*more)
    async with opened(tmp_path, upstream.port) as backend:
        issued = await backend.issue(await approved_by(backend))
    assert isinstance(issued, Issued)
    issued.certificate.verify_directly_issued_by(UPSTREAM_CA.certificate)


@pytest.mark.parametrize(
    ("headers", "body", "wait"),
    [
        (["Retry-After: 7"], b"", Wait("the certification authority has not decided yet", 7, "202")),
        ([], b"", Wait("the certification authority has not decided yet", 60, "202")),
        (["Retry-After: soon"], b"", Wait("the certification authority has not decided yet", 60, "202")),
        (["Retry-After: 99999999"], b"", Wait("the certification authority has not decided yet", 7 * 86_400, "202")),
        (["Retry-After: 0"], b"", Wait("the certification authority has not decided yet", 1, "202")),
        (
            ["Retry-After: Fri, 01 Jan 2010 00:00:00 GMT", "Content-Type: text/plain"],
            b"somebody\r\nlooks at it",
            Wait("somebody looks at it", 1, "202"),
        ),
    ],
)
async def test_202_waits(tmp_path: Path, upstream: ToldUpstream, headers: list[str], body: bytes, wait: Wait) -> None:
    upstream.enrol = says(http_answer(202, body, *headers))
    async with opened(tmp_path, upstream.port) as backend:
        approved = await approved_by(backend)
        assert await backend.issue(approved) == wait
        assert await backend.poll(asked(approved, "202")) == wait


# -- answers that are no certificate -----------------------------------------------------------------------------------
TEXT = "Content-Type: text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (http_answer(400, b"no such\nkey\x07type", TEXT), CsrRefused, "refuses this request: no such key type"),
        (http_answer(400, b"x" * 5000, TEXT), CsrRefused, "refuses this request: " + "x" * 200 + "…"),
        (http_answer(400, b"<h1>Bad</h1>", "Content-Type: text/html"), CsrRefused, "refuses this request: HTTP 400"),
        (http_answer(403, b"not this name", TEXT), NotAllowed, "refuses this request: not this name"),
        (http_answer(409, b"", TEXT), CsrRefused, "refuses this request: HTTP 409"),
        (http_answer(422, b"\xff\xfe", TEXT), CsrRefused, "refuses this request: \ufffd\ufffd"),
    ],
)
async def test_4xx_refuses(
    tmp_path: Path, upstream: ToldUpstream, answer: bytes, error: type[RequestRefused], reason: str
) -> None:
    upstream.enrol = says(answer)
    async with opened(tmp_path, upstream.port) as backend:
        for caught in (await failure(backend), await failure_of_poll(backend)):
            assert type(caught) is error
            assert caught.reason == f"the certification authority {reason}"


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (401, ['WWW-Authenticate: Basic realm="x"']),
        (404, []),
        (405, []),
        (415, []),
        (302, ["Location: /elsewhere"]),
        (301, []),
    ],
)
async def test_what_is_this_servers_own_mistake_is_logged_and_not_told_to_the_client(
    tmp_path: Path, upstream: ToldUpstream, caplog: pytest.LogCaptureFixture, status: int, headers: list[str]
) -> None:
    upstream.enrol = says(http_answer(status, b"who are you?", TEXT, *headers))
    async with opened(tmp_path, upstream.port) as backend:
        caught = await failure(backend)
    assert type(caught) is Unavailable
    assert "who are you" not in caught.reason
    assert f"/ra simpleenroll answers HTTP {status}: who are you?" in logged(caplog)
    assert "s3cret" not in logged(caplog)
    assert len(upstream.enrolments) == 1, "no redirect is followed, and nothing is tried again"


@pytest.mark.parametrize("status", [503, 429])
async def test_503_is_surely_not_issued(tmp_path: Path, upstream: ToldUpstream, status: int) -> None:
    upstream.enrol = says(http_answer(status, b"", "Retry-After: 120"))
    async with opened(tmp_path, upstream.port) as backend:
        caught = await failure(backend)
    assert type(caught) is Unavailable
    assert caught.retry_after_seconds == 120


def hang_up(connection: ssl.SSLSocket, _request: bytes) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def stops_half_way(connection: ssl.SSLSocket, _request: bytes) -> None:
    connection.sendall(http_answer(200, certs_only(*UPSTREAM_CA.chain), PKCS7)[:-100])
    connection.close()


def too_much(connection: ssl.SSLSocket, _request: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 Said\r\n\r\n")
    while True:
        connection.sendall(b"A" * 65536)


def gzip_bomb(connection: ssl.SSLSocket, _request: bytes) -> None:
    connection.sendall(http_answer(200, b"\x1f\x8b", "Content-Encoding: gzip"))


SECOND = certs_only(UPSTREAM_CA.leaf().certificate, UPSTREAM_CA.leaf().certificate)


@pytest.mark.parametrize(
    "talk",
    [
        says(http_answer(500, b"", TEXT)),
        says(http_answer(502)),
        says(http_answer(504)),
        says(http_answer(204)),
        says(http_answer(200)),
        says(http_answer(200, b"AAAA", PKCS7)),
        says(http_answer(200, b"\x00\xff not base64 \x80", PKCS7)),
        says(http_answer(200, UPSTREAM_CA.leaf().certificate_pem, PKCS7)),
        says(http_answer(200, SECOND, PKCS7)),
        says(b"SSH-2.0-OpenSSH_9.2\r\n"),
        says(b""),
        says(b"HTTP/1.1 200 Said\r\n" + b"X-Long: " + b"x" * 300_000 + b"\r\n\r\n"),
        hang_up,
        stops_half_way,
        too_much,
        gzip_bomb,
    ],
    ids=[
        "500", "502", "504", "204", "empty", "no PKCS7", "garbage", "PEM", "two for other keys", "not HTTP", "nothing",
        "long header", "reset", "half", "oversized", "compressed",
    ],
)  # fmt: skip
async def test_whatever_makes_no_sense_is_an_outcome_that_nobody_knows(
    tmp_path: Path, upstream: ToldUpstream, talk: Talk
) -> None:
    upstream.enrol = talk
    async with opened(tmp_path, upstream.port) as backend:
        assert type(await failure(backend)) is OutcomeUnknown
        assert type(await failure_of_poll(backend)) is Unavailable, "it may be asked again"


@pytest.mark.parametrize(
    "talk",
    [
        issuing(ca=True),
        issuing(san=("dns:another.example",)),
        issuing(authority=pki.make_root("Stranger CA")),
        says(http_answer(200, certs_only(UPSTREAM_CA.leaf("device", ["dns:device.example"]).certificate), PKCS7)),
    ],
    ids=["a CA", "another name", "another issuer", "another key"],
)
async def test_what_was_not_approved_does_not_pass_the_core(tmp_path: Path, upstream: ToldUpstream, talk: Talk) -> None:
    upstream.enrol = talk
    async with opened(tmp_path, upstream.port) as backend:
        approved = await approved_by(backend)
        issued = await backend.issue(approved)
        assert isinstance(issued, Issued)
        with pytest.raises(PostcheckFailed):
            check_issued(issued.certificate, approved.template, approved.issuer, profile=backend.may_set)


# -- away, slow, killed ------------------------------------------------------------------------------------------------
async def test_an_upstream_that_is_gone_has_surely_not_issued(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with told_upstream(tmp_path) as upstream:
        opening = opened(tmp_path, upstream.port)
        backend = await opening.__aenter__()
    caught = await failure(backend)
    assert type(caught) is Unavailable
    assert "cannot be reached" in caught.reason
    assert "simpleenroll: ConnectError" in logged(caplog)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await backend.ping()
    assert (await backend.chain()).certificates == UPSTREAM_CA.chain, "its last chain stays"
    await opening.__aexit__(None, None, None)


async def test_an_upstream_that_takes_the_request_and_hangs_may_issue(tmp_path: Path, upstream: ToldUpstream) -> None:
    done = threading.Event()

    def hang(_connection: ssl.SSLSocket, _request: bytes) -> None:
        done.wait(60)

    upstream.enrol = hang
    async with opened(tmp_path, upstream.port, timeout=2) as backend:
        assert type(await failure(backend)) is OutcomeUnknown
    done.set()
    assert len(upstream.enrolments) == 1


async def test_an_upstream_that_answers_byte_by_byte_does_not_hold_a_request_for_ever(
    tmp_path: Path, upstream: ToldUpstream
) -> None:
    done = threading.Event()

    def drip(connection: ssl.SSLSocket, _request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 Said\r\nContent-Length: 60000\r\n\r\n")
        while not done.wait(0.05):
            connection.sendall(b"A")

    upstream.enrol = drip
    async with opened(tmp_path, upstream.port, timeout=2) as backend:
        assert type(await failure(backend)) is OutcomeUnknown
    done.set()


async def test_a_listener_that_shakes_no_hands_was_not_asked(tmp_path: Path, upstream: ToldUpstream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with opened(tmp_path, upstream.port, timeout=2) as backend:
            backend._upstream.url = f"https://127.0.0.1:{silent.getsockname()[1]}/est"  # type: ignore[attr-defined]
            assert type(await failure(backend)) is Unavailable


async def test_a_cancelled_request_leaves_no_connection(tmp_path: Path, upstream: ToldUpstream) -> None:
    arrived, closed = threading.Event(), threading.Event()

    def wait_for_the_end(connection: ssl.SSLSocket, _request: bytes) -> None:
        arrived.set()
        if connection.recv(1) == b"":
            closed.set()

    upstream.enrol = wait_for_the_end
    async with opened(tmp_path, upstream.port) as backend:
        call = asyncio.create_task(backend.issue(await approved_by(backend)))
        assert await asyncio.to_thread(arrived.wait, 60)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(closed.wait, 60)


# -- TLS ---------------------------------------------------------------------------------------------------------------
async def test_a_certificate_that_the_upstream_does_not_want_is_surely_not_issued(
    tmp_path: Path, upstream: ToldUpstream
) -> None:
    """Its alert comes after the client's part of a TLS 1.3 handshake: too late to tell what became of a request."""
    credential = write_ra(tmp_path, pki.make_root("Nobody's CA").leaf())
    (tmp_path / "refusing").mkdir()
    with told_upstream(tmp_path / "refusing", client_ca=RA_CA) as refusing:
        async with opened(tmp_path, upstream.port, username=None, password_file=None, **credential) as backend:
            backend._upstream.url = f"https://127.0.0.1:{refusing.port}/est"  # type: ignore[attr-defined]
            assert type(await failure(backend)) is Unavailable
        wait_until(lambda: bool(refusing.handshake_errors))
        assert refusing.requests == []


async def test_a_certificate_that_the_upstream_wants_is_presented(tmp_path: Path) -> None:
    with told_upstream(tmp_path, client_ca=RA_CA) as demanding:
        demanding.enrol = issuing()
        credential = write_ra(tmp_path)
        async with opened(tmp_path, demanding.port, username=None, password_file=None, **credential) as backend:
            assert isinstance(await backend.issue(await approved_by(backend)), Issued)


async def test_an_upstream_that_is_another_one_is_not_asked(tmp_path: Path, upstream: ToldUpstream) -> None:
    (tmp_path / "other.pem").write_bytes(RA_CA.pem)
    with pytest.raises(ConfigurationError, match="EST server cannot be reached"):
        async with opened(tmp_path, upstream.port, trust_anchors="other.pem"):
            pass
    assert upstream.requests == []


async def test_a_certificate_of_ones_own_that_has_ended_is_not_presented(
    tmp_path: Path, upstream: ToldUpstream
) -> None:
    warnings: list[str] = []
    later = RA.certificate.not_valid_after_utc + timedelta(seconds=1)
    lent: dict[str, Any] = {"warn": warnings.append}
    async with opened(tmp_path, upstream.port, services=lent, **write_ra(tmp_path)) as backend:
        assert warnings == []
        approved = await approved_by(backend)
        backend._clock = lambda: later  # type: ignore[attr-defined]
        assert "has expired" in (await failure(backend, approved)).reason
    soon = RA_CA.leaf(days=20)
    async with opened(tmp_path, upstream.port, services=lent, **write_ra(tmp_path, soon)):
        assert "renew it, or the upstream EST server will not take it" in warnings[0]
