"""What an operator writes about an external CA becomes what its backend declares."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from kipuka_core import CaProfile, CaProfileSettings
from kipuka_core.testing.contracts.settings import check_settings

CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
COMMON_NAME = "2.5.4.3"
POLICIES = "2.5.29.32"


def test_without_a_setting_the_ca_follows_the_template() -> None:
    assert CaProfileSettings().ca_profile() == CaProfile()
    assert CaProfileSettings().ca_profile().decides == ()


@pytest.mark.parametrize(
    ("settings", "declared"),
    [
        ({"sets_validity_days": 90}, {"validity": timedelta(days=90)}),
        ({"sets_key_usage": ["digitalsignature"]}, {"key_usage": frozenset({"digitalSignature"})}),
        ({"sets_key_usage": ["nonRepudiation"]}, {"key_usage": frozenset({"contentCommitment"})}),
        ({"sets_key_usage": []}, {"key_usage": frozenset()}),
        ({"sets_ext_key_usage": ["clientAuth", CLIENT_AUTH, "1.2.3"]}, {"ext_key_usage": (CLIENT_AUTH, "1.2.3")}),
        ({"sets_ext_key_usage": []}, {"ext_key_usage": ()}),
        ({"keeps_subject": ["commonName", "2.5.4.10"]}, {"subject_attributes": (COMMON_NAME, "2.5.4.10")}),
        ({"keeps_subject": []}, {"subject_attributes": ()}),
        ({"adds_extensions": ["certificatePolicies", "1.2.3.4"]}, {"extensions": (POLICIES, "1.2.3.4")}),
    ],
)
def test_each_setting_declares_one_thing(settings: dict[str, Any], declared: dict[str, Any]) -> None:
    profile = CaProfileSettings(**settings).ca_profile()
    assert profile == CaProfile(**declared)
    assert len(profile.decides) == 1


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"sets_validity_days": 0}, "greater than or equal to 1"),
        ({"sets_validity_days": "90"}, "valid integer"),
        ({"sets_key_usage": ["signing"]}, 'unknown key usage "signing"; known are digitalSignature'),
        ({"sets_key_usage": ["encipherOnly"]}, "key_agreement"),
        ({"sets_ext_key_usage": ["webServer"]}, 'unknown name "webServer"; write a dotted object identifier or one of'),
        ({"keeps_subject": ["CN"]}, 'unknown name "CN"; write a dotted object identifier or one of commonName'),
        ({"keeps_subject": [3]}, "must be text in quotes"),
        ({"adds_extensions": ["1.2.3.x"]}, "not a dotted object identifier"),
        ({"adds_extensions": ["basicConstraints"]}, "basicConstraints is no further one"),
        ({"adds_extensions": ["2.5.29.17"]}, "subjectAltName is no further one"),
    ],
)
def test_what_cannot_be_declared_says_what_can(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        CaProfileSettings(**settings)


def test_its_json_form_is_what_a_person_writes() -> None:
    written = {
        "sets_validity_days": 30,
        "sets_key_usage": ["digitalSignature"],
        "sets_ext_key_usage": ["clientAuth"],
        "keeps_subject": ["commonName"],
        "adds_extensions": ["certificatePolicies"],
    }
    assert CaProfileSettings(**written).model_dump(mode="json") == written


def test_every_key_is_explained() -> None:
    check_settings(CaProfileSettings, {})
