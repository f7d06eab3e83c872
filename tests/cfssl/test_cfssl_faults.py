"""CFSSL away, slow, hanging, killed, and something else in its place: what is known is said, and nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kipuka_core import (
    CaBackend,
    ConfigurationError,
    Issued,
    NotAllowed,
    NotIssued,
    OutcomeUnknown,
    RequestRefused,
    Unavailable,
)
from kipuka_core.testing.contracts.ca_backend import asked
from kipuka_core.testing.pki import make_root
from kipuka_core.testing.server import wait_until
from tests.cfssl.cfssl_kit import Opened, approved_for
from tests.cfssl.cfssl_server import KEY, Cfssl, make_cfssl, running_cfssl
from tests.cfssl.stand_in import Conversation, StandIn, error, stand_in, success


def with_certificate(cfssl: Cfssl, **more: Any) -> Mapping[str, Any]:
    """Settings with which kipuka starts although CFSSL is away."""
    return cfssl.settings_with_serials | {"cert": str(cfssl.directory / "ca.pem"), "timeout": 1} | more


# -- the real one ------------------------------------------------------------------------------------------------------
async def test_while_cfssl_is_away_nothing_is_issued_and_when_it_is_back_it_is(cfssl: Cfssl, tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    async with opened.open(cfssl.settings) as backend:
        approved = await approved_for(backend)
        cfssl.kill()
        with pytest.raises(Unavailable) as raised:
            await backend.issue(approved)
        assert type(raised.value) is Unavailable
        with pytest.raises(Unavailable, match="cannot be reached"):
            await backend.ping()
        cfssl.start()
        await backend.ping()
        assert isinstance(await backend.issue(approved), Issued)
    assert "cannot be reached" in opened.said


async def test_kipuka_starts_without_cfssl_where_it_has_its_certificate(tmp_path: Path) -> None:
    made = make_cfssl(tmp_path / "cfssl")
    with pytest.raises(ConfigurationError, match="with `cert` kipuka starts without it"):
        async with Opened(tmp_path).open(made.settings):
            pass
    opened = Opened(tmp_path)
    async with opened.open(with_certificate(made)) as backend:
        assert (await backend.chain()).certificates == made.authority.chain
        with running_cfssl(made):
            assert isinstance(await backend.issue(await approved_for(backend)), Issued)
    assert "cannot be reached" in opened.warnings[0]


async def test_what_a_hanging_cfssl_issues_later_is_found(cfssl: Cfssl, tmp_path: Path) -> None:
    """Nobody waits for the answer any more, and CFSSL answers all the same."""
    opened = Opened(tmp_path)
    async with opened.open(with_certificate(cfssl)) as backend:
        approved = await approved_for(backend)
        cfssl.suspend()
        with pytest.raises(OutcomeUnknown):
            await backend.issue(approved)
        with pytest.raises(Unavailable) as raised:  # not NotIssued: it may be at it yet
            await backend.poll(asked(approved))
        assert 0 < raised.value.retry_after_seconds <= 61
        cfssl.resume()
        await asyncio.to_thread(wait_until, lambda: len(cfssl.rows()) == 1)
        found = await backend.poll(asked(approved))
    assert isinstance(found, Issued)
    assert [found.certificate] == cfssl.issued()


async def test_asked_again_for_one_request_cfssl_issues_once(cfssl: Cfssl, tmp_path: Path) -> None:
    async with Opened(tmp_path).open(cfssl.settings_with_serials) as backend:
        approved = await approved_for(backend)
        outcomes = await asyncio.gather(*(backend.issue(approved) for _ in range(8)))
    certificates = {outcome.certificate for outcome in outcomes if isinstance(outcome, Issued)}
    assert certificates == set(cfssl.issued())
    assert len(certificates) == 1


async def test_what_was_never_asked_for_is_not_issued_once_it_could_not_be_under_way(
    cfssl: Cfssl, tmp_path: Path
) -> None:
    async with Opened(tmp_path).open(cfssl.settings_with_serials) as backend:
        question = asked(await approved_for(backend))
        with pytest.raises(Unavailable):
            await backend.poll(question)
        earlier = datetime.now(UTC) - timedelta(seconds=61)
        long_ago = type(question)(
            **{each: getattr(question, each) for each in question.__slots__} | {"asked_at": earlier}
        )
        with pytest.raises(NotIssued):
            await backend.poll(long_ago)


async def test_without_the_database_nothing_is_claimed(cfssl: Cfssl, tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    settings = cfssl.settings_with_serials | {"certdb": str(tmp_path / "nothing.db")}
    async with opened.open(settings) as backend:
        with pytest.raises(Unavailable, match="cannot be found out now"):
            await backend.poll(asked(await approved_for(backend)))
    assert "nothing.db" in opened.said
    assert not (tmp_path / "nothing.db").exists()


async def test_debians_cfssl_cannot_be_asked_for_a_serial_number(cfssl: Cfssl, tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    async with opened.open(cfssl.settings_with_serials | {"certdb": None}) as backend:
        with pytest.raises(Unavailable, match="cannot be found out now"):
            await backend.poll(asked(await approved_for(backend)))
    assert "no valid parameter sets" in opened.said


@pytest.mark.parametrize("serials", [False, True])
async def test_a_revocation_reaches_cfssls_database(cfssl: Cfssl, tmp_path: Path, serials: bool) -> None:
    settings = cfssl.settings_with_serials if serials else cfssl.settings | {"revoke": True}
    async with Opened(tmp_path).open(settings) as backend:
        issued = await backend.issue(await approved_for(backend))
        assert isinstance(issued, Issued)
        assert [status for _, status, _ in cfssl.rows()] == ["good"]
        await backend.revoke(issued.certificate, 4)
        assert cfssl.rows() == [(str(issued.certificate.serial_number), "revoked", 4)]
        cfssl.kill()
        with pytest.raises(Unavailable):
            await backend.revoke(issued.certificate, 4)


async def test_a_certificate_that_cfssl_does_not_have_cannot_be_revoked_there(cfssl: Cfssl, tmp_path: Path) -> None:
    """Refused, and not away: nothing would be told any more if this one were tried for ever."""
    async with Opened(tmp_path).open(cfssl.settings_with_serials) as backend:
        with pytest.raises(NotAllowed):
            await backend.revoke(make_root("Other").leaf("device").certificate, 0)


# -- TLS ---------------------------------------------------------------------------------------------------------------
async def test_over_mutual_tls_it_issues(tmp_path: Path) -> None:
    clients = make_root("Clients")
    client = clients.leaf("kipuka")
    (tmp_path / "client.pem").write_bytes(client.certificate_pem)
    (tmp_path / "client-key.pem").write_bytes(client.key_pem)
    (tmp_path / "client-key.pem").chmod(0o600)
    with running_cfssl(make_cfssl(tmp_path / "cfssl", tls=True, clients=clients)) as made:
        settings = made.settings | {"client_cert": "client.pem", "client_key": "client-key.pem"}
        async with Opened(tmp_path).open(settings) as backend:
            assert isinstance(await backend.issue(await approved_for(backend)), Issued)
        with pytest.raises(ConfigurationError, match="cannot be asked"):
            async with Opened(tmp_path).open(made.settings):
                pass
        issued_before = made.rows()
        async with Opened(tmp_path).open(with_certificate(made)) as backend:
            # With TLS 1.3 the refusal comes when the request was sent, or the connection just ends: then it is unknown.
            with pytest.raises(Unavailable):
                await backend.issue(await approved_for(backend))
        assert made.rows() == issued_before


async def test_a_cfssl_with_a_certificate_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(make_root("Other").pem)
    with running_cfssl(make_cfssl(tmp_path / "cfssl", tls=True)) as made:
        for anchors in ("other.pem", ()):
            opened = Opened(tmp_path)
            settings = with_certificate(made, trust_anchors=anchors)
            async with opened.open(settings) as backend:
                assert "certificate verify failed" in opened.warnings[0].lower()
                with pytest.raises(Unavailable) as raised:
                    await backend.issue(await approved_for(backend))
                assert type(raised.value) is Unavailable
        assert made.rows() == []


# -- something else in its place ---------------------------------------------------------------------------------------
@pytest.fixture
async def odd() -> AsyncIterator[StandIn]:
    async with stand_in() as made:
        yield made


async def says_nothing(conversation: Conversation) -> None:
    await conversation.reader.read()  # until the other side gives up


async def hangs_up(conversation: Conversation) -> None:
    conversation.writer.transport.abort()


async def stops_in_the_middle(conversation: Conversation) -> None:
    await conversation.send_bytes(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"success": tr')


async def says_nonsense(conversation: Conversation) -> None:
    await conversation.send_bytes(b"\x00\x01 no HTTP at all\r\n\r\n")


async def never_ends(conversation: Conversation) -> None:
    await conversation.send_bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not conversation.writer.is_closing():
        await conversation.send_bytes(b"400\r\n" + b" " * 1024 + b"\r\n")


async def drips(conversation: Conversation) -> None:
    """A byte now and then: no single wait is long, and the answer takes for ever."""
    await conversation.send_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not conversation.writer.is_closing():
        await conversation.send_bytes(b" ")
        await asyncio.sleep(0.1)


def answers(status: str, body: str) -> Any:
    async def answer(conversation: Conversation) -> None:
        await conversation.send(status, body)

    return answer


UNKNOWN = {
    "says nothing": says_nothing,
    "hangs up": hangs_up,
    "stops in the middle": stops_in_the_middle,
    "says nonsense": says_nonsense,
    "never ends": never_ends,
    "drips": drips,
    "a web page": answers("200 OK", "<html>hello</html>"),
    "no result": answers("200 OK", "{}"),
    "success without a certificate": answers("200 OK", success(certificate="")),
    "success with another kind of result": answers("200 OK", success(certificate=["x"])),
    "an error of the server": answers("500 Internal Server Error", error(0, "oh")),
    "a proxy without it": answers("502 Bad Gateway", "<html>bad gateway</html>"),
    "a proxy that did not wait": answers("504 Gateway Timeout", ""),
    "an error of its database": answers("400 Bad Request", error(11_100, "no insert")),
    "an error that nobody knows": answers("400 Bad Request", error(99_000, "?")),
}
NOT_ISSUED = {
    "no such page": answers("404 Not Found", "404 page not found\n"),
    "elsewhere": answers("302 Found", ""),
    "a proxy that wants a password": answers("401 Unauthorized", "<html>"),
    "a client that is not allowed": answers("403 Forbidden", "Invalid CN"),
}


async def outcome(backend: CaBackend) -> RequestRefused:
    with pytest.raises(RequestRefused) as raised:
        await backend.issue(await approved_for(backend))
    return raised.value


@pytest.mark.parametrize("behaviour", [*UNKNOWN, *NOT_ISSUED])
async def test_what_is_not_a_clear_refusal_may_have_been_issued(odd: StandIn, tmp_path: Path, behaviour: str) -> None:
    made = make_cfssl(tmp_path / "cfssl")
    odd.answer = (UNKNOWN | NOT_ISSUED)[behaviour]
    opened = Opened(tmp_path)
    settings = with_certificate(made, url=odd.url, client_serials=False, certdb=None)
    async with opened.open(settings) as backend:
        error = await outcome(backend)
        with pytest.raises(Unavailable):
            await backend.ping()
    assert type(error) is (OutcomeUnknown if behaviour in UNKNOWN else Unavailable)
    assert [each.endpoint for each in odd.asked].count("authsign") == 1, "nothing is sent twice"
    assert KEY not in opened.said


async def test_certinfo_by_serial_number_is_believed_as_newer_versions_answer_it(odd: StandIn, tmp_path: Path) -> None:
    """Debian's CFSSL is too old for it; the answers are those of CFSSL's documentation and source."""
    made = make_cfssl(tmp_path / "cfssl")
    certificate = made.authority.leaf("device")
    pem = certificate.certificate_pem.decode()
    settings = with_certificate(made, url=odd.url, certdb=None)
    odd.answer = answers("500 Internal Server Error", error(0, "x"))
    async with Opened(tmp_path).open(settings) as backend:
        question = asked(await approved_for(backend))
        for answer in (answers("500 Internal Server Error", error(0, "more than one certificate found")), hangs_up):
            odd.answer = answer
            with pytest.raises(Unavailable, match="cannot be found out"):
                await backend.poll(question)
        odd.answer = answers("200 OK", success(serial_number="1", pem=pem))
        assert await backend.poll(question) == Issued(certificate.certificate)
        odd.answer = answers("500 Internal Server Error", error(0, "no certificate found"))
        with pytest.raises(Unavailable, match="at it yet"):
            await backend.poll(question)
    sent = odd.asked[-1]
    assert sent.endpoint == "certinfo"
    assert sent.question["serial"].isdigit()
    assert len(bytes.fromhex(sent.question["authority_key_id"])) == 20
