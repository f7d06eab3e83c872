"""The account at pebble: made once, kept, bound to another one, found again."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kipuka_acme.account import ExternalBinding
from kipuka_core import ConfigurationError, Unavailable
from kipuka_core.testing.pki import key_pem, make_key
from kipuka_core.testing.samples import write_private
from tests.acme.acme_kit import ALWAYS_VALID, approve, issued, opened
from tests.acme.between import Ask, Between, Reply, Request
from tests.acme.pebble import Pebble, running_pebble

EAB_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
OTHER_EAB_KEY = "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH"


@pytest.fixture(scope="module")
def binding_pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """Makes accounts only for those who have one elsewhere."""
    settings = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": EAB_KEY}}
    directory = tmp_path_factory.mktemp("binding")
    with running_pebble(directory, settings=settings, environment=ALWAYS_VALID) as pebble:
        yield pebble


def kept(directory: Path) -> Path:
    return directory / "acme" / "pebble"


async def test_the_account_is_made_at_the_first_start_and_used_again(tmp_path: Path, misbehaving: Between) -> None:
    table = misbehaving.table(contact="mailto:pki@example.com", http_webroot=".")
    async with opened(tmp_path, table) as backend:
        await issued(backend, await approve(backend))
    (made,) = misbehaving.seen("/sign-me-up")
    assert made.payload == {"contact": ["mailto:pki@example.com"], "termsOfServiceAgreed": True}
    before = {path.name: path.read_bytes() for path in kept(tmp_path).iterdir()}

    async with opened(tmp_path, table) as backend:
        await issued(backend, await approve(backend))

    assert len(misbehaving.seen("/sign-me-up")) == 1
    assert {path.name: path.read_bytes() for path in kept(tmp_path).iterdir()} == before
    assert sorted(before) == ["account-key.pem", "account.json"]
    assert stat.S_IMODE((kept(tmp_path) / "account-key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(kept(tmp_path).stat().st_mode) == 0o700


async def test_with_its_url_lost_the_account_is_found_by_its_key(tmp_path: Path, pebble: Pebble) -> None:
    urls = []
    for damage in ("", "{}", "not JSON"):
        async with opened(tmp_path, pebble.table()):
            urls.append(json.loads((kept(tmp_path) / "account.json").read_text(encoding="utf-8"))["url"])
        (kept(tmp_path) / "account.json").write_text(damage, encoding="utf-8")
    assert len(set(urls)) == 1


async def test_the_url_of_another_directory_is_not_used(tmp_path: Path, misbehaving: Between, pebble: Pebble) -> None:
    """From a CA's staging directory to its real one: the key goes along, the account is another."""
    async with opened(tmp_path, pebble.table()):
        pass
    async with opened(tmp_path, misbehaving.table()):
        pass
    assert len(misbehaving.seen("/sign-me-up")) == 1


async def test_several_processes_start_at_once_with_one_key(tmp_path: Path, pebble: Pebble) -> None:
    async def start() -> str:
        async with opened(tmp_path, pebble.table()):
            url: str = json.loads((kept(tmp_path) / "account.json").read_text(encoding="utf-8"))["url"]
            return url

    urls = await asyncio.gather(*(start() for _ in range(8)))

    assert len(set(urls)) == 1
    assert sorted(path.name for path in kept(tmp_path).iterdir()) == ["account-key.pem", "account.json"]


@pytest.mark.parametrize("key_type", ["ecdsa256", "ecdsa384", "rsa2048"])
async def test_a_key_of_ones_own(tmp_path: Path, pebble: Pebble, key_type: str) -> None:
    write_private(tmp_path / "own.pem", key_pem(make_key(key_type)))
    async with opened(tmp_path, pebble.table(account_key="own.pem", http_webroot=".")) as backend:
        await issued(backend, await approve(backend))
    assert [path.name for path in kept(tmp_path).iterdir()] == ["account.json"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "does not hold a PEM private key"),
        (key_pem(make_key(), b"password"), "is encrypted"),
        (key_pem(make_key("ed25519")), "neither EC P-256, P-384 nor RSA"),
        (key_pem(make_key("ecdsa521")), "neither EC P-256, P-384 nor RSA"),
        (key_pem(make_key("rsa1024")), "fewer than 2048 bits"),
    ],
    ids=["nothing", "encrypted", "ed25519", "ecdsa521", "rsa1024"],
)
async def test_a_key_that_is_none_stops_the_start(tmp_path: Path, pebble: Pebble, content: bytes, problem: str) -> None:
    write_private(tmp_path / "own.pem", content)
    with pytest.raises(ConfigurationError, match=rf"ca\.pebble\.account_key: .*own\.pem.*{problem}"):
        async with opened(tmp_path, pebble.table(account_key="own.pem")):
            pass


async def test_terms_of_service_are_agreed_to_by_a_person(tmp_path: Path, pebble: Pebble) -> None:
    with pytest.raises(ConfigurationError, match=r"ca\.pebble\.agree_to_terms: .*read data:text/plain"):
        async with opened(tmp_path, pebble.table(agree_to_terms=False)):
            pass


async def test_a_dry_run_makes_nothing(tmp_path: Path, misbehaving: Between) -> None:
    async with opened(tmp_path, misbehaving.table(), dry_run=True):
        pass
    assert misbehaving.requests == []
    assert not (tmp_path / "acme").exists()


@pytest.mark.parametrize("source", ["file", "environment"])
async def test_external_account_binding(
    tmp_path: Path, binding_pebble: Pebble, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8555 7.3.4."""
    write_private(tmp_path / "hmac", f"{EAB_KEY}\n".encode())
    monkeypatch.setenv("ACME_HMAC", EAB_KEY)
    key = {"eab_key_file": "hmac"} if source == "file" else {"eab_key_env": "ACME_HMAC"}
    table = binding_pebble.table(eab_kid="kid-1", http_webroot=".", **key)
    async with opened(tmp_path, table) as backend:
        await issued(backend, await approve(backend))


@pytest.mark.parametrize(
    ("kid", "key", "problem"),
    [
        (None, None, r"ca\.pebble\.eab_kid: the CA does not accept the account: .*externalAccountBinding"),
        ("kid-1", OTHER_EAB_KEY, r"ca\.pebble\.directory: the CA does not accept the account"),
        ("kid-2", EAB_KEY, r"ca\.pebble\.directory: the CA does not accept the account"),
        ("kid-1", "not base64url!", "hmac: does not hold an HMAC key in base64url"),
        ("kid-1", "c2hvcnQ", "hmac: holds an HMAC key of fewer than 16 bytes"),
        ("kid-1", "", "hmac: holds an HMAC key of fewer than 16 bytes"),
    ],
)
async def test_a_binding_that_is_none_stops_the_start(
    tmp_path: Path, binding_pebble: Pebble, kid: str | None, key: str | None, problem: str
) -> None:
    binding = {}
    if kid is not None and key is not None:
        write_private(tmp_path / "hmac", key.encode())
        binding = {"eab_kid": kid, "eab_key_file": "hmac"}
    with pytest.raises(ConfigurationError, match=problem) as raised:
        async with opened(tmp_path, binding_pebble.table(**binding)):
            pass
    assert not key or key not in str(raised.value)


def test_no_secret_is_shown() -> None:
    assert "correct horse" not in repr(ExternalBinding("kid", b"correct horse battery"))


async def test_the_backend_starts_while_the_ca_is_away(tmp_path: Path, pebble: Pebble, misbehaving: Between) -> None:
    away = True
    misbehaving.rule = lambda _request, ask: Reply(503) if away else ask()
    warnings: list[str] = []
    async with opened(tmp_path, misbehaving.table(http_webroot="."), warn=warnings.append) as backend:
        with pytest.raises(Unavailable):
            await backend.ping()
        approved = await approve(backend)
        with pytest.raises(Unavailable):
            await backend.issue(approved)
        away = False
        await backend.ping()
        await issued(backend, approved)
    assert len(warnings) == 1
    assert warnings[0].startswith("ca.pebble.directory: ")


async def test_an_account_that_the_ca_forgot_is_made_anew(tmp_path: Path, misbehaving: Between) -> None:
    forgotten = True

    def rule(request: Request, ask: Ask) -> Reply:
        nonlocal forgotten
        if forgotten and request.path == "/order-plz":
            forgotten = False
            return Reply.problem("accountDoesNotExist", "who?")
        return ask()

    misbehaving.rule = rule
    async with opened(tmp_path, misbehaving.table(http_webroot=".")) as backend:
        await issued(backend, await approve(backend))
    assert len(misbehaving.seen("/sign-me-up")) == 2


async def test_an_account_that_the_ca_has_closed_is_no_word_about_a_request(
    tmp_path: Path, misbehaving: Between
) -> None:
    misbehaving.rule = lambda request, ask: (
        Reply.problem("unauthorized", "account is deactivated", 403) if request.path == "/order-plz" else ask()
    )
    async with opened(tmp_path, misbehaving.table()) as backend:
        with pytest.raises(Unavailable, match="does not accept this server's account"):
            await backend.issue(await approve(backend))


async def test_the_key_in_the_state_directory_is_an_ec_key(tmp_path: Path, pebble: Pebble) -> None:
    async with opened(tmp_path, pebble.table()):
        pass
    pem = (kept(tmp_path) / "account-key.pem").read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
