"""CA backend ``est``: which chain its upstream has, and settings that cannot work."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from kipuka_builtin.est_ca import EstCaSettings
from kipuka_core import (
    ConfigurationError,
    Issued,
    Unavailable,
)
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.ca_backend import asked
from tests.external.est_kit import (
    PKCS7,
    UPSTREAM_CA,
    UPSTREAM_ROOT,
    ToldUpstream,
    certs_only,
    http_answer,
    issuing,
    opened,
    told_upstream,
    write_ra,
)
from tests.external.external_kit import approved_by, logged


# -- the chain ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("certificates", "chain", "previous"),
    [
        (UPSTREAM_CA.chain, UPSTREAM_CA.chain, ()),
        (tuple(reversed(UPSTREAM_CA.chain)), UPSTREAM_CA.chain, ()),
        (UPSTREAM_ROOT.chain, UPSTREAM_ROOT.chain, ()),
        ((*UPSTREAM_CA.chain, UPSTREAM_CA.leaf().certificate), UPSTREAM_CA.chain, ()),
    ],
    ids=["in order", "reversed", "a root alone", "with a leaf"],
)
async def test_the_chain_is_put_in_order(
    tmp_path: Path,
    upstream: ToldUpstream,
    certificates: tuple[x509.Certificate, ...],
    chain: tuple[x509.Certificate, ...],
    previous: tuple[x509.Certificate, ...],
) -> None:
    upstream.cacerts = http_answer(200, certs_only(*certificates), PKCS7)
    async with opened(tmp_path, upstream.port) as backend:
        found = await backend.chain()
    assert (found.certificates, found.previous) == (chain, previous)


async def test_which_ca_issues_is_learnt_from_what_it_issues(tmp_path: Path, upstream: ToldUpstream) -> None:
    other = UPSTREAM_ROOT.subordinate("Upstream Other CA")
    upstream.cacerts = http_answer(200, certs_only(other.certificate, *UPSTREAM_CA.chain), PKCS7)
    async with opened(tmp_path, upstream.port) as backend:
        guessed = (await backend.chain()).issuing
        really = other if guessed == UPSTREAM_CA.certificate else UPSTREAM_CA
        upstream.enrol = issuing(authority=really)
        approved = await approved_by(backend)
        await backend.issue(approved)
        assert (await backend.chain()).certificates == really.chain
        assert (await backend.chain()).previous == (guessed,)


async def test_a_new_generation_is_fetched_when_it_issues(tmp_path: Path, upstream: ToldUpstream) -> None:
    new_root = pki.make_root("Upstream Root CA 2")
    async with opened(tmp_path, upstream.port) as backend:
        upstream.cacerts = http_answer(200, certs_only(*new_root.chain, *UPSTREAM_CA.chain), PKCS7)
        upstream.enrol = issuing(authority=new_root)
        await backend.issue(await approved_by(backend))
        assert (await backend.chain()).issuing == new_root.certificate
        assert set((await backend.chain()).previous) == set(UPSTREAM_CA.chain)


async def test_an_issuer_that_the_upstream_does_not_tell_of_is_logged(
    tmp_path: Path, upstream: ToldUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """The core refuses what it has signed; the request itself has its answer."""
    upstream.enrol = issuing(authority=pki.make_root("Stranger CA"))
    async with opened(tmp_path, upstream.port) as backend:
        upstream.cacerts = http_answer(500)
        assert isinstance(await backend.issue(await approved_by(backend)), Issued)
        assert (await backend.chain()).certificates == UPSTREAM_CA.chain
    assert "by a CA that it has not told of: the upstream EST server answers /cacerts with HTTP 500" in logged(caplog)


async def test_roll_over_certificates_are_no_way_to_the_root(tmp_path: Path, upstream: ToldUpstream) -> None:
    """RFC 7030 4.1.3: OldWithOld, OldWithNew, NewWithOld."""
    old, new = pki.make_root("Root CA", days=100), pki.make_root("Root CA")
    links = (new.certify(old).certificate, old.certify(new, days=90).certificate)
    upstream.cacerts = http_answer(200, certs_only(*links, old.certificate, new.certificate), PKCS7)
    upstream.enrol = issuing(authority=new)
    async with opened(tmp_path, upstream.port) as backend:
        await backend.issue(await approved_by(backend))
        found = await backend.chain()
    assert found.certificates == (new.certificate,)
    assert set(found.previous) == {*links, old.certificate}


async def test_the_last_chain_serves_when_the_upstream_is_away_at_start_up(tmp_path: Path) -> None:
    with told_upstream(tmp_path) as upstream:
        async with opened(tmp_path, upstream.port):
            pass
    warnings: list[str] = []
    async with opened(tmp_path, upstream.port, services={"warn": warnings.append}) as backend:
        assert (await backend.chain()).certificates == UPSTREAM_CA.chain
    assert "the CA certificates of its last answer serve until it is back" in warnings[0]
    (tmp_path / "never").mkdir()
    with pytest.raises(ConfigurationError, match="no CA certificates from the upstream EST server"):
        async with opened(tmp_path / "never", upstream.port):
            pass


async def test_a_dry_run_leaves_nothing_behind(tmp_path: Path, upstream: ToldUpstream) -> None:
    state = tmp_path / "state"
    async with opened(tmp_path, upstream.port, services={"dry_run": True, "state_dir": state}):
        pass
    assert not state.exists()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (http_answer(404), "answers /cacerts with HTTP 404"),
        (http_answer(403), "answers /cacerts with HTTP 403"),
        (http_answer(200, b"AAAA", PKCS7), "answers /cacerts with what is no certs-only message"),
        (b"", "does not answer /cacerts"),
        (http_answer(200, certs_only(UPSTREAM_CA.certificate), PKCS7), "whose issuers are there up to the root"),
        (http_answer(200, certs_only(UPSTREAM_CA.leaf().certificate), PKCS7), "no certificate in it is that of a CA"),
        (http_answer(200, b"A" * 2_000_000, PKCS7), "does not answer /cacerts"),
    ],
)
async def test_a_chain_that_is_none_stops_the_start(
    tmp_path: Path, upstream: ToldUpstream, answer: bytes, problem: str
) -> None:
    upstream.cacerts = answer
    with pytest.raises(ConfigurationError, match=problem):
        async with opened(tmp_path, upstream.port):
            pass


# -- settings ----------------------------------------------------------------------------------------------------------
GOOD = {"url": "https://ca.example/est", "trust_anchors": "a.pem", "username": "ra", "password_file": "p"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"url": "http://ca.example/est"}, 'must begin with "https://"'),
        ({"url": "https:///est"}, 'must begin with "https://" and a host'),
        ({"url": "https://ra:secret@ca.example/est"}, "must hold no credentials"),
        ({"url": "https://ca.example"}, "operations are appended"),
        ({"url": "https://ca.example/est?label=a"}, "operations are appended"),
        ({"url": "https://ca.example/est/simpleenroll"}, "leave out /simpleenroll"),
        ({"trust_anchors": []}, "at least 1 item"),
        ({"cert": "a.pem"}, "cert and key are set together"),
        ({"username": None}, "username needs password_file or password_env"),
        ({"password_file": None}, "username needs password_file or password_env"),
        ({"password_env": "P"}, "not both"),
        ({"username": None, "password_file": None}, "needs a credential"),
    ],
)
def test_settings_that_cannot_be_meant_say_what_to_change(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        EstCaSettings(**(GOOD | change))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"timeout": 90}, r"ca.upstream.timeout: must be shorter than \[plugins\] timeout, which is 90 s"),
        ({"trust_anchors": "missing.pem"}, "missing.pem: cannot be used: No such file"),
        ({"trust_anchors": "password"}, "password: cannot be used"),
        ({"password_file": "missing"}, "missing: cannot be read"),
        ({"password_file": "empty"}, "empty: is empty or not set"),
        ({"password_file": None, "password_env": "KIPUKA_TEST_NOT_SET"}, "KIPUKA_TEST_NOT_SET: is empty or not set"),
        ({"cert": "ra.pem", "key": "password"}, "ra.pem: cannot be used with its key"),
    ],
)
async def test_what_cannot_work_is_said_at_start_up(
    tmp_path: Path, upstream: ToldUpstream, change: dict[str, Any], problem: str
) -> None:
    write_ra(tmp_path)
    (tmp_path / "empty").touch(mode=0o600)
    assert "KIPUKA_TEST_NOT_SET" not in os.environ
    with pytest.raises(ConfigurationError, match=problem) as caught:
        async with opened(tmp_path, upstream.port, **change):
            pass
    assert "s3cret" not in str(caught.value)


async def test_the_password_is_in_no_repr(tmp_path: Path, upstream: ToldUpstream) -> None:
    async with opened(tmp_path, upstream.port) as backend:
        seen = [repr(vars(each)) for each in (backend, backend._upstream, backend._chain)]  # type: ignore[attr-defined]
    assert "s3cret" not in "".join(seen)


async def test_repeating_has_its_time(tmp_path: Path, upstream: ToldUpstream) -> None:
    upstream.enrol = issuing()
    async with opened(tmp_path, upstream.port, repeat_is_safe=True) as backend:
        approved = await approved_by(backend)
        assert isinstance(await backend.poll(asked(approved)), Issued)
        backend._clock = lambda: datetime.now(UTC) + timedelta(minutes=9, seconds=5)  # type: ignore[attr-defined]
        with pytest.raises(Unavailable, match="too late to repeat"):
            await backend.poll(asked(approved))
    assert len(upstream.enrolments) == 1
