"""The CA backend ``local`` and what the world is told of its certificates: keys, times, pointers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from pydantic import ValidationError

from kipuka_builtin.local_ca import LocalCaSettings
from kipuka_core.domain.postcheck import check_issued
from kipuka_core.errors import PostcheckFailed
from kipuka_core.model.certificate import Approved, Issued
from kipuka_core.testing import pki
from kipuka_core.testing.pki import make_csr
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_template, write_private
from tests.plugins.local_ca_kit import ISSUING, NOW, OTHER_ROOT, ROOT, URLS, opened, refusal, write_ca

OLD = ROOT.subordinate("Old Issuing CA", "rsa2048")


def with_previous(directory: Path, *keys: pki.Authority, previous: pki.Authority = OLD) -> dict[str, Any]:
    (directory / "old.pem").write_bytes(previous.pem)
    for number, authority in enumerate(keys):
        write_private(directory / f"old-{number}.key", pki.key_pem(authority.key))
    return write_ca(directory, ISSUING) | {
        "previous": "old.pem",
        "previous_keys": [f"old-{number}.key" for number in range(len(keys))],
    }


async def test_the_issuing_key_speaks_for_what_it_issues(tmp_path: Path) -> None:
    table = write_ca(tmp_path, ISSUING) | {"crl_validity": "3d", "crl_refresh": "6h", "ocsp_validity": "10m"}
    async with opened(tmp_path, table) as backend:
        (authority,) = backend.status_authorities
    assert authority.issuer == ISSUING.certificate
    assert authority.signer.private_key.public_key() == ISSUING.key.public_key()
    assert authority.hash_algorithm is not None
    assert authority.hash_algorithm.name == "sha256"
    times = authority.times
    assert (times.crl_validity, times.crl_refresh) == (timedelta(days=3), timedelta(hours=6))
    assert times.ocsp_validity == timedelta(minutes=10)


async def test_earlier_keys_go_on_speaking_for_what_they_issued(tmp_path: Path) -> None:
    async with opened(tmp_path, with_previous(tmp_path, OLD)) as backend:
        current, earlier = backend.status_authorities
    assert current.issuer == ISSUING.certificate
    assert earlier.issuer == OLD.certificate
    assert earlier.signer.private_key.public_key() == OLD.key.public_key()


async def test_a_key_that_belongs_to_no_previous_issuer_is_refused(tmp_path: Path) -> None:
    message = await refusal(tmp_path, with_previous(tmp_path, OLD, OTHER_ROOT))
    assert message == "ca.main.previous_keys: a key in the list is not that of a certificate in previous"


async def test_the_key_that_issues_now_is_no_previous_one(tmp_path: Path) -> None:
    message = await refusal(tmp_path, with_previous(tmp_path, ISSUING, previous=ISSUING))
    assert "the key that issues now" in message


async def test_a_previous_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    table = with_previous(tmp_path, OLD) | {"previous_keys": ["nowhere.key"]}
    with pytest.raises(FileNotFoundError):  # of the test's own signer; the file key store says it in words
        async with opened(tmp_path, table):
            pass


async def test_a_previous_issuer_that_has_ended_is_a_warning(tmp_path: Path) -> None:
    ended = ROOT.subordinate("Ended CA", days=1)
    told: list[str] = []
    table = with_previous(tmp_path, ended, previous=ended)
    after = ended.certificate.not_valid_after_utc + timedelta(days=1)
    async with opened(tmp_path, table, warn=told.append, clock=lambda: after):
        pass
    (warning,) = (each for each in told if "previous_keys" in each)
    assert "CN=Ended CA expired on" in warning


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"crl_validity": "1d", "crl_refresh": "1d"}, "crl_refresh must be shorter than crl_validity"),
        ({"crl_validity": "10s"}, "must be at least 60s"),
        ({"cdp_urls": ["pki.example/devices.crl"]}, "is not a URL such as"),
        ({"aia_urls": ["http://pki.example/a b.cer"]}, "is not a URL such as"),
        ({"ocsp_urls": [""]}, "is not a URL such as"),
        ({"ocsp_validity": "1s"}, "must be at least 60s"),
        ({"crl_refresh": "1s"}, "must be at least 60s"),
    ],
)
def test_times_that_make_no_sense_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        LocalCaSettings(cert="ca.pem", key="ca.key", **settings)


async def issued(directory: Path, table: dict[str, Any]) -> tuple[x509.Certificate, Approved, Any]:
    csr = sample_csr(make_csr(pki.make_key(), "device", ["dns:device.example"]))
    template = sample_template(csr, not_before=NOW, not_after=NOW + timedelta(days=10))
    approved = Approved(template=template, enrolment=sample_enrolment(csr), issuer=ISSUING.certificate)
    async with opened(directory, table) as backend:
        outcome = await backend.issue(approved)
        assert isinstance(outcome, Issued)
        return outcome.certificate, approved, backend.pointers


@pytest.mark.parametrize("urls", [{}, *({name: value} for name, value in URLS.items()), URLS])
async def test_exactly_the_configured_pointers_pass_the_postcheck(tmp_path: Path, urls: dict[str, Any]) -> None:
    certificate, approved, pointers = await issued(tmp_path, write_ca(tmp_path, ISSUING) | urls)
    check_issued(certificate, approved.template, ISSUING.certificate, pointers=pointers)
    check_issued(certificate, approved.template, ISSUING.certificate)  # a CA that does not say what it sets
    _, _, others = await issued(
        tmp_path, write_ca(tmp_path, ISSUING) | (URLS | {"cdp_urls": ["http://elsewhere.example/x.crl"]})
    )
    for wrong in (others, () if urls else others):
        with pytest.raises(PostcheckFailed) as caught:
            check_issued(certificate, approved.template, ISSUING.certificate, pointers=wrong)
        assert "points to other" in caught.value.detail
