"""Responders over real HTTP: which is asked, what is remembered, what happens when one is away or lies; then CRLs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import ocsp

from kipuka_core.edges.revocation import checker as checker_module
from tests.edges.revocation.checker_kit import (
    BAD,
    CA,
    GOOD,
    IS_GOOD,
    IS_REVOKED,
    IS_UNKNOWN,
    ROOT,
    ask,
    checker,
    closed_port_url,
    responding,
)
from tests.edges.revocation.revocation_kit import (
    Reply,
    Site,
    crl_der,
    openssl_responder,
    points,
    responder_leaf,
    responders,
)


async def test_openssl_as_responder_says_good_revoked_and_unknown(tmp_path: Path) -> None:
    known = {GOOD.certificate.serial_number: "V", BAD.certificate.serial_number: "R"}
    with openssl_responder(tmp_path / "ocsp", CA, known, signer=responder_leaf(CA)) as responder:
        async with checker("ocsp", responder=responder.url, cache_ttl_seconds=60) as opened:
            now = datetime.now(UTC)
            assert (await ask(opened, GOOD, now=now)).status is IS_GOOD
            assert (await ask(opened, BAD, now=now)).status is IS_REVOKED
            answer = await ask(opened, CA.leaf("stranger"), now=now)
            assert answer.status is IS_UNKNOWN
            assert "does not know CN=stranger" in answer.detail
            await asyncio.to_thread(responder.say, {GOOD.certificate.serial_number: "R"})
            assert (await ask(opened, GOOD, now=now)).status is IS_GOOD  # remembered
            assert (await ask(opened, GOOD, now=now + timedelta(seconds=61))).status is IS_REVOKED


async def test_an_answer_that_is_signed_with_a_weak_hash_does_not_count(tmp_path: Path) -> None:
    known = {GOOD.certificate.serial_number: "V"}
    with openssl_responder(tmp_path / "ocsp", CA, known, more=("-rmd", "sha1")) as responder:
        async with checker("ocsp", responder=responder.url) as opened:
            answer = await ask(opened, GOOD)
    assert answer.status is IS_UNKNOWN
    assert "signature" in answer.detail


async def test_the_responder_that_the_certificate_names_and_the_configured_one_instead(site: Site) -> None:
    leaf = CA.leaf(more_extensions=[responders(site.url("/named"))])
    site.pages |= {"/named": responding(leaf), "/fixed": responding(leaf, status=ocsp.OCSPCertStatus.REVOKED)}
    async with checker("ocsp") as opened:
        assert (await ask(opened, leaf)).status is IS_GOOD
        assert (await ask(opened, GOOD)).status is IS_UNKNOWN
    async with checker("ocsp", responder=site.url("/fixed")) as opened:
        assert (await ask(opened, leaf)).status is IS_REVOKED
    assert site.asked == {"/named": 1, "/fixed": 1}


async def test_an_answer_is_remembered_and_asked_for_once_however_many_wait(site: Site) -> None:
    now = datetime.now(UTC)
    site.pages["/"] = responding(GOOD, next_update=now + timedelta(minutes=2))
    async with checker("ocsp", responder=site.url("/"), cache_ttl_seconds=300) as opened:
        answers = await asyncio.gather(*(ask(opened, GOOD, now=now) for _ in range(50)))
        assert {each.status for each in answers} == {IS_GOOD}
        await ask(opened, GOOD, now=now + timedelta(seconds=119))
        assert site.asked == {"/": 1}
        await ask(opened, GOOD, now=now + timedelta(seconds=121))
        assert site.asked == {"/": 2}


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (b"garbage", "cannot be read"),
        (Reply(status=500), "answers HTTP 500"),
        (Reply(status=302, headers={"Location": "/elsewhere"}), "answers HTTP 302"),
        (responding(GOOD, signer=responder_leaf(ROOT)), "not issued by the issuer"),
        (responding(GOOD, nonce=b"1" * 32), "another nonce"),
        (responding(GOOD, about=BAD.certificate), "another certificate"),
    ],
)
async def test_an_answer_that_does_not_count_leaves_the_status_unknown(site: Site, page: Any, words: str) -> None:
    site.pages["/"] = page
    async with checker("ocsp", responder=site.url("/")) as opened:
        answer = await ask(opened, GOOD)
    assert answer.status is IS_UNKNOWN
    assert words in answer.detail


async def test_a_responder_that_is_away_is_left_alone_for_a_while(site: Site) -> None:
    site.pages["/"] = site.slow
    async with checker("ocsp", responder=site.url("/"), timeout_seconds=0.3) as opened:
        now = datetime.now(UTC)
        for leaf in (GOOD, BAD, GOOD):
            assert "did not answer" in (await ask(opened, leaf, now=now)).detail
        assert site.asked == {"/": 1}
        site.pages["/"] = responding(GOOD)
        assert (await ask(opened, GOOD, now=now + timedelta(minutes=10))).status is IS_GOOD


@pytest.mark.parametrize("first", ["away", "lies", "does not know"])
async def test_the_next_responder_is_asked(site: Site, first: str) -> None:
    url = closed_port_url() if first == "away" else site.url("/first")
    leaf = CA.leaf(more_extensions=[responders(url, site.url("/"))])
    wrong = {"about": BAD.certificate} if first == "lies" else {"status": ocsp.OCSPCertStatus.UNKNOWN}
    site.pages |= {"/first": responding(leaf, **wrong), "/": responding(leaf)}
    async with checker("ocsp") as opened:
        assert (await ask(opened, leaf)).status is IS_GOOD


# -- OCSP, then CRLs ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("page", [Reply(status=500), b"garbage", None, responding(BAD, signer=responder_leaf(ROOT))])
async def test_crls_decide_where_no_responder_gives_an_answer(tmp_path: Path, site: Site, page: Any) -> None:
    (tmp_path / "ca.crl").write_bytes(crl_der(CA, BAD))
    if page is not None:
        site.pages["/"] = page
    responder = site.url("/") if page is not None else None
    async with checker("ocsp-then-crl", crls=(tmp_path / "ca.crl",), responder=responder) as opened:
        assert (await ask(opened, GOOD)).status is IS_GOOD
        assert (await ask(opened, BAD)).status is IS_REVOKED


async def test_crls_decide_where_the_responder_does_not_know_the_certificate(tmp_path: Path, site: Site) -> None:
    (tmp_path / "ca.crl").write_bytes(crl_der(CA, BAD))
    site.pages["/"] = responding(BAD, status=ocsp.OCSPCertStatus.UNKNOWN)
    async with checker("ocsp-then-crl", crls=(tmp_path / "ca.crl",), responder=site.url("/")) as opened:
        assert (await ask(opened, BAD)).status is IS_REVOKED


async def test_a_responder_that_answers_decides_alone(tmp_path: Path, site: Site) -> None:
    (tmp_path / "ca.crl").write_bytes(crl_der(CA, GOOD))
    site.pages["/"] = responding(GOOD)
    async with checker("ocsp-then-crl", crls=(tmp_path / "ca.crl",), responder=site.url("/")) as opened:
        assert (await ask(opened, GOOD)).status is IS_GOOD


async def test_a_chain_whose_sources_all_hang_is_answered_in_bounded_time(site: Site) -> None:
    site.pages |= {f"/{number}": site.slow for number in range(4)}
    leaf = CA.leaf(more_extensions=[points(*(site.url(f"/{number}") for number in range(4)))])
    async with checker("crl", timeout_seconds=0.2) as opened:
        answer = await ask(opened, leaf)
    assert answer.status is IS_UNKNOWN


async def test_an_internal_error_is_an_unknown_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(checker_module, "ask_about", broken)
    async with checker("crl") as opened:
        assert (await ask(opened, GOOD)).status is IS_UNKNOWN
