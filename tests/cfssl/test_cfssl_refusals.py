"""What CFSSL refuses, and what it is not asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kipuka_core import ConfigurationError, CsrRefused, Issued, NotAllowed, OutcomeUnknown, RequestRefused, Unavailable
from kipuka_core.testing.contracts.ca_backend import asked
from kipuka_core.testing.pki import make_root, name
from tests.cfssl.cfssl_kit import Opened, approved_for
from tests.cfssl.cfssl_server import KEY, USAGES, Cfssl, make_cfssl, running_cfssl


async def refusal(opened: Opened, settings: Mapping[str, Any], **wanted: Any) -> RequestRefused:
    """What ``issue`` raises."""
    async with opened.open(settings) as backend:
        with pytest.raises(RequestRefused) as raised:
            await backend.issue(await approved_for(backend, **wanted))
    return raised.value


async def test_another_key_than_the_profiles_issues_nothing_and_is_named_to_the_operator_only(
    cfssl: Cfssl, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("00112233445566778899aabbccddeeff")
    wrong.chmod(0o600)
    opened = Opened(tmp_path)
    error = await refusal(opened, cfssl.settings | {"auth_key_file": str(wrong)})
    assert type(error) is Unavailable
    assert "invalid token" in opened.said
    assert "token" not in error.reason
    assert "0011" not in opened.said
    assert cfssl.rows() == []


async def test_a_csr_that_cfssl_cannot_read_is_the_clients_matter(cfssl: Cfssl, tmp_path: Path) -> None:
    error = await refusal(Opened(tmp_path), cfssl.settings, key_type="ed25519")
    assert type(error) is CsrRefused
    assert "9300" in error.reason
    assert cfssl.rows() == []


async def test_a_name_beyond_the_profiles_whitelist_is_not_allowed(tmp_path: Path) -> None:
    made = make_cfssl(tmp_path / "cfssl")
    profile = {"expiry": "720h", "usages": USAGES, "auth_key": "kipuka", "name_whitelist": r"^.*\.factory$"}
    made.configure(factory=profile)
    with running_cfssl(made):
        settings = made.settings | {"profile": "factory"}
        error = await refusal(Opened(tmp_path), settings, subject=name("device.example"), san=())
        assert type(error) is NotAllowed
        assert made.rows() == []


async def test_a_profile_that_needs_a_serial_number_and_gets_none_issues_nothing(cfssl: Cfssl, tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    assert type(await refusal(opened, cfssl.settings | {"profile": "serials"})) is Unavailable
    assert "1400" in opened.said


async def test_a_profile_without_a_key_issues_nothing(tmp_path: Path) -> None:
    made = make_cfssl(tmp_path / "cfssl")
    made.configure(open={"expiry": "720h", "usages": USAGES})
    opened = Opened(tmp_path)
    with running_cfssl(made):
        assert type(await refusal(opened, made.settings | {"profile": "open"})) is Unavailable
        assert made.rows() == []
    assert "no authentication provider" in opened.said


async def test_a_ca_that_ends_before_its_certificates_is_not_asked(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    with running_cfssl(make_cfssl(tmp_path / "cfssl", ca_days=20)) as made:
        assert type(await refusal(opened, made.settings)) is Unavailable
        assert made.rows() == []
    assert "renew it" in opened.said


async def test_a_database_that_fails_leaves_the_outcome_unknown(cfssl: Cfssl, tmp_path: Path) -> None:
    """CFSSL signs before it records, and says nothing about the certificate."""
    with closing(sqlite3.connect(cfssl.database)) as database:
        database.execute("ALTER TABLE certificates RENAME TO elsewhere")
    assert type(await refusal(Opened(tmp_path), cfssl.settings)) is OutcomeUnknown


async def test_a_profile_that_ignores_serial_numbers_is_found_out_and_nothing_is_looked_for_any_more(
    cfssl: Cfssl, tmp_path: Path
) -> None:
    opened = Opened(tmp_path)
    async with opened.open(cfssl.settings_with_serials | {"profile": "device"}) as backend:
        approved = await approved_for(backend)
        assert isinstance(await backend.issue(approved), Issued)
        assert not backend.finds
        with pytest.raises(Unavailable):
            await backend.poll(asked(approved))
    assert "ClientProvidesSerialNumbers" in opened.said


# -- at the start ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "where", "problem"),
    [
        ({"profile": "unknown"}, "ca.sets_key_usage", "the profile sets"),  # CFSSL takes its default profile for it
        ({"sets_key_usage": ["keyAgreement"]}, "ca.sets_key_usage", '"digitalSignature"'),
        ({"sets_ext_key_usage": ["serverAuth"]}, "ca.sets_ext_key_usage", "1.3.6.1.5.5.7.3.2"),
        ({"sets_validity_days": 29}, "ca.sets_validity_days", "30 days"),
        ({"chain": ()}, "ca.chain", "add the certificate of CN=CFSSL Test Root"),
        ({"chain": "no.pem"}, "ca.chain", "cannot be read"),
        ({"timeout": 10}, "ca.timeout", "[plugins] timeout"),
        ({"auth_key_file": "no-key"}, "no-key", "cannot be read"),
        ({"auth_key_file": "cfssl/db.json"}, "ca.auth_key_file", "hexadecimal"),
        ({"auth_key_file": None, "auth_key_env": "NO_SUCH_VARIABLE_HERE"}, "ca.auth_key_env", "hexadecimal"),
    ],
)
async def test_settings_that_do_not_fit_are_refused_with_what_to_change(
    cfssl: Cfssl, tmp_path: Path, change: dict[str, Any], where: str, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        async with Opened(tmp_path).open(cfssl.settings | change):
            pass
    assert raised.value.where.endswith(where)
    assert problem in raised.value.problem


async def test_another_certificate_than_cfssls_is_refused(cfssl: Cfssl, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(make_root("Other").pem)
    with pytest.raises(ConfigurationError, match="another certificate"):
        async with Opened(tmp_path).open(cfssl.settings | {"cert": "other.pem"}):
            pass


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"url": "http://cfssl.example:8888"}, "allow_http"),
        ({"url": "ftp://cfssl.example"}, "http or https"),
        ({"url": "https://user:secret@cfssl.example"}, "nothing but scheme"),
        ({"trust_anchors": "root.pem"}, "url is http"),
        ({"url": "https://localhost", "client_cert": "client.pem"}, "go together"),
        ({"auth_key_env": "KEY"}, "set one of them"),
        ({"auth_key_file": None}, "set one of them"),
        ({"sets_key_usage": None}, "sets_key_usage"),
        ({"sets_validity_days": None}, "sets_validity_days"),
        ({"certdb": "certs.db"}, "client_serials"),
        ({"keeps_subject": ["userId"]}, "does not keep"),
        ({"profile": ""}, "profile"),
    ],
)
def test_settings_that_could_never_work_are_refused(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as raised:
        Opened(tmp_path).open(make_cfssl(tmp_path / "cfssl").settings | change)
    assert KEY not in str(raised.value)


def test_http_to_another_host_is_possible_where_the_operator_says_so(tmp_path: Path) -> None:
    settings = make_cfssl(tmp_path / "cfssl").settings
    Opened(tmp_path).open(settings | {"url": "http://cfssl.example:8888", "allow_http": True})


async def test_a_key_file_that_others_can_read_is_warned_of(cfssl: Cfssl, tmp_path: Path) -> None:
    (cfssl.directory / "auth-key").chmod(0o644)
    opened = Opened(tmp_path)
    async with opened.open(cfssl.settings):
        pass
    assert "chmod" in opened.warnings[0]


async def test_a_key_from_the_environment_signs_too(
    cfssl: Cfssl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIPUKA_TEST_CFSSL_KEY", KEY)
    settings = cfssl.settings | {"auth_key_file": None, "auth_key_env": "KIPUKA_TEST_CFSSL_KEY"}
    async with Opened(tmp_path).open(settings) as backend:
        assert isinstance(await backend.issue(await approved_for(backend)), Issued)
        assert KEY not in repr(vars(backend))
