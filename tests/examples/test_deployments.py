"""Every deployment of ``examples/`` starts as it is, enrols its intended client, and refuses the others."""

from __future__ import annotations

import json
import ssl
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kipuka_core.testing.client import Answer
from kipuka_core.testing.pki import Leaf, make_csr, make_key
from tests.examples.curl_device import CurlDevice
from tests.examples.deployment_kit import (
    ADMIN_CA,
    EXAMPLES,
    OTHER_VENDOR,
    STRANGER,
    VENDOR,
    Site,
    ends_in_the_handshake,
    here,
    is_served,
    running_site,
    signed_by_another_key,
    text_of,
)

pytestmark = pytest.mark.long

PLACES = {
    "server.listen",
    "server.admin_listen",
    "tls.cert",
    "tls.key",
    "tls.client_auth.trust_anchors",
    "admin.client_auth.trust_anchors",
}
"""Keys whose values are a path or an address."""
FOUR_SUITES = ("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256")
"""Those of the four that a server with an ECDSA key has."""
CHACHA = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
ADMINISTRATOR = ADMIN_CA.leaf("ana")
OUTSIDERS = [STRANGER.leaf("outsider"), ADMINISTRATOR]
"""Certificates of CAs that vouch for no device."""


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site("basic", tmp_path_factory.mktemp("basic")) as site:
        yield site


@pytest.fixture(scope="module")
def development(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site("development", tmp_path_factory.mktemp("development")) as site:
        yield site


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site("production", tmp_path_factory.mktemp("production")) as site:
        yield site


@pytest.fixture(scope="module")
def high_security(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site("high-security", tmp_path_factory.mktemp("high-security")) as site:
        yield site


@pytest.fixture(scope="module")
def fips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site("fips", tmp_path_factory.mktemp("fips")) as site:
        yield site


# -- the files ---------------------------------------------------------------------------------------------------------
def test_these_are_all_of_them() -> None:
    assert {file.stem for file in EXAMPLES.iterdir()} == {"basic", "development", "production", "high-security", "fips"}


@pytest.mark.parametrize("file", sorted(EXAMPLES.iterdir()), ids=lambda file: file.stem)
def test_what_runs_here_differs_in_paths_addresses_and_ports_only(file: Path) -> None:
    theirs = flat(tomllib.loads(text_of(file.stem)))
    ours = flat(tomllib.loads(here(text_of(file.stem), Path("/here"))))
    assert {key for key in theirs if theirs[key] != ours[key]} <= PLACES
    assert theirs.keys() == ours.keys()


def flat(table: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


# -- basic -------------------------------------------------------------------------------------------------------------
def test_basic_enrols_with_a_password_and_renews_with_the_certificate_by_curl(basic: Site, tmp_path: Path) -> None:
    device = CurlDevice(basic, tmp_path, "device-1")
    first = device.ask("simpleenroll", "-u", f"device-1:{basic.otp('device-1')}")
    renewed = device.ask("simplereenroll", *device.own())
    assert first.subject == renewed.subject
    assert first.public_key() != renewed.public_key()
    assert basic.warnings() == ""


@pytest.mark.parametrize("vendor", [VENDOR, OTHER_VENDOR], ids=["a root", "an issuing CA"])
def test_basic_enrols_devices_of_every_ca_in_the_file(basic: Site, vendor: Any) -> None:
    device = vendor.leaf("vendor-device")
    enrolled = basic.client(device).enrol(make_csr(device.key, "vendor-device"))
    assert enrolled.certificate().subject == device.certificate.subject


def test_basic_refuses_who_has_neither(basic: Site) -> None:
    csr = make_csr(common_name="nobody")
    assert basic.client().enrol(csr).status == 401
    assert basic.client().enrol(csr, user="nobody", password="guess").status == 401
    assert basic.client().reenrol(csr).status == 401


@pytest.mark.parametrize("outsider", OUTSIDERS, ids=["of a stranger", "of an administrator"])
def test_basic_wants_no_connection_with_a_certificate_that_it_does_not_trust(basic: Site, outsider: Leaf) -> None:
    assert ends_in_the_handshake(basic.client(outsider))


def test_basic_serves_est_everywhere_and_administration_on_this_machine(basic: Site) -> None:
    assert basic.client(address="127.0.0.2").request("GET", "cacerts").status == 200
    assert basic.admin_at[0] == "127.0.0.1"
    assert not is_served(("127.0.0.2", basic.admin_at[1]))


# -- administrators, where there are some ------------------------------------------------------------------------------
@pytest.fixture(params=["basic", "production", "high_security"])
def administered(request: pytest.FixtureRequest) -> Site:
    site = request.getfixturevalue(request.param)
    assert isinstance(site, Site)
    return site


def test_an_administrator_is_answered(administered: Site) -> None:
    assert health(administered.admin(ADMINISTRATOR).request("GET", "health"))["status"] == "healthy"
    assert administered.admin(ADMINISTRATOR).request("GET", "cas").status == 200


@pytest.mark.parametrize("leaf", [None, VENDOR.leaf("device"), STRANGER.leaf("ana")], ids=["none", "device", "strange"])
def test_nobody_else_reaches_the_admin_listener(administered: Site, leaf: Leaf | None) -> None:
    assert ends_in_the_handshake(administered.admin(leaf), "health/live")


@pytest.mark.parametrize("name", ["basic", "production"])
def test_a_device_that_enrolled_here_is_no_administrator(name: str, request: pytest.FixtureRequest) -> None:
    site = request.getfixturevalue(name)
    assert ends_in_the_handshake(site.admin(site.enrolled("ambitious")), "health")


# -- development -------------------------------------------------------------------------------------------------------
def test_development_enrols_with_a_password_by_curl(development: Site, tmp_path: Path) -> None:
    device = CurlDevice(development, tmp_path, "device-1")
    device.ask("simpleenroll", "-u", f"device-1:{development.otp('device-1')}")


def test_development_enrols_a_client_that_cannot_sign_its_request_yet(development: Site) -> None:
    csr = signed_by_another_key("clumsy")
    answer = development.client().enrol(csr, user="clumsy", password=development.otp("clumsy"))
    assert answer.certificate().subject.rfc4514_string() == "CN=clumsy"


def test_development_says_of_each_that_it_is_not_for_production(development: Site) -> None:
    said = development.warnings()
    assert "tls.client_auth.mode" in said
    assert "require_proof_of_possession: false" in said
    assert "nobody has an admin credential" in said
    assert "id-kp-cmcRA" not in said


def test_development_asks_nobody_for_a_certificate(development: Site) -> None:
    with_one = development.client(STRANGER.leaf("outsider"))  # where one is asked for, this is the end
    assert with_one.request("GET", "cacerts").status == 200
    assert with_one.reenrol(make_csr(common_name="outsider")).status == 401


def test_development_serves_this_machine_and_nobody_without_a_password(development: Site) -> None:
    assert development.est[0] == development.admin_at[0] == "127.0.0.1"
    assert not is_served(("127.0.0.2", development.est[1]))
    assert development.client().enrol(make_csr(common_name="nobody")).status == 401


@pytest.fixture(params=["development", "fips"])
def unadministered(request: pytest.FixtureRequest) -> Site:
    site = request.getfixturevalue(request.param)
    assert isinstance(site, Site)
    return site


@pytest.mark.parametrize("leaf", [None, ADMINISTRATOR], ids=["none", "of an administrator elsewhere"])
def test_without_an_admin_ca_there_are_two_health_pages(unadministered: Site, leaf: Leaf | None) -> None:
    client = unadministered.admin(leaf)
    assert client.request("GET", "health/live").status == 200
    assert client.request("GET", "health/ready").status == 200
    assert client.request("GET", "health").status == 401
    assert client.request("GET", "cas").status == 401


# -- production --------------------------------------------------------------------------------------------------------
def test_production_enrols_with_a_password_and_renews_with_the_certificate(production: Site) -> None:
    device = production.enrolled("device-1")
    renewed = production.client(device).reenrol(make_csr(make_key("ecdsa384"), "device-1"))
    assert renewed.certificate().subject == device.certificate.subject
    assert production.warnings() == ""


def test_production_certifies_four_key_types_with_proof_of_possession_and_no_others(production: Site) -> None:
    password = production.otp("device-2", "--max-usage", "4")  # refusals do not use it up

    def enrol(csr: bytes) -> Answer:
        return production.client().enrol(csr, user="device-2", password=password)

    for key_type in ("rsa3072", "ecdsa521", "ed25519"):
        answer = enrol(make_csr(make_key(key_type), "device-2"))
        assert (key_type, answer.status, "rsa2048, rsa4096" in answer.text) == (key_type, 400, True)
    stolen = enrol(signed_by_another_key("device-2"))
    assert (stolen.status, "not signed by the private key" in stolen.text) == (400, True)
    for key_type in ("rsa2048", "rsa4096", "ecdsa256", "ecdsa384"):
        assert enrol(make_csr(make_key(key_type), "device-2")).status == 200


def test_production_serves_administration_at_its_own_address(production: Site) -> None:
    assert production.admin_at[0] == "127.0.0.10"
    assert not is_served(("127.0.0.1", production.admin_at[1]))
    assert production.client(address="127.0.0.2").request("GET", "cacerts").status == 200


@pytest.fixture(params=["production", "fips"])
def with_four_suites(request: pytest.FixtureRequest) -> Site:
    site = request.getfixturevalue(request.param)
    assert isinstance(site, Site)
    return site


@pytest.mark.parametrize("suite", FOUR_SUITES)
def test_aes_gcm_is_spoken_with_tls_1_2(with_four_suites: Site, suite: str) -> None:
    client = with_four_suites.client(VENDOR.leaf("device"), tls="1.2", suites=suite)
    assert client.request("GET", "cacerts").status == 200


def test_chacha20_is_not_spoken_with_tls_1_2(with_four_suites: Site, basic: Site) -> None:
    device = VENDOR.leaf("device")
    assert ends_in_the_handshake(with_four_suites.client(device, tls="1.2", suites=CHACHA))
    assert not ends_in_the_handshake(basic.client(device, tls="1.2", suites=CHACHA))  # where the default holds


# -- high security -----------------------------------------------------------------------------------------------------
def test_high_security_enrols_a_device_with_a_certificate_and_renews_by_curl(
    high_security: Site, tmp_path: Path
) -> None:
    device = CurlDevice(high_security, tmp_path, "device-1", curve="P-384")
    first = device.ask("simpleenroll", "--tlsv1.3", *device.bring(VENDOR.leaf("device-1", key_type="ecdsa384")))
    device.ask("simplereenroll", "--tlsv1.3", *device.own())
    assert (first.not_valid_after_utc - first.not_valid_before_utc).days <= 365
    assert high_security.warnings() == ""


def test_high_security_speaks_tls_1_3_only(high_security: Site) -> None:
    device = VENDOR.leaf("device")
    assert not ends_in_the_handshake(high_security.client(device, tls="1.3"))
    assert ends_in_the_handshake(high_security.client(device, tls="1.2"))


def test_high_security_refuses_other_keys_and_requests_without_a_name(high_security: Site) -> None:
    device = VENDOR.leaf("device-2", key_type="ecdsa384")
    p256 = high_security.client(device).enrol(make_csr(make_key("ecdsa256"), "device-2", ["dns:device-2"]))
    assert (p256.status, "ecdsa384" in p256.text) == (400, True)
    no_san = high_security.client(device).enrol(make_csr(device.key, "device-2"))
    assert (no_san.status, "SubjectAltName" in no_san.text) == (400, True)


def test_high_security_serves_one_address(high_security: Site) -> None:
    assert high_security.est[0] == "127.0.0.20"
    assert not is_served(("127.0.0.1", high_security.est[1]))
    assert high_security.admin_at[0] == "127.0.0.1"


# -- where a certificate is required -----------------------------------------------------------------------------------
@pytest.fixture(params=["high_security", "fips"])
def closed(request: pytest.FixtureRequest) -> Site:
    site = request.getfixturevalue(request.param)
    assert isinstance(site, Site)
    return site


@pytest.mark.parametrize("leaf", [None, *OUTSIDERS], ids=["none", "of a stranger", "of an administrator"])
def test_without_a_certificate_of_a_device_there_is_no_connection(closed: Site, leaf: Leaf | None) -> None:
    assert ends_in_the_handshake(closed.client(leaf))


def test_a_password_alone_enrols_nobody(closed: Site) -> None:
    client, password = closed.client(), closed.otp("hopeful")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        client.enrol(make_csr(make_key("ecdsa384"), "hopeful", ["dns:hopeful"]), user="hopeful", password=password)


def test_a_device_gets_no_name_of_another(closed: Site) -> None:
    device = VENDOR.leaf("device-3", key_type="ecdsa384")
    assert closed.client(device).enrol(make_csr(device.key, "device-4", ["dns:device-4"])).status == 403


# -- FIPS --------------------------------------------------------------------------------------------------------------
def test_fips_enrols_a_device_with_a_certificate_and_renews(fips: Site) -> None:
    device = VENDOR.leaf("device-1", key_type="rsa2048")
    enrolled = fips.client(device).enrol(make_csr(make_key("rsa2048"), "device-1"))
    key = make_key("ecdsa256")
    first = Leaf(fips.client(device).enrol(make_csr(key, "device-1")).certificate(), key)
    assert enrolled.certificate().subject == first.certificate.subject
    assert fips.client(first).reenrol(make_csr(key, "device-1")).status == 200


@pytest.mark.parametrize("key_type", ["rsa3072", "ed25519"])
def test_fips_refuses_other_keys(fips: Site, key_type: str) -> None:
    answer = fips.client(VENDOR.leaf("device-2")).enrol(make_csr(make_key(key_type), "device-2"))
    assert answer.status == 400


def test_fips_serves_administration_at_its_own_address(fips: Site) -> None:
    assert fips.admin_at[0] == "127.0.0.10"
    assert not is_served(("127.0.0.1", fips.admin_at[1]))
    assert "nobody has an admin credential" in fips.warnings()


def health(answer: Answer) -> Any:
    assert answer.status == 200
    return json.loads(answer.body)
