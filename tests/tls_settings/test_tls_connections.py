"""What connections have whatever is configured: suites, preference, no renegotiation, no compression, resumption."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kipuka_core.model.cipher_suites import TLS12_SUITES, TLS13_SUITES, CipherSuite
from tests.tls_settings.settings_kit import (
    CACERTS,
    FIPS_SUITES,
    NO_CONNECTION,
    Seen,
    client_context,
    look,
    toml_list,
)
from tests.tls_settings.views import CLIENTS, HEALTH, Site, openssl_says, running_site, suites

pytestmark = pytest.mark.long

LISTENERS = ("est", "admin")
each_listener = pytest.mark.parametrize("listener", LISTENERS)
each_version = pytest.mark.parametrize("tls", ["1.2", "1.3"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """EST with an ECDSA key and the default list; the admin listener with an RSA key and the FIPS list."""
    settings = {
        "admin.tls.cert": '"tls/rsa.pem"',
        "admin.tls.key": '"tls/rsa.key"',
        "admin.tls.cipher_suites": toml_list(FIPS_SUITES),
        "admin.client_auth.mode": '"optional"',
        "admin.client_auth.trust_anchors": '"admin-ca.pem"',
    }
    with running_site(tmp_path_factory.mktemp("site"), settings) as running:
        yield running


@pytest.fixture(scope="module")
def rsa_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """EST with an RSA key, for enrolled clients only."""
    settings = {"tls.cert": '"tls/rsa.pem"', "tls.key": '"tls/rsa.key"', "tls.client_auth.mode": '"required"'}
    with running_site(tmp_path_factory.mktemp("rsa"), settings) as running:
        yield running


@pytest.mark.parametrize("suite", TLS12_SUITES, ids=lambda suite: suite.iana)
def test_each_default_suite_is_spoken_with_the_key_that_it_is_for(
    suite: CipherSuite, site: Site, rsa_site: Site
) -> None:
    right, wrong = (site, rsa_site) if "_ECDSA_" in suite.iana else (rsa_site, site)

    def seen(at: Site) -> Seen | str:
        context = client_context(at.directory, CLIENTS["device"], tls="1.2", suites=suite.openssl)
        return look(at.port("est"), context)

    spoken = seen(right)
    assert isinstance(spoken, Seen)
    assert (spoken.version, spoken.suite, spoken.status) == ("TLSv1.2", suite.openssl, 200)
    assert seen(wrong) == NO_CONNECTION


def test_the_fips_list_has_no_chacha20_on_tls_1_2(site: Site) -> None:
    assert suites(site, "admin") == ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"]
    chacha = "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-CHACHA20-POLY1305"
    assert look(site.port("admin"), client_context(site.directory, tls="1.2", suites=chacha)) == NO_CONNECTION


@each_listener
@pytest.mark.parametrize("suite", TLS13_SUITES, ids=lambda suite: suite.iana)
def test_tls_1_3_keeps_its_three_suites_whatever_the_list_says(suite: CipherSuite, listener: str, site: Site) -> None:
    said = openssl_says(site, listener, "-tls1_3", "-ciphersuites", suite.iana)

    assert f"New, TLSv1.3, Cipher is {suite.iana}" in said


@each_listener
def test_the_servers_order_decides_on_tls_1_3_too(listener: str, site: Site) -> None:
    clients = ":".join(suite.iana for suite in reversed(TLS13_SUITES))

    assert f"Cipher is {TLS13_SUITES[0].iana}" in openssl_says(site, listener, "-tls1_3", "-ciphersuites", clients)


@each_listener
@pytest.mark.parametrize("option", ["-tls1", "-tls1_1"])
def test_tls_1_0_and_1_1_are_not_spoken(option: str, listener: str, site: Site) -> None:
    said = openssl_says(site, listener, option, "-cipher", "ALL:@SECLEVEL=0")

    assert "alert protocol version" in said
    assert "Cipher is (NONE)" in said


LAX = """\
openssl_conf = top
[top]
ssl_conf = ssl
[ssl]
system_default = lax
[lax]
MinProtocol = TLSv1
CipherString = ALL:@SECLEVEL=0
Options = ClientRenegotiation,UnsafeLegacyRenegotiation,Compression,-ServerPreference
"""


def test_an_openssl_cnf_that_allows_everything_changes_nothing(tmp_path: Path) -> None:
    lax = tmp_path / "lax.cnf"
    lax.write_text(LAX)
    directory = tmp_path / "site"
    directory.mkdir()
    with running_site(directory, OPENSSL_CONF=str(lax)) as site:
        for listener in LISTENERS:
            for option in ("-tls1", "-tls1_1"):
                assert "alert protocol version" in openssl_says(site, listener, option, "-cipher", "ALL:@SECLEVEL=0")
            assert suites(site, listener) == [suite.openssl for suite in TLS12_SUITES if "_ECDSA_" in suite.iana]
            said = openssl_says(site, listener, "-tls1_2", stdin=b"R\n")
            assert "no renegotiation" in said
            assert "Compression: NONE" in said


@each_listener
def test_a_client_cannot_renegotiate_but_renegotiation_would_be_secure(listener: str, site: Site) -> None:
    said = openssl_says(site, listener, "-tls1_2", stdin=b"R\n")

    assert "Secure Renegotiation IS supported" in said
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said


@each_listener
def test_nothing_is_compressed(listener: str, site: Site) -> None:
    said = openssl_says(site, listener, "-tls1_2", "-comp")

    assert "Compression: NONE" in said


@each_version
@pytest.mark.parametrize("client", ["without certificate", "device"])
def test_sessions_are_resumed_where_certificates_are_optional(client: str, tls: str, site: Site) -> None:
    assert resumes(site, "est", client, tls)


@each_version
def test_sessions_are_resumed_where_certificates_are_required(tls: str, rsa_site: Site) -> None:
    assert resumes(rsa_site, "est", "device", tls)


@each_version
def test_sessions_are_resumed_by_administrators(tls: str, site: Site) -> None:
    assert resumes(site, "admin", "Ana", tls, HEALTH)


def resumes(site: Site, listener: str, client: str, tls: str, path: str = CACERTS) -> bool:
    """Whether a second connection resumes the session of the first, and a third that of the second; all get 200."""
    context = client_context(site.directory, CLIENTS[client], tls=tls)
    session, reused = None, []
    for _ in range(3):
        seen = look(site.port(listener), context, path, session=session)
        assert isinstance(seen, Seen)
        assert seen.status == 200
        session = seen.session
        assert session is not None
        assert session.has_ticket
        reused.append(seen.reused)
    return reused == [False, True, True]
