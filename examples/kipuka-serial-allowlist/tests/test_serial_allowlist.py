"""The plugin alone: kipuka's contract suites for both ports, and whom it believes and lets pass."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kipuka_serial_allowlist as plugin
import pytest

from kipuka_core import Allow, ConfigurationError, Deny, Offer, Services
from kipuka_core.testing.contracts.authenticator import AuthenticatorContract
from kipuka_core.testing.contracts.policy import PolicyContract
from kipuka_core.testing.pki import Authority, make_csr, make_root, name
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_offer, sample_template
from kipuka_core.testing.services import make_services

MANUFACTURER, OURS = make_root("Manufacturer CA"), make_root("Our CA")


def offer(serial: str | None, authority: Authority = MANUFACTURER) -> Offer:
    subject = name("Model 7") if serial is None else name("Model 7", serialNumber=serial)
    return sample_offer(authority.leaf(subject=subject).certificate, authority.certificate)


@pytest.fixture
def serials(tmp_path: Path) -> Path:
    file = tmp_path / "serials.txt"
    file.write_text("SN-1\nSN-2\ndevice\n")
    return file


@pytest.fixture
def allowlist(serials: Path, tmp_path: Path) -> plugin.SerialAllowlist:
    return plugin.SerialAllowlist(plugin.AllowlistSettings(file=serials), make_services(tmp_path))


class Opened:
    """How both suites open the plugin."""

    @pytest.fixture
    def settings(self, serials: Path) -> Mapping[str, Any]:
        return {"file": serials}

    @pytest.fixture
    def services(self, tmp_path: Path) -> Services:
        return make_services(tmp_path, own_issuers=lambda: (OURS.certificate,))


class TestAuthenticator(Opened, AuthenticatorContract):
    (provider,) = plugin.kipuka_authenticators()

    @pytest.fixture
    def good_offer(self) -> Offer:
        return offer("SN-1")

    @pytest.fixture
    def expected_entity_id(self) -> str:
        return "SN-1"

    @pytest.fixture
    def foreign_offers(self) -> Sequence[Offer]:
        return [offer("SN-3"), offer("SN-"), offer(""), offer(None), offer("SN-1", OURS)]


class TestPolicy(Opened, PolicyContract):
    (provider,) = plugin.kipuka_policies()


def test_an_edit_of_the_list_counts_at_once(allowlist: plugin.SerialAllowlist, serials: Path) -> None:
    csr = sample_csr(make_csr())
    question = sample_template(csr), sample_enrolment(csr)  # by the device "device"

    assert isinstance(asyncio.run(allowlist.decide(*question)), Allow)
    serials.write_text("SN-1\n")
    assert isinstance(asyncio.run(allowlist.decide(*question)), Deny)


def test_while_the_list_is_away_nobody_is_let_in(allowlist: plugin.SerialAllowlist, serials: Path) -> None:
    serials.unlink()

    with pytest.raises(ConfigurationError):
        asyncio.run(allowlist.authenticate(offer("SN-1")))


def test_a_list_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    settings = plugin.AllowlistSettings(file=tmp_path / "missing.txt")

    with pytest.raises(ConfigurationError, match=r"missing\.txt: cannot be read: .*No such file"):
        plugin.SerialAllowlist(settings, make_services(tmp_path))
