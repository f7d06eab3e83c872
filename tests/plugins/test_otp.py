"""The authenticator ``otp``, its tokens, and durations in settings."""

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from kipuka_builtin import otp
from kipuka_core import LockoutLimits, Offer, OneTimeCredential, Services, WrongSecret
from kipuka_core.domain import one_time_passwords
from kipuka_core.errors import StoreUnavailable
from kipuka_core.hooks.durations import Duration
from kipuka_core.model.entity_id import entity_id_problem
from kipuka_core.model.record import OneTimePassword
from kipuka_core.testing.contracts.authenticator import AuthenticatorContract
from kipuka_core.testing.fakes import FakeStore
from kipuka_core.testing.samples import NOW, sample_label, sample_offer
from kipuka_core.testing.services import make_services

RECORD, TOKEN = one_time_passwords.new_one_time_password("device", now=NOW, ttl_seconds=3600)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore(passwords=[RECORD])


@pytest.fixture
def port(tmp_path: Path, store: FakeStore) -> otp.OtpAuthenticator:
    return otp.OtpAuthenticator(otp.OtpSettings(), make_services(tmp_path, store=store))


class TestContract(AuthenticatorContract):
    provider = otp.PROVIDER

    @pytest.fixture
    def services(self, tmp_path: Path, store: FakeStore) -> Services:
        return make_services(tmp_path, store=store)

    @pytest.fixture
    def good_offer(self) -> Offer:
        return sample_offer(username="device", password=TOKEN)

    @pytest.fixture
    def foreign_offers(self) -> Sequence[Offer]:
        return [
            sample_offer(username="", password="nobody-has-this-token"),
            sample_offer(username="somebody", password="nobody-has-this-token"),
        ]

    @pytest.fixture
    def wrong_secret_offers(self) -> Sequence[Offer]:
        return [
            sample_offer(username="device", password="wrong-token"),
            sample_offer(username="device", password=TOKEN[:-1]),
            sample_offer(username="another-device", password=TOKEN),
        ]


async def test_the_token_alone_says_whose_it_is(port: otp.OtpAuthenticator) -> None:
    identity = await port.authenticate(sample_offer(username="", password=TOKEN))
    assert identity is not None
    assert identity.entity_id == "device"
    assert identity.one_time == OneTimeCredential(RECORD.id)


@pytest.mark.parametrize(
    "state",
    [
        {"expires_at": NOW - timedelta(days=1)},
        {"usage_count": 1},
        {"revoked_at": NOW},
        {"label": "another"},
    ],
)
async def test_an_unusable_password_is_an_identity_whose_reservation_will_fail(
    port: otp.OtpAuthenticator, store: FakeStore, state: dict[str, Any]
) -> None:
    store.passwords = [replace(RECORD, **state)]
    identity = await port.authenticate(sample_offer(username="device", password=TOKEN, label=sample_label("here")))
    assert identity is not None
    assert identity.one_time == OneTimeCredential(RECORD.id)


async def test_a_hash_that_the_store_matched_loosely_is_not_believed(
    port: otp.OtpAuthenticator, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find_loosely(token_hash: bytes) -> OneTimePassword:
        return RECORD

    monkeypatch.setattr(store, "find_otp", find_loosely)
    with pytest.raises(WrongSecret):
        await port.authenticate(sample_offer(username="device", password="wrong-token"))
    assert await port.authenticate(sample_offer(username="", password="wrong-token")) is None


async def test_a_huge_password_of_a_known_entity_is_a_wrong_secret(port: otp.OtpAuthenticator) -> None:
    with pytest.raises(WrongSecret):
        await port.authenticate(sample_offer(username="device", password="x" * 1_000_000))


async def test_a_store_that_does_not_answer_authenticates_nobody(port: otp.OtpAuthenticator, store: FakeStore) -> None:
    store.unavailable = True
    with pytest.raises(StoreUnavailable):
        await port.authenticate(sample_offer(username="device", password=TOKEN))


def test_limits_and_defaults_are_those_of_the_settings(tmp_path: Path) -> None:
    assert otp.OtpSettings().model_dump() == {
        "token_bits": 160, "ttl": 86_400, "max_usage": 1, "max_failures": 5, "failure_window": 900, "lockout": 1800,
        "address_failures": 300,
    }  # fmt: skip
    settings = otp.OtpSettings.model_validate(
        {"max_failures": 2, "failure_window": "30s", "lockout": "2h", "address_failures": 9}
    )
    port = otp.OtpAuthenticator(settings, make_services(tmp_path))
    assert port.lockout_limits == LockoutLimits(
        max_failures=2, failure_window_seconds=30, lockout_seconds=7200, address_failures=9
    )


@pytest.mark.parametrize("wrong", [{"token_bits": 127}, {"max_usage": 0}, {"ttl": 0}, {"ttl": "1w"}, {"tokenbits": 1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        otp.OtpSettings.model_validate(wrong)


@pytest.mark.parametrize("bits", [128, 129, 160, 256])
def test_tokens_are_url_safe_and_hold_the_bits_asked_for(bits: int) -> None:
    tokens = {one_time_passwords.generate_token(bits) for _ in range(50)}
    assert len(tokens) == 50
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", token) for token in tokens)
    assert all(len(base64.urlsafe_b64decode(token + "==")) * 8 >= bits for token in tokens)


def test_a_token_below_128_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="128"):
        one_time_passwords.generate_token(127)


def test_a_new_password_keeps_the_tokens_hash_and_nothing_else_of_it() -> None:
    now = datetime(2030, 5, 1, tzinfo=UTC)
    record, token = one_time_passwords.new_one_time_password("Gerät 7", now=now, ttl_seconds=60, max_usage=3, label="")
    assert record.token_hash == one_time_passwords.hash_token(token)
    assert token not in repr(record)
    assert (record.created_at, record.expires_at) == (now, now + timedelta(seconds=60))
    assert (record.entity_id, record.max_usage, record.label, record.usage_count) == ("Gerät 7", 3, "", 0)
    assert record.id != one_time_passwords.new_one_time_password("Gerät 7", now=now, ttl_seconds=60)[0].id


@pytest.mark.parametrize("entity_id", ["", "a:b", "a\nb", "nul\0", "\x7f", "\ud800", "\u2028", "x" * 256])
def test_an_entity_id_that_no_client_could_send_is_refused(entity_id: str) -> None:
    with pytest.raises(ValueError, match="entity id cannot be used"):
        one_time_passwords.new_one_time_password(entity_id, now=NOW, ttl_seconds=60)
    assert entity_id_problem("x" * 255) is None


@pytest.mark.parametrize("numbers", [{"ttl_seconds": 0}, {"ttl_seconds": 10**12}, {"max_usage": 0}, {"token_bits": 64}])
def test_a_password_with_numbers_out_of_range_is_refused(numbers: dict[str, Any]) -> None:
    wrong: dict[str, Any] = {"ttl_seconds": 60} | numbers
    with pytest.raises(ValueError, match=r"one-time password|token needs"):
        one_time_passwords.new_one_time_password("device", now=NOW, **wrong)


@pytest.mark.parametrize(
    ("written", "seconds"), [("30s", 30), ("15m", 900), ("24h", 86_400), ("90d", 7_776_000), (" 1s ", 1), (77, 77)]
)
def test_durations_are_read_as_seconds(written: object, seconds: int) -> None:
    assert TypeAdapter(Duration).validate_python(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "30", "1.5h", "-1s", "1h30m", "1 h", "1H", True, 1.5, None, 0, -1, "0s", "9999999999d", "\u0663s"]
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python(written)


def test_the_schema_of_a_duration_says_both_ways_of_writing_it() -> None:
    schema = TypeAdapter(Duration).json_schema()
    assert [way["type"] for way in schema["anyOf"]] == ["string", "integer"]
