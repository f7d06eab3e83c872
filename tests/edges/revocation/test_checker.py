"""Sources over real HTTP: which is asked, what is remembered, and what happens when one is away or lies."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509 import ocsp

from kipuka_core.edges.blocking import BlockingWork
from kipuka_core.edges.revocation import RevocationChecker, RevocationSettings, crl_source, fetch, open_revocation
from kipuka_core.edges.revocation import checker as checker_module
from kipuka_core.edges.revocation.crl import Crl, parse_crls
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.revocation import RevocationStatus
from kipuka_core.testing.pki import Leaf, make_root
from kipuka_core.testing.server import wait_until
from tests.edges.revocation.revocation_kit import (
    DAY,
    Answering,
    Reply,
    Responding,
    Site,
    chain_of,
    crl_der,
    crl_pem,
    http_site,
    openssl_responder,
    points,
    responder_leaf,
    responders,
)

ROOT = make_root("Root CA")
CA = ROOT.subordinate("Device CA")
GOOD, BAD = CA.leaf("good"), CA.leaf("bad")
IS_GOOD, IS_REVOKED, IS_UNKNOWN = RevocationStatus.GOOD, RevocationStatus.REVOKED, RevocationStatus.UNKNOWN


@pytest.fixture
def site() -> Iterator[Site]:
    with http_site() as running:
        yield running


@asynccontextmanager
async def checker(check: Any, **more: Any) -> AsyncIterator[RevocationChecker]:
    settings = RevocationSettings(check=check, **{"timeout_seconds": 30.0, **more})
    async with open_revocation(settings, BlockingWork().run) as opened:
        yield opened


async def ask(opened: RevocationChecker, leaf: Leaf, *, now: datetime | None = None, length: int = 2) -> Any:
    """The answer about the leaf under its CA as anchor; ``length`` 3: also about the CA."""
    return await opened.status_of(chain_of(leaf)[:length], now or datetime.now(UTC))


def responding(leaf: Leaf, **more: Any) -> Answering:
    made = Responding(authority=CA, revoked=frozenset({BAD.certificate.serial_number}), **more)
    return lambda body: made.answer(leaf.certificate, body)


def closed_port_url() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/"


# -- CRLs --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [crl_der, crl_pem])
async def test_a_configured_file(tmp_path: Path, make: Any) -> None:
    file = tmp_path / "ca.crl"
    file.write_bytes(make(CA, BAD))
    async with checker("crl", crls=(file,)) as opened:
        assert (await ask(opened, GOOD)).status is IS_GOOD
        answer = await ask(opened, BAD)
        assert answer.status is IS_REVOKED
        assert "CN=bad" in answer.detail
        assert str(file) in answer.detail


async def test_a_configured_url_and_a_distribution_point_are_fetched_once(site: Site) -> None:
    site.pages["/ca.crl"] = crl_der(CA, BAD)
    async with checker("crl", crls=(site.url("/ca.crl"),)) as opened:
        answers = await asyncio.gather(*(ask(opened, leaf) for leaf in (GOOD, BAD) for _ in range(20)))
        assert {each.status for each in answers[:20]} == {IS_GOOD}
        assert {each.status for each in answers[20:]} == {IS_REVOKED}
    assert site.asked == {"/ca.crl": 1}
    names_it = CA.leaf(more_extensions=[points("ldap://nowhere.example/x", site.url("/ca.crl"))])
    async with checker("crl") as opened:
        for _ in range(3):
            assert (await ask(opened, names_it)).status is IS_GOOD
    assert site.asked == {"/ca.crl": 2}


async def test_every_certificate_below_the_anchor_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "ca.crl").write_bytes(crl_der(CA))
    (tmp_path / "root.crl").write_bytes(crl_der(ROOT, CA.certificate.serial_number))
    async with checker("crl", crls=(tmp_path / "ca.crl",)) as opened:
        assert (await ask(opened, GOOD, length=2)).status is IS_GOOD
        assert (await ask(opened, GOOD, length=3)).status is IS_UNKNOWN
        assert (await ask(opened, GOOD, length=1)).status is IS_GOOD
    async with checker("crl", crls=(tmp_path / "ca.crl", tmp_path / "root.crl")) as opened:
        answer = await ask(opened, GOOD, length=3)
        assert answer.status is IS_REVOKED
        assert "CN=Device CA" in answer.detail


async def test_without_any_source_the_status_is_unknown_and_the_detail_says_why() -> None:
    async with checker("ocsp-then-crl") as opened:
        answer = await ask(opened, GOOD)
    assert answer.status is IS_UNKNOWN
    assert "no OCSP responder is configured" in answer.detail
    assert "no CRL is configured" in answer.detail


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (Reply(status=404), "answers HTTP 404"),
        (Reply(status=503), "answers HTTP 503"),
        (b"<html>login</html>", "holds no CRL"),
        (crl_der(CA)[:-20], "holds no CRL"),
        (crl_der(ROOT), "has no CRL of its issuer"),
        (crl_der(CA, key=ROOT.key), "not signed by the key"),
        (crl_der(CA, this_update=datetime.now(UTC) - 2 * DAY), "has ended"),
        (crl_der(CA, extensions=[(x509.DeltaCRLIndicator(1), True)]), "delta CRL"),
        (Reply(crl_der(CA), headers={"Content-Encoding": "gzip"}), "compressed"),
        (Reply(status=302, headers={"Location": "ftp://127.0.0.1/ca.crl"}), "neither http nor https"),
        (Reply(status=302, headers={"Location": "file:///etc/passwd"}), "neither http nor https"),
        (Reply(status=302, headers={"Location": "/ca.crl"}), "redirects more than 3 times"),
    ],
)
async def test_a_distribution_point_that_gives_nothing_usable(site: Site, page: Any, words: str) -> None:
    site.pages["/ca.crl"] = page
    leaf = CA.leaf(more_extensions=[points(site.url("/ca.crl"))])
    async with checker("crl") as opened:
        answer = await ask(opened, leaf)
    assert answer.status is IS_UNKNOWN
    assert words in answer.detail


async def test_a_redirect_is_followed_and_no_cookie_is_kept(site: Site) -> None:
    moved = {"Location": site.url("/new.crl"), "Set-Cookie": "who=kipuka"}
    site.pages |= {"/ca.crl": Reply(status=302, headers=moved), "/new.crl": crl_der(CA, BAD)}
    async with checker("crl", crls=(site.url("/ca.crl"),)) as opened:
        assert (await ask(opened, BAD)).status is IS_REVOKED
    assert [headers for headers in site.headers if "cookie" in headers] == []


async def test_a_password_in_a_url_is_used_and_never_shown(site: Site) -> None:
    url = site.url("/ca.crl").replace("http://", "http://user:tellnobody@")
    async with checker("ocsp-then-crl", crls=(url,), responder=url) as opened:
        answer = await ask(opened, GOOD)
    assert "answers HTTP 404" in answer.detail
    assert "tellnobody" not in answer.detail
    assert all(headers["authorization"].startswith("Basic ") for headers in site.headers)


async def test_the_second_distribution_point_serves_when_the_first_is_away(site: Site) -> None:
    site.pages["/ca.crl"] = crl_der(CA)
    leaf = CA.leaf(more_extensions=[points(closed_port_url(), site.url("/ca.crl"))])
    async with checker("crl") as opened:
        assert (await ask(opened, leaf)).status is IS_GOOD


async def test_a_slow_server_is_given_up_and_not_asked_by_every_request(site: Site) -> None:
    site.pages["/ca.crl"] = site.slow
    async with checker("crl", crls=(site.url("/ca.crl"),), timeout_seconds=0.3) as opened:
        now = datetime.now(UTC)
        for leaf in (GOOD, GOOD, BAD):
            answer = await ask(opened, leaf, now=now)
            assert answer.status is IS_UNKNOWN
            assert "did not answer within 0.3 s" in answer.detail
        assert site.asked == {"/ca.crl": 1}
        site.pages["/ca.crl"] = crl_der(CA)
        assert (await ask(opened, GOOD, now=now + timedelta(seconds=4))).status is IS_UNKNOWN
        assert (await ask(opened, GOOD, now=now + timedelta(seconds=6))).status is IS_GOOD


async def test_an_endless_body_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_CRL_BYTES", 1000)
    site.pages["/ca.crl"] = crl_der(CA, *range(1, 200))
    async with checker("crl", crls=(site.url("/ca.crl"),)) as opened:
        assert "more than 1000 bytes" in (await ask(opened, GOOD)).detail


async def test_a_fetched_crl_is_fetched_again_after_the_cache_time_or_its_own_end(site: Site) -> None:
    now = datetime.now(UTC)
    site.pages["/ca.crl"] = crl_der(CA, this_update=now, next_update=now + timedelta(minutes=10))
    async with checker("crl", crls=(site.url("/ca.crl"),), cache_ttl_seconds=300) as opened:
        assert (await ask(opened, BAD, now=now)).status is IS_GOOD
        site.pages["/ca.crl"] = crl_der(CA, BAD, this_update=now, next_update=now + timedelta(minutes=6))
        assert (await ask(opened, BAD, now=now + timedelta(seconds=299))).status is IS_GOOD
        assert (await ask(opened, BAD, now=now + timedelta(seconds=301))).status is IS_REVOKED
        assert (await ask(opened, BAD, now=now + timedelta(seconds=361))).status is IS_UNKNOWN
        assert site.asked == {"/ca.crl": 3}


async def test_a_file_is_read_again_after_the_cache_time(tmp_path: Path) -> None:
    now, file = datetime.now(UTC), tmp_path / "ca.crl"
    file.write_bytes(crl_der(CA))
    async with checker("crl", crls=(file,), cache_ttl_seconds=60) as opened:
        file.write_bytes(crl_der(CA, BAD))
        assert (await ask(opened, BAD, now=now + timedelta(seconds=50))).status is IS_GOOD
        assert (await ask(opened, BAD, now=now + timedelta(seconds=70))).status is IS_REVOKED
        file.write_bytes(b"")
        assert (await ask(opened, BAD, now=now + timedelta(seconds=140))).status is IS_UNKNOWN


@pytest.mark.parametrize("content", [None, b"", b"no CRL", crl_der(CA, extensions=[(x509.DeltaCRLIndicator(1), True)])])
async def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.crl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        async with checker("crl", crls=(file,)):
            pass
    assert str(refused.value).startswith(f"revocation.crls: {file} ")
    assert "\n" not in str(refused.value)


async def test_a_reload_takes_new_files_forgets_what_was_fetched_and_with_an_error_changes_nothing(
    tmp_path: Path, site: Site
) -> None:
    file = tmp_path / "ca.crl"
    file.write_bytes(crl_der(CA))
    site.pages["/root.crl"] = crl_der(ROOT)
    async with checker("crl", crls=(file, site.url("/root.crl"))) as opened:
        assert (await ask(opened, BAD, length=3)).status is IS_GOOD
        file.write_bytes(crl_der(CA, BAD))
        site.pages["/root.crl"] = crl_der(ROOT, CA.certificate.serial_number)
        prepared = await opened.prepare_reload()
        assert (await ask(opened, BAD, length=3)).status is IS_GOOD
        opened.commit_reload(prepared)
        assert (await ask(opened, BAD)).status is IS_REVOKED
        assert (await ask(opened, GOOD)).status is IS_GOOD
        assert (await ask(opened, GOOD, length=3)).status is IS_REVOKED
        file.write_bytes(b"broken")
        with pytest.raises(ConfigurationError, match="holds no CRL"):
            await opened.prepare_reload()
        assert (await ask(opened, BAD)).status is IS_REVOKED


async def test_what_is_under_way_during_a_reload_is_not_remembered(site: Site) -> None:
    old = crl_der(CA)
    site.pages["/ca.crl"] = lambda _: old if site.release.wait() else b""
    async with checker("crl", crls=(site.url("/ca.crl"),)) as opened:
        before = asyncio.create_task(ask(opened, BAD))
        await asyncio.to_thread(wait_until, lambda: bool(site.asked))
        site.pages["/ca.crl"] = crl_der(CA, BAD)
        opened.commit_reload(await opened.prepare_reload())
        assert (await ask(opened, BAD)).status is IS_REVOKED
        site.release.set()
        assert (await before).status is IS_GOOD
        assert (await ask(opened, BAD)).status is IS_REVOKED


async def test_a_long_crl_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ca.crl"
    read: list[int] = []
    file.write_bytes(crl_der(CA, *range(1, 100_001), BAD))

    def counted(data: bytes) -> tuple[Crl, ...]:
        read.append(len(data))
        return parse_crls(data)

    monkeypatch.setattr(crl_source, "parse_crls", counted)
    async with checker("crl", crls=(file,)) as opened:
        leaves = [CA.leaf(f"device {number}") for number in range(20)]
        assert {(await ask(opened, leaf)).status for leaf in leaves} == {IS_GOOD}
        assert (await ask(opened, BAD)).status is IS_REVOKED
        opened.commit_reload(await opened.prepare_reload())  # the same bytes are not read again
        assert (await ask(opened, BAD)).status is IS_REVOKED
    assert len(read) == 1


# -- OCSP --------------------------------------------------------------------------------------------------------------
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
        assert (await ask(opened, GOOD, now=now + timedelta(seconds=6))).status is IS_GOOD


async def test_the_next_responder_is_asked_when_one_is_away_or_lies(site: Site) -> None:
    urls = (closed_port_url(), site.url("/lies"), site.url("/"))
    leaf = CA.leaf(more_extensions=[responders(*urls)])
    site.pages |= {"/lies": responding(leaf, about=BAD.certificate), "/": responding(leaf)}
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
