"""CRLs over real HTTP and from files: which is asked, what is remembered, what happens when one is away or lies."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from kipuka_core.edges.revocation import crl_source, fetch
from kipuka_core.edges.revocation.crl import Crl, parse_crls
from kipuka_core.errors import ConfigurationError
from kipuka_core.testing.server import wait_until
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
)
from tests.edges.revocation.revocation_kit import (
    DAY,
    Reply,
    Site,
    crl_der,
    crl_pem,
    points,
)


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
    assert "no CRL of CN=Device CA is configured, and the certificate names none" in answer.detail


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


async def test_the_environment_names_no_proxy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", closed_port_url())
    monkeypatch.setenv("http_proxy", closed_port_url())
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    site.pages["/ca.crl"] = crl_der(CA, BAD)
    async with checker("crl", crls=(site.url("/ca.crl"),)) as opened:
        assert (await ask(opened, BAD)).status is IS_REVOKED


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
        # The failure is remembered from its end on.
        assert (await ask(opened, GOOD, now=now + timedelta(minutes=10))).status is IS_GOOD


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
    old = crl_der(CA, this_update=datetime.now(UTC) - 2 * timedelta(hours=1))
    site.pages["/ca.crl"] = lambda _: old if site.release.wait() else b""
    async with checker("crl", crls=(site.url("/ca.crl"),)) as opened:
        before = asyncio.create_task(ask(opened, BAD))
        await asyncio.to_thread(wait_until, lambda: bool(site.asked))
        site.pages["/ca.crl"] = crl_der(CA, BAD)
        opened.commit_reload(await opened.prepare_reload())
        assert (await ask(opened, BAD)).status is IS_REVOKED
        site.release.set()
        assert (await before).status is IS_REVOKED  # the newer one has been verified by now
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
