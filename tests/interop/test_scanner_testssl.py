"""testssl.sh before running servers with the default suites and with the FIPS list."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from kipuka_core.model.cipher_suites import TLS12_SUITES, TLS13_SUITES
from kipuka_core.testing.server import running_server
from tests.interop.scanners import Findings, scan_by_testssl
from tests.startup.starting import write_server
from tests.tls_settings.settings_kit import CACERTS, FIPS_SUITES, make_site, server_leaf, toml_list

pytestmark = pytest.mark.interop

SERVERS: dict[str, tuple[str, dict[str, str | None]]] = {
    "default": ("ecdsa256", {}),
    "FIPS list": ("rsa2048", {"tls.cipher_suites": toml_list(FIPS_SUITES)}),
}
OFFERED = {
    "default": [suite for suite in TLS12_SUITES if "_ECDSA_" in suite.iana],
    "FIPS list": [suite for suite in TLS12_SUITES[:4] if "_RSA_" in suite.iana],
}
"""In order of preference."""
FLAWS = (
    "heartbleed", "CCS", "ticketbleed", "ROBOT", "CRIME_TLS", "BREACH", "POODLE_SSL", "SWEET32", "FREAK", "DROWN",
    "LOGJAM", "BEAST", "LUCKY13", "RC4",
)  # fmt: skip
NO_FLAWS = {
    "engine_problem": "of testssl.sh's own openssl",
    "sessionresumption_ticket": "its check cannot talk to openssl 3; sslyze and tests/tls_settings see it work",
    "cert_revocation": "the CA of this test has no CRL and no OCSP responder",
    "HSTS": "for browsers; EST clients are none",
    "security_headers": "for browsers",
}
"""What else than ``OK`` and ``INFO`` it says, and why nothing follows from it."""


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Findings]]:
    """Both servers, scanned side by side."""
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        futures = {}
        for name, (key_type, settings) in SERVERS.items():
            directory = tmp_path_factory.mktemp("testssl")
            deployment = make_site(directory, settings)
            write_server(deployment, server_leaf(key_type))
            port = stack.enter_context(running_server(deployment)).est_port
            ca_file = directory / "site-root.pem"
            futures[name] = pool.submit(scan_by_testssl, port, ca_file, directory, path=CACERTS)
        yield {name: future.result() for name, future in futures.items()}


each_server = pytest.mark.parametrize("name", SERVERS)


@each_server
def test_versions_and_suites_are_those_that_are_configured(name: str, scans: dict[str, Findings]) -> None:
    found, expected = scans[name], OFFERED[name]

    for old in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
        assert found[old] == "not offered"
        assert found.suites(old.lower()) == []
    assert found["TLS1_2"] == "offered"
    assert sorted(found.suites("tls1_2")) == sorted(suite.iana for suite in expected)
    assert found["TLS1_3"] == "offered with final"
    assert sorted(found.suites("tls1_3")) == sorted(suite.iana for suite in TLS13_SUITES)


@each_server
def test_the_order_is_the_servers(name: str, scans: dict[str, Findings]) -> None:
    found = scans[name]

    assert found["cipher_order"] == "server"
    assert found["cipherorder_TLSv1_2"].split() == [suite.openssl for suite in OFFERED[name]]
    assert found["cipherorder_TLSv1_3"].split() == [suite.openssl for suite in TLS13_SUITES]


@each_server
def test_no_known_flaw_is_found(name: str, scans: dict[str, Findings]) -> None:
    found = scans[name]

    for flaw in FLAWS:
        assert found[flaw].startswith("not vulnerable"), f"{flaw}: {found[flaw]}"
    assert {each.id: each.text for each in found.all if each.severity not in {"OK", "INFO"}}.keys() <= NO_FLAWS.keys()


@each_server
def test_renegotiation_is_secure_and_not_the_clients_and_nothing_is_compressed(
    name: str, scans: dict[str, Findings]
) -> None:
    found = scans[name]

    assert found["secure_renego"] == "supported"
    assert found["secure_client_renego"] == "not vulnerable"
    assert found["CRIME_TLS"] == "not vulnerable"
    assert found["BREACH"].startswith("not vulnerable, no HTTP compression")


@each_server
def test_the_certificate_and_its_chain_are_as_they_should_be(name: str, scans: dict[str, Findings]) -> None:
    found = scans[name]

    assert found["cert_chain_of_trust"] == "passed."
    assert found["cert_trust"] == "Ok via SAN (same w/o SNI)"
    assert found["cert_extKeyUsage"] == "TLS Web Server Authentication, CMC Registration Authority"
    assert (found["certs_countServer"], found["certs_list_ordering_problem"]) == ("2", "no")
