"""A CA that is slow, overloaded, broken or gone in the middle: nothing is ordered or finalised twice by accident."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kipuka_core import CsrRefused, KipukaError, NotAllowed, Unavailable
from kipuka_core.testing.contracts.ca_backend import asked
from tests.acme.acme_kit import ALWAYS_VALID, approve, followed, issued, opened, ordered, polled
from tests.acme.between import Ask, Between, Lost, Reply, Request
from tests.acme.pebble import running_pebble

STEPS = ("/nonce-plz", "/order-plz", "/my-order/", "/authZ/", "/chalZ/", "/finalize-order/", "/certZ/")
"""Where pebble's road goes along, once there is an account."""
_ALL_THAT_IS_NEEDED = (
    b'{"status": "pending", "finalize": "https://127.0.0.1/x", "identifier": {"type": "dns", "value": "x"}, "x": "%s"}'
)
GARBAGE: dict[str, Reply] = {
    "HTML": Reply(200, b"<html>Welcome</html>", {"Content-Type": "text/html", "Location": "https://127.0.0.1/x"}),
    "a list": Reply(201, b"[]", {"Location": "https://127.0.0.1/x"}),
    "an empty object": Reply(201, b"{}", {"Location": "https://127.0.0.1/x"}),
    "nothing": Reply(200),
    "deep": Reply(201, b"[" * 60_000, {"Location": "https://127.0.0.1/x"}),
    "too long": Reply(201, _ALL_THAT_IS_NEEDED % (b"x" * 70_000), {"Location": "https://127.0.0.1/x"}),
    "compressed": Reply(200, gzip.compress(b"{}"), {"Content-Encoding": "gzip"}),
    "a redirect": Reply(302, b"", {"Location": "https://127.0.0.1/elsewhere"}),
    "a page of an error": Reply(502, b"<html>Bad gateway</html>", {"Content-Type": "text/html"}),
    "a clear-text URL": Reply(201, b'{"status": "ready", "finalize": "http://127.0.0.1/x"}'),
}


_ANSWERS_THAT_SAY_LITTLE = ("/nonce-plz", "/chalZ/")
"""A header, and what the authorization says too: their bodies are not read."""


def at(step: str, reply: Callable[[Ask], Reply]) -> Callable[[Request, Ask], Reply]:
    return lambda request, ask: reply(ask) if step in request.path and request.method != "GET" else ask()


def lose_the_answer(ask: Ask) -> Reply:
    ask()
    raise Lost


@pytest.mark.parametrize("step", STEPS)
async def test_garbage_at_every_step_is_no_answer(tmp_path: Path, misbehaving: Between, step: str) -> None:
    async with opened(tmp_path, misbehaving.table(http_webroot=".", timeout="2s")) as backend:
        for what, garbage in GARBAGE.items():
            if step in _ANSWERS_THAT_SAY_LITTLE and garbage.status < 300:
                continue
            approved = await approve(backend)
            misbehaving.rule = at(step, lambda _ask, garbage=garbage: garbage)  # type: ignore[misc]
            backend._session._nonces.clear()  # type: ignore[attr-defined]
            with pytest.raises(Unavailable) as raised:
                await issued(backend, approved)
            assert "certification authority" in raised.value.reason, what
            misbehaving.rule = None
        await issued(backend, await approve(backend))


@pytest.mark.parametrize("step", STEPS)
async def test_an_answer_that_is_lost_anywhere_costs_no_second_certificate(
    tmp_path: Path, misbehaving: Between, step: str
) -> None:
    async with opened(tmp_path, misbehaving.table(http_webroot=".")) as backend:
        approved = await approve(backend)
        if step == "/order-plz":
            misbehaving.rule = at(step, lose_the_answer)
            with pytest.raises(Unavailable, match="cannot be reached"):
                await backend.issue(approved)
            misbehaving.rule = None
        reference = await ordered(backend, approved)
        backend._session._nonces.clear()  # type: ignore[attr-defined]
        misbehaving.rule = at(step, lose_the_answer)
        if step != "/order-plz":
            with pytest.raises(Unavailable, match="cannot be reached"):
                await followed(backend, approved, reference)
        misbehaving.rule = None
        certificate = await followed(backend, approved, reference)
        assert await followed(backend, approved, reference) == certificate
    assert len(misbehaving.seen("/finalize-order/")) == 1


async def test_a_ca_that_hangs_is_given_up_in_time(tmp_path: Path, misbehaving: Between) -> None:
    def hang(_ask: Ask) -> Reply:
        misbehaving.ended.wait()
        raise Lost

    async with opened(tmp_path, misbehaving.table(http_webroot=".", timeout="1s")) as backend:
        approved = await approve(backend)
        for step in ("/order-plz", "/my-order/"):
            reference = await ordered(backend, approved) if step == "/my-order/" else ""
            misbehaving.rule = at(step, hang)
            with pytest.raises(Unavailable, match="does not answer in time"):
                await (backend.poll(asked(approved, reference)) if reference else backend.issue(approved))
            misbehaving.rule = None
        await issued(backend, approved)


async def test_many_slow_answers_end_before_the_core_gives_up(tmp_path: Path, misbehaving: Between) -> None:
    """Each is in time, all together are not."""
    slow = False

    def rule(_request: Request, ask: Ask) -> Reply:
        if slow:
            misbehaving.ended.wait(0.4)
        return ask()

    misbehaving.rule = rule
    table = misbehaving.table(http_webroot=".")
    async with opened(tmp_path, table) as backend:
        approved = await approve(backend, "dns:a.example", "dns:b.example", "dns:c.example", "dns:d.example")
        reference = await ordered(backend, approved)
        async with opened(tmp_path, table, call_timeout_seconds=1.0) as impatient:
            slow = True
            with pytest.raises(Unavailable, match=r"is slow|does not answer in time"):
                await impatient.poll(asked(approved, reference))
            slow = False
        await followed(backend, approved, reference)


async def test_bad_nonces_are_replaced(tmp_path: Path) -> None:
    environment = ALWAYS_VALID | {"PEBBLE_WFE_NONCEREJECT": "50"}
    with running_pebble(tmp_path / "pebble", environment=environment) as pebble:
        async with opened(tmp_path, pebble.table(http_webroot=".")) as backend:
            for _ in range(3):
                await issued(backend, await approve(backend))
        assert "badNonce" in pebble.log or "nonce" in pebble.log


async def test_a_ca_that_takes_no_nonce_at_all_is_given_up(tmp_path: Path, misbehaving: Between) -> None:
    async with opened(tmp_path, misbehaving.table()) as backend:
        misbehaving.rule = at("/order-plz", lambda _ask: Reply.problem("badNonce", Replay_Nonce="bad"))
        with pytest.raises(Unavailable):
            await backend.issue(await approve(backend))
    assert len(misbehaving.seen("/order-plz")) == 10


async def test_a_rate_limit_is_kept(tmp_path: Path, misbehaving: Between) -> None:
    now = datetime.now(UTC)
    async with opened(tmp_path, misbehaving.table(http_webroot="."), clock=lambda: now) as backend:
        limited, another = await approve(backend, "dns:busy.example"), await approve(backend, "dns:other.example")
        problem = Reply.problem("rateLimited", "too many", 429, Retry_After="7200")
        misbehaving.rule = at("/order-plz", lambda _ask: problem)
        for approved, expected in ((limited, 7200), (limited, 7201), (another, 301)):
            with pytest.raises(Unavailable, match="takes no more orders for now") as raised:
                await backend.issue(approved)
            assert raised.value.retry_after_seconds == expected
        assert len(misbehaving.seen("/order-plz")) == 1
        misbehaving.rule = None
        now += timedelta(seconds=301)
        await issued(backend, another)
        with pytest.raises(Unavailable) as raised:
            await backend.issue(limited)
        assert raised.value.retry_after_seconds == 6900
        now += timedelta(seconds=7000)
        await issued(backend, limited)


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [("Wed, 21 Oct 2015 07:28:00 GMT", 1), ("0", 1), ("99999999999", 604800), ("soon", 60), ("-1", 60)],
)
async def test_retry_after_as_others_write_it(
    tmp_path: Path, misbehaving: Between, retry_after: str, expected: int
) -> None:
    async with opened(tmp_path, misbehaving.table()) as backend:
        misbehaving.rule = at("/order-plz", lambda _ask: Reply(429, b"slow down", {"Retry-After": retry_after}))
        with pytest.raises(Unavailable) as raised:
            await backend.issue(await approve(backend))
    assert raised.value.retry_after_seconds == expected


async def test_an_order_at_work_is_asked_for_again_when_the_ca_says(tmp_path: Path, misbehaving: Between) -> None:
    def processing(ask: Ask) -> Reply:
        reply = ask()
        body = reply.body.replace(b'"valid"', b'"processing"').replace(b'"ready"', b'"processing"')
        return Reply(reply.status, body, {**reply.headers, "Retry-After": "90"})

    async with opened(tmp_path, misbehaving.table(http_webroot=".")) as backend:
        approved = await approve(backend)
        reference = await ordered(backend, approved)
        presented, _ = await polled(backend, approved, reference)
        assert presented != reference
        assert await polled(backend, approved, presented) == (reference, 0)  # proven, and cleaned up
        misbehaving.rule = at("/finalize-order/", processing)
        assert await polled(backend, approved, reference) == (reference, 90)
        misbehaving.rule = at("/my-order/", processing)
        assert await polled(backend, approved, reference) == (reference, 90)
        misbehaving.rule = None
        await followed(backend, approved, reference)


@pytest.mark.parametrize(
    ("step", "reply", "error", "text"),
    [
        (
            "/order-plz",
            Reply.problem("rejectedIdentifier", "not\x07 that name\n"),
            NotAllowed,
            "refuses: not? that name",
        ),
        ("/order-plz", Reply.problem("malformed", "x" * 1000), NotAllowed, "…"),
        ("/order-plz", Reply.problem("serverInternal", "oops", 500), Unavailable, "cannot answer now"),
        ("/finalize-order/", Reply.problem("badCSR", "a weak key"), CsrRefused, "refuses: a weak key"),
        ("/finalize-order/", Reply.problem("badPublicKey", "another"), CsrRefused, "refuses: another"),
        ("/finalize-order/", Reply.problem("serverInternal", "oops", 500), Unavailable, "cannot answer now"),
        ("/finalize-order/", Reply(500, b"oops"), Unavailable, "cannot answer now"),
        ("/my-order/", Reply.problem("unauthorized", "not yours", 403), Unavailable, "does not show the order"),
        ("/certZ/", Reply.problem("serverInternal", "oops", 500), Unavailable, "cannot answer now"),
    ],
)
async def test_a_refusal_in_the_cas_words(
    tmp_path: Path, misbehaving: Between, step: str, reply: Reply, error: type[KipukaError], text: str
) -> None:
    async with opened(tmp_path, misbehaving.table(http_webroot=".")) as backend:
        misbehaving.rule = at(step, lambda _ask: reply)
        with pytest.raises(error) as raised:
            await issued(backend, await approve(backend))
    assert text in str(raised.value)
    assert len(str(raised.value)) < 400
    assert str(raised.value).isprintable()
