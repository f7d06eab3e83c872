"""CRLs that are held: they outlive their source, and nothing older or false takes their place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from kipuka_core.edges.blocking import BlockingWork
from kipuka_core.edges.revocation import RevocationChecker, RevocationSettings
from kipuka_core.errors import Unavailable
from tests.edges.revocation.checker_kit import BAD, CA, GOOD, IS_GOOD, IS_REVOKED, IS_UNKNOWN, ROOT, ask, checker
from tests.edges.revocation.revocation_kit import Reply, Site, crl_der, points

NOW = datetime.now(UTC).replace(microsecond=0)
LATER = NOW + timedelta(minutes=10)
"""When what was read at NOW has to be read again."""
END = NOW + timedelta(hours=6)
HOUR = timedelta(hours=1)


def listing(*leaves: Any, number: int | None = None, **more: Any) -> bytes:
    extensions = [] if number is None else [(x509.CRLNumber(number), False)]
    return crl_der(CA, *leaves, **{"this_update": NOW, "next_update": END, "extensions": extensions, **more})


WORSE: dict[str, bytes | Reply] = {
    "not found": Reply(status=404),
    "garbage": b"<html>login</html>",
    "empty": b"",
    "forged": listing(key=ROOT.key, this_update=NOW + timedelta(seconds=60)),
    "of another CA": crl_der(ROOT),
    "older": listing(this_update=NOW - HOUR),
    "lower number": listing(number=6, this_update=NOW),
    "ended": listing(this_update=NOW - 2 * HOUR, next_update=NOW - HOUR),
}


@pytest.mark.parametrize("worse", WORSE)
async def test_the_last_good_crl_of_a_url_counts_until_its_end(site: Site, worse: str) -> None:
    site.pages["/ca.crl"] = listing(BAD, number=7)
    async with checker("crl", crls=(site.url("/ca.crl"),)) as opened:
        assert (await ask(opened, BAD, now=NOW)).status is IS_REVOKED
        site.pages["/ca.crl"] = WORSE[worse]
        assert (await ask(opened, BAD, now=LATER)).status is IS_REVOKED
        assert (await ask(opened, GOOD, now=LATER)).status is IS_GOOD
        assert site.asked["/ca.crl"] == 2
        site.pages["/ca.crl"] = Reply(status=404)
        assert (await ask(opened, BAD, now=END - timedelta(seconds=10))).status is IS_REVOKED
        assert (await ask(opened, BAD, now=END + timedelta(seconds=1))).status is IS_UNKNOWN
        site.pages["/ca.crl"] = listing(number=8, this_update=END, next_update=END + HOUR)
        assert (await ask(opened, BAD, now=END + timedelta(minutes=10))).status is IS_GOOD


@pytest.mark.parametrize("content", [None, b"", listing(this_update=NOW - HOUR)])
async def test_the_last_good_crl_of_a_file_counts_until_its_end(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.crl"
    file.write_bytes(listing(BAD))
    async with checker("crl", crls=(file,)) as opened:
        assert (await ask(opened, BAD, now=NOW)).status is IS_REVOKED
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        assert (await ask(opened, BAD, now=LATER)).status is IS_REVOKED
        assert (await ask(opened, GOOD, now=LATER)).status is IS_GOOD
        assert (await ask(opened, BAD, now=END + timedelta(seconds=1))).status is IS_UNKNOWN


async def test_a_file_that_nobody_has_asked_for_yet_is_held_too(tmp_path: Path) -> None:
    file = tmp_path / "ca.crl"
    file.write_bytes(listing(BAD))
    async with checker("crl", crls=(file,)) as opened:
        file.unlink()
        assert (await ask(opened, BAD, now=LATER)).status is IS_REVOKED


async def test_a_refused_older_crl_is_logged(site: Site, logged: list[str]) -> None:
    site.pages["/ca.crl"] = listing(BAD)
    async with checker("crl", crls=(site.url("/ca.crl"),)) as opened:
        await ask(opened, BAD, now=NOW)
        site.pages["/ca.crl"] = WORSE["older"]
        await ask(opened, BAD, now=LATER)
    says = f"gives a CRL older than the one before it (thisUpdate {NOW:%Y-%m-%d %H:%M:%S} UTC)"
    assert [line for line in logged if says in line]


async def test_after_a_reload_the_crl_of_a_url_that_is_away_still_counts(site: Site) -> None:
    site.pages["/ca.crl"] = listing(BAD)
    async with checker("crl", crls=(site.url("/ca.crl"),)) as opened:
        assert (await ask(opened, BAD, now=NOW)).status is IS_REVOKED
        del site.pages["/ca.crl"]
        opened.commit_reload(await opened.prepare_reload())
        assert (await ask(opened, BAD, now=NOW)).status is IS_REVOKED
    assert site.asked["/ca.crl"] == 2


async def test_a_crl_without_next_update_counts_for_a_day_after_it_was_read(site: Site) -> None:
    site.pages["/ca.crl"] = without_next_update(listing(BAD))
    async with checker("crl", crls=(site.url("/ca.crl"),), cache_ttl_seconds=300) as opened:
        assert (await ask(opened, BAD, now=NOW)).status is IS_REVOKED
        del site.pages["/ca.crl"]
        assert (await ask(opened, BAD, now=NOW + timedelta(hours=24))).status is IS_REVOKED
        assert (await ask(opened, BAD, now=NOW + timedelta(hours=24, minutes=6))).status is IS_UNKNOWN


async def test_held_crls_are_consulted_when_all_takes_too_long(site: Site) -> None:
    urls = [site.url(f"/{number}") for number in range(4)]
    leaf = CA.leaf(more_extensions=[points(*urls)])
    site.pages["/3"] = listing(leaf)
    async with checker("crl", timeout_seconds=1.0) as opened:
        assert (await ask(opened, leaf, now=NOW)).status is IS_REVOKED
        site.pages |= {f"/{number}": site.slow for number in range(4)}
        assert (await ask(opened, leaf, now=LATER)).status is IS_REVOKED


async def test_being_too_busy_is_no_failure_of_a_source(tmp_path: Path) -> None:
    file = tmp_path / "ca.crl"
    file.write_bytes(listing(BAD))
    is_busy, work = False, BlockingWork()

    async def run(function: Callable[..., Any], *arguments: Any) -> Any:
        if is_busy:
            raise Unavailable("the server is overloaded")
        return await work.run(function, *arguments)

    async def nobody(*_: Any) -> bytes:
        raise AssertionError

    settings = RevocationSettings(check="crl", crls=(file,))
    opened = RevocationChecker(settings, run, get=nobody, post=nobody, clock=lambda: NOW)
    opened.commit_reload(await opened.prepare_reload())
    is_busy = True
    assert (await ask(opened, BAD, now=NOW)).status is IS_UNKNOWN  # nobody has verified the signature
    is_busy = False
    assert (await ask(opened, BAD, now=NOW)).status is IS_REVOKED
    is_busy = True
    assert (await ask(opened, GOOD, now=LATER)).status is IS_GOOD  # it cannot be read again, and is held
    file.write_bytes(listing(GOOD, BAD))
    is_busy = False
    assert (await ask(opened, CA.leaf(), now=LATER)).status is IS_GOOD
    assert (await ask(opened, GOOD, now=LATER + timedelta(seconds=120))).status is IS_REVOKED
    await opened.close()


# -- DER ---------------------------------------------------------------------------------------------------------------
def without_next_update(crl: bytes) -> bytes:
    """The same CRL without its second time, signed again: cryptography makes none like this."""
    tbs = x509.load_der_x509_crl(crl).tbs_certlist_bytes
    algorithm = crl[crl.index(tbs) + len(tbs) :]
    algorithm = algorithm[: 2 + algorithm[1]]
    body = _value(tbs)
    time = body.index(b"\x17\x0d", body.index(b"\x17\x0d") + 15)
    tbs = _sequence(body[:time] + body[time + 15 :])
    assert isinstance(CA.key, ec.EllipticCurvePrivateKey)
    signature = b"\x00" + CA.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    changed = _sequence(tbs + algorithm + bytes([3, len(signature)]) + signature)
    assert x509.load_der_x509_crl(changed).next_update_utc is None
    return changed


def _value(der: bytes) -> bytes:
    return der[2 + (der[1] - 128 if der[1] > 128 else 0) :]


def _sequence(value: bytes) -> bytes:
    length = len(value)
    octets = length.to_bytes(1 if length < 256 else 2, "big")
    return b"\x30" + (octets if length < 128 else bytes([128 + len(octets)]) + octets) + value
