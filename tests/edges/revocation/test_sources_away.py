"""Sources that hang: what they may cost others, how long that is remembered, and what the log says."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kipuka_core.domain.standing import CertificateStanding
from kipuka_core.edges.revocation.trouble import RETRY_SECONDS
from kipuka_core.edges.store import open_store
from kipuka_core.edges.store.engine import default_sqlite_url
from kipuka_core.testing.server import wait_until
from tests.edges.revocation.checker_kit import BAD, CA, GOOD, IS_GOOD, IS_REVOKED, ask, checker, responding
from tests.edges.revocation.revocation_kit import Site, chain_of, crl_der, http_site, responders


@pytest.mark.parametrize("check", ["crl", "ocsp"])
async def test_a_failure_is_remembered_from_its_end_on(site: Site, check: str) -> None:
    site.pages["/"] = site.slow
    source: dict[str, Any] = {"crls": (site.url("/"),)} if check == "crl" else {"responder": site.url("/")}
    async with checker(check, timeout_seconds=0.3, **source) as opened:
        now = datetime.now(UTC)
        await ask(opened, GOOD, now=now)
        for leaf in (GOOD, BAD):
            await ask(opened, leaf, now=now + timedelta(seconds=RETRY_SECONDS + 0.2))
        assert site.asked == {"/": 1}


async def test_three_silent_responders_leave_time_for_a_crl(tmp_path: Path, site: Site) -> None:
    site.pages |= {f"/{number}": site.slow for number in range(3)}
    leaf = CA.leaf(more_extensions=[responders(*(site.url(f"/{number}") for number in range(3)))])
    (tmp_path / "ca.crl").write_bytes(crl_der(CA, leaf))
    async with checker("ocsp-then-crl", crls=(tmp_path / "ca.crl",), timeout_seconds=1.0) as opened:
        assert (await ask(opened, leaf)).status is IS_REVOKED


async def test_a_host_that_hangs_takes_four_connections_and_others_are_asked(site: Site) -> None:
    site.pages["/"] = site.slow
    devices = [CA.leaf(f"device {number}", more_extensions=[responders(site.url("/"))]) for number in range(60)]
    with http_site() as other:
        leaf = CA.leaf(more_extensions=[responders(other.url("/"))])
        other.pages["/"] = responding(leaf)
        async with checker("ocsp") as opened:
            waiting = [asyncio.create_task(ask(opened, device)) for device in devices]
            await asyncio.to_thread(wait_until, lambda: site.asked["/"] == 4)
            assert (await ask(opened, leaf)).status is IS_GOOD
            assert site.asked["/"] == 4
            site.release.set()
            await asyncio.gather(*waiting)


async def test_an_unknown_status_is_logged_once_with_the_certificate_and_the_reason(logged: list[str]) -> None:
    async with checker("crl") as opened:
        for _ in range(3):
            await ask(opened, GOOD)
        await ask(opened, BAD)
    (line,) = [each for each in logged if "revocation status unknown" in each]
    assert "CN=good" in line
    assert "no CRL of CN=Device CA is configured, and the certificate names none" in line


async def test_soft_fail_is_logged_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = datetime.now(UTC)
    async with checker("crl") as source, open_store(default_sqlite_url(tmp_path)) as store:
        standing = CertificateStanding(store=store, source=source, soft_fail=True, own_issuers=tuple)
        with caplog.at_level(logging.WARNING, "kipuka_core.domain.standing"):
            for seconds in (0, 1, 59, 61):
                await standing.check(chain_of(GOOD), now + timedelta(seconds=seconds))
            assert caplog.text.count("is accepted") == 2
            await standing.check(chain_of(BAD), now + timedelta(seconds=62))
        assert caplog.text.count("is accepted") == 3
