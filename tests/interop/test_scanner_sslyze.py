"""sslyze before running servers: it finds what is configured, and nothing that is known to be weak."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from kipuka_core.model.cipher_suites import DEFAULT_CIPHER_SUITES, TLS13_SUITES
from kipuka_core.testing.server import RunningServer, running_server
from tests.interop.scanners import OLD_VERSIONS, SslyzeScan, scan_by_sslyze
from tests.startup.starting import write_server
from tests.tls_settings.settings_kit import DEVICE_ROOT, FIPS_SUITES, make_site, server_leaf, toml_list

pytestmark = pytest.mark.interop

ECDSA, RSA = "_ECDSA_", "_RSA_"
ALL_TLS13 = {suite.iana for suite in TLS13_SUITES}
# What CPython cannot narrow down: the groups that OpenSSL offers by itself.
CURVES = {"X25519", "X448", "secp256r1", "secp384r1", "secp521r1"}


@dataclass(frozen=True, slots=True)
class Target:
    """A listener and what a scanner has to find there; ``suites`` are those of TLS 1.2, none: it is not spoken."""

    server: str
    suites: frozenset[str]
    listener: str = "est"
    client_auth: str = "OPTIONAL"
    profile: str = "intermediate"

    def port(self, servers: Mapping[str, RunningServer]) -> int:
        running = servers[self.server]
        return running.est_port if self.listener == "est" else running.admin_port


def only(kind: str, suites: tuple[str, ...] = DEFAULT_CIPHER_SUITES) -> frozenset[str]:
    """Those that a server with a key of this kind can use."""
    return frozenset(suite for suite in suites if kind in suite)


SERVERS: dict[str, dict[str, str | None]] = {
    "default": {},
    "default with an RSA key": {},
    "FIPS list": {"tls.cipher_suites": toml_list(FIPS_SUITES)},
    "TLS 1.3 only": {
        "tls.min_version": '"1.3"',
        "admin.tls.min_version": '"1.2"',
        "admin.tls.cipher_suites": toml_list(FIPS_SUITES[2:3]),
        "admin.client_auth.trust_anchors": '"devices.pem"',
    },
    "required": {"tls.client_auth.mode": '"required"'},
}
TARGETS = {
    "default": Target("default", only(ECDSA)),
    "default with an RSA key": Target("default with an RSA key", only(RSA)),
    "FIPS list": Target("FIPS list", only(ECDSA, FIPS_SUITES)),
    "TLS 1.3 only": Target("TLS 1.3 only", frozenset(), profile="modern"),
    "client_auth required": Target("required", only(ECDSA), client_auth="REQUIRED"),
    "admin listener as [tls]": Target("default", only(ECDSA), listener="admin", client_auth="DISABLED"),
    "admin listener with TLS of its own": Target(
        "TLS 1.3 only", only(ECDSA, FIPS_SUITES[2:3]), listener="admin", client_auth="REQUIRED"
    ),
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, SslyzeScan]]:
    """All targets, in one run of sslyze for each profile and for those that need a client certificate."""
    directory = tmp_path_factory.mktemp("sslyze")
    with ExitStack() as stack:
        servers = {}
        for number, (name, settings) in enumerate(SERVERS.items()):
            deployment = make_site(directory / str(number), settings)
            if "RSA" in name:
                write_server(deployment, server_leaf("rsa2048"))
            servers[name] = stack.enter_context(running_server(deployment))
        runs: dict[tuple[str, bool], list[str]] = {}
        for name, target in TARGETS.items():
            runs.setdefault((target.profile, target.client_auth == "REQUIRED"), []).append(name)

        def scan(profile: str, with_certificate: bool, names: list[str]) -> dict[str, SslyzeScan]:
            ports = [TARGETS[name].port(servers) for name in names]
            # By the root itself: sslyze's client for SSL 2.0 fails when it is to send an intermediate.
            leaf = DEVICE_ROOT.leaf("scanner") if with_certificate else None
            reports = tmp_path_factory.mktemp("reports")
            found = scan_by_sslyze(ports, directory / "0" / "site-root.pem", reports, profile=profile, leaf=leaf)
            return dict(zip(names, found, strict=True))

        with ThreadPoolExecutor() as pool:
            futures = [pool.submit(scan, *how, names) for how, names in runs.items()]
            yield {name: found for future in futures for name, found in future.result().items()}


each_target = pytest.mark.parametrize("name", TARGETS)


@each_target
def test_versions_and_suites_are_those_that_are_configured(name: str, scans: dict[str, SslyzeScan]) -> None:
    scan, target = scans[name], TARGETS[name]

    assert [version for version in OLD_VERSIONS if scan.offers(version)] == []
    assert scan.offers("tls_1_2") == bool(target.suites)
    assert scan.suites("tls_1_2") == target.suites
    assert scan.offers("tls_1_3")
    assert scan.suites("tls_1_3") == ALL_TLS13
    assert scan.client_auth == target.client_auth


@each_target
def test_no_known_weakness_is_found(name: str, scans: dict[str, SslyzeScan]) -> None:
    scan = scans[name]

    assert not scan.found("heartbleed.is_vulnerable_to_heartbleed")
    assert not scan.found("openssl_ccs_injection.is_vulnerable_to_ccs_injection")
    assert scan.found("robot.robot_result") == "NOT_VULNERABLE_RSA_NOT_SUPPORTED"
    assert not scan.found("tls_compression.supports_compression")
    assert not scan.found("session_renegotiation.is_vulnerable_to_client_renegotiation_dos")
    assert scan.found("session_renegotiation.client_renegotiations_success_count") == 0
    assert not scan.found("tls_1_3_early_data.supports_early_data")
    assert scan.found("tls_fallback_scsv.supports_fallback_scsv")


@each_target
def test_tls_1_2_has_what_makes_it_sound(name: str, scans: dict[str, SslyzeScan]) -> None:
    scan, has_tls12 = scans[name], bool(TARGETS[name].suites)

    assert scan.found("session_renegotiation.supports_secure_renegotiation") or not has_tls12
    assert scan.found("tls_extended_master_secret.supports_ems_extension") or not has_tls12
    if has_tls12:
        assert scan.found("session_resumption.tls_ticket_resumption_result") == "FULLY_SUPPORTED"


@each_target
def test_keys_are_exchanged_on_modern_curves_only(name: str, scans: dict[str, SslyzeScan]) -> None:
    assert {curve["name"] for curve in scans[name].found("elliptic_curves.supported_curves")} == CURVES


@each_target
def test_the_certificate_chain_is_in_order_and_verifies(name: str, scans: dict[str, SslyzeScan]) -> None:
    (deployment,) = scans[name].found("certificate_info.certificate_deployments")

    assert deployment["received_chain_has_valid_order"]
    assert not deployment["received_chain_contains_anchor_certificate"]
    assert len(deployment["received_certificate_chain"]) == 2
    assert len(deployment["verified_certificate_chain"]) == 3
    assert not deployment["verified_chain_has_sha1_signature"]


@each_target
def test_mozillas_profile_is_kept_but_for_two_curves(name: str, scans: dict[str, SslyzeScan]) -> None:
    # secp521r1 and X448 are no weakness: Mozilla leaves out what browsers do not need.
    assert scans[name].profile_issues == {"tls_curves"}
