"""Setting x value -> what a client sees from outside, for every key of TLS.

A row fails when its key has no effect. ``[revocation]`` has a table of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from kipuka_core.model.cipher_suites import DEFAULT_CIPHER_SUITES
from tests.startup.starting import check, serve
from tests.tls_settings.settings_kit import BASE, FIPS_SUITES, NO_CONNECTION, Row, make_site, toml_list
from tests.tls_settings.views import PASSWORD, PASSWORD_VARIABLE, TOKEN_VARIABLE, VIEWS, Site, furnish, running_site

pytestmark = pytest.mark.long

AES256, AES128, CHACHA = "AES256-GCM-SHA384", "AES128-GCM-SHA256", "CHACHA20-POLY1305"
ECDSA, RSA = ([f"ECDHE-{kind}-{cipher}" for cipher in (AES256, AES128, CHACHA)] for kind in ("ECDSA", "RSA"))
CHAIN = ["localhost", "Site Server CA"]


@dataclass(frozen=True)
class Refused:
    """The start ends with exit code 1 and one line, which says all of this."""

    says: tuple[str, ...]
    only_by_serve: bool = False


def refused(*says: str) -> Refused:
    return Refused(says)


def files(name: str, table: str = "tls") -> Mapping[str, str]:
    """Another certificate with its key."""
    return {f"{table}.cert": f'"tls/{name}.pem"', f"{table}.key": f'"tls/{name}.key"'}


def together(settings: Mapping[str, str | None], sees: Mapping[str, object]) -> list[Row]:
    """Rows of one deployment: what its value of each of these keys does. A key that is not in it is absent."""
    return [Row(key, settings.get(key, BASE.get(key)), seen, settings) for key, seen in sees.items()]


TLS13 = "TLS_AES_256_GCM_SHA384"
LIVE, PAGE, CHANGE = "GET /admin/health/live", "GET /admin/health", "POST /admin/health"
CONSOLE = "GET /console/"
ADMINS = {"admin.client_auth.trust_anchors": '"admin-ca.pem"'}
ANA, BEN = '["O=Example,CN=Ana", "CN=Ana,O=Example"]', '["CN=Ben,O=Example"]'
OPEN_KEY = {"warnings about tls/open.key": ["tls/open.key: mode 0644 lets others use it; run: chmod 0600 tls/open.key"]}
IDLE_LIST = 'tls.cipher_suites: has no effect, because min_version is "1.3" and TLS 1.3 keeps its own three suites'
MODE_NONE = 'tls.client_auth.mode: "none" is for development only; no client can renew with its certificate'

SERVED = [
    *together(
        {},
        {
            "tls.cert": {"chain": CHAIN},
            "tls.key": {"chain": CHAIN},
            "tls.min_version": {"TLS 1.2": ECDSA[0], "TLS 1.3": TLS13},
            "tls.cipher_suites": {"suites": ECDSA, "warnings about cipher_suites": []},
            "tls.material": {"chain": CHAIN},
            "tls.client_auth.mode": {
                "is asked": True,
                "without certificate": 200,
                "device": 200,
                "stranger": NO_CONNECTION,
                "warnings about mode": [],
            },
            "tls.client_auth.trust_anchors": {
                "device": 200,
                "device without chain": NO_CONNECTION,
                "device of the second CA": NO_CONNECTION,
            },
            "tls.client_auth.trust_own_cas": {"own device": 200},
            "admin.client_auth.mode": {"admin: is asked": False, f"{LIVE} Ana": 200},
            "admin.client_auth.trust_anchors": {f"{PAGE} Ana": 401, f"{PAGE} device": 401},
            "admin.tls.cert": {"admin: chain": CHAIN},
            "admin.tls.key": {"admin: chain": CHAIN},
            "admin.tls.min_version": {"admin: TLS 1.2": ECDSA[0]},
            "admin.tls.cipher_suites": {"admin: suites": ECDSA},
            "server.admin_listen": {"admin addresses": ["127.0.0.1"]},
        },
    ),
    *together(
        {
            **files("other"),
            "tls.min_version": '"1.2"',
            "tls.cipher_suites": toml_list(DEFAULT_CIPHER_SUITES[2:3]),
            "tls.material": '"files"',
            "tls.client_auth.mode": '"optional"',
            "tls.client_auth.trust_anchors": '"both.pem"',
            "tls.client_auth.trust_own_cas": "true",
            **ADMINS,
            **files("rsa", "admin.tls"),
            "admin.tls.cipher_suites": toml_list(FIPS_SUITES),
        },
        {
            "tls.cert": {"chain": ["other", "Site Server CA"]},
            "tls.key": {"chain": ["other", "Site Server CA"]},
            "tls.min_version": {"TLS 1.2": ECDSA[1], "TLS 1.3": TLS13},
            "tls.cipher_suites": {"suites": ECDSA[1:2], "TLS 1.3": TLS13},
            "tls.material": {"chain": ["other", "Site Server CA"]},
            "tls.client_auth.mode": {"is asked": True, "without certificate": 200, "stranger": NO_CONNECTION},
            "tls.client_auth.trust_anchors": {"device": 200, "device of the second CA": 200, "stranger": NO_CONNECTION},
            "tls.client_auth.trust_own_cas": {"own device": 200},
            "admin.client_auth.mode": {"admin: is asked": True, f"{LIVE} without certificate": NO_CONNECTION},
            "admin.client_auth.trust_anchors": {f"{PAGE} Ana": 200, f"{LIVE} device": NO_CONNECTION},
            "admin.operators": {f"{CHANGE} Ana": 405, f"{CHANGE} Ben": 405},
            "admin.console": {f"{CONSOLE} Ana": 200},
            "admin.tls.cert": {"admin: chain": ["rsa", "Site Server CA"]},
            "admin.tls.key": {"admin: suites": RSA[:2]},
            "admin.tls.cipher_suites": {"admin: suites": RSA[:2]},
        },
    ),
    *together(
        {
            "tls.min_version": '"1.3"',
            "tls.cipher_suites": toml_list(DEFAULT_CIPHER_SUITES[:1]),
            "tls.client_auth.mode": '"required"',
            "tls.client_auth.trust_anchors": '"issuing.pem"',
            "admin.tls.min_version": '"1.2"',
            **ADMINS,
            "admin.client_auth.mode": '"optional"',
            "admin.viewers": BEN,
        },
        {
            "tls.min_version": {"TLS 1.2": NO_CONNECTION, "TLS 1.3": TLS13},
            "tls.cipher_suites": {"warnings about cipher_suites": [IDLE_LIST], "TLS 1.3": TLS13},
            "tls.client_auth.mode": {
                "is asked": True,
                "without certificate": NO_CONNECTION,
                "device": 200,
                "stranger": NO_CONNECTION,
            },
            "tls.client_auth.trust_anchors": {"device without chain": 200, "device of the second CA": NO_CONNECTION},
            "admin.client_auth.mode": {
                "admin: is asked": True,
                f"{LIVE} without certificate": 200,
                f"{PAGE} without certificate": 401,
                f"{LIVE} device": NO_CONNECTION,
            },
            "admin.viewers": {f"{PAGE} Ana": 403, f"{PAGE} Ben": 200, f"{CHANGE} Ben": 403},
            "admin.tls.min_version": {"admin: TLS 1.2": ECDSA[0]},
            "admin.tls.cipher_suites": {"admin: suites": ECDSA[:1]},
        },
    ),
    *together(
        {
            **files("locked"),
            "tls.key_password_env": f'"{PASSWORD_VARIABLE}"',
            "tls.cipher_suites": toml_list(DEFAULT_CIPHER_SUITES[::-1]),
            "tls.client_auth.trust_anchors": toml_list(["devices.pem", "second.pem"]),
            "tls.client_auth.trust_own_cas": "false",
            "auth.order": '["otp"]',
            "admin.client_auth.trust_anchors": toml_list(["second.pem", "admin-ca.pem"]),
            "admin.client_auth.mode": '"required"',
            "admin.operators": ANA,
            **files("other", "admin.tls"),
            "admin.tls.min_version": '"1.3"',
        },
        {
            "tls.key_password_env": {"chain": ["locked", "Site Server CA"]},
            "tls.cipher_suites": {"suites": ECDSA[::-1]},
            "tls.client_auth.trust_anchors": {"device": 200, "device of the second CA": 200, "stranger": NO_CONNECTION},
            "tls.client_auth.trust_own_cas": {"own device": NO_CONNECTION},
            "admin.client_auth.mode": {"admin: is asked": True, f"{LIVE} without certificate": NO_CONNECTION},
            "admin.client_auth.trust_anchors": {
                f"{PAGE} Ana": 200,
                f"{LIVE} device of the second CA": 200,
                f"{LIVE} device": NO_CONNECTION,
            },
            "admin.operators": {f"{PAGE} Ana": 200, f"{CHANGE} Ana": 405, f"{PAGE} Ben": 403},
            "admin.tls.min_version": {"admin: TLS 1.2": NO_CONNECTION, "admin: TLS 1.3": TLS13, "TLS 1.2": ECDSA[2]},
        },
    ),
    *together(
        {
            **files("locked"),
            "tls.key_password_file": '"tls/password"',
            "tls.cipher_suites": toml_list(FIPS_SUITES),
            "tls.client_auth.mode": '"none"',
            "tls.client_auth.trust_anchors": None,
            **ADMINS,
            "admin.operators": ANA,
            "admin.viewers": BEN,
            "admin.console": "false",
        },
        {
            "tls.key_password_file": {"chain": ["locked", "Site Server CA"]},
            "tls.cipher_suites": {"suites": ECDSA[:2]},
            "tls.client_auth.mode": {
                "is asked": False,
                "without certificate": 200,
                "stranger": 200,
                "warnings about mode": [MODE_NONE],
                "admin: is asked": True,
            },
            "admin.operators": {f"{CHANGE} Ana": 405},
            "admin.viewers": {f"{PAGE} Ben": 200, f"{CHANGE} Ben": 403},
            "admin.console": {f"{CONSOLE} Ana": 404},
        },
    ),
    *together(
        {
            "tls.client_auth.trust_anchors": '"second.pem"',
            "tls.cipher_suites": toml_list(DEFAULT_CIPHER_SUITES[1:2]),
            "admin.client_auth.trust_anchors": '"issuing.pem"',
            "admin.tls.cipher_suites": toml_list(DEFAULT_CIPHER_SUITES[4:5]),
            "server.strict_permissions": "true",
        },
        {
            "tls.client_auth.trust_anchors": {"device": NO_CONNECTION},
            "tls.cipher_suites": {"suites": []},
            "admin.client_auth.trust_anchors": {f"{PAGE} Ana": NO_CONNECTION, f"{PAGE} device": 200},
            "server.strict_permissions": {"chain": CHAIN},
        },
    ),
    *together(
        {
            **files("open"),
            "tls.min_version": '"1.3"',
            "admin.client_auth.mode": '"none"',
            "server.admin_listen": '"0.0.0.0:0"',
        },
        {
            "server.strict_permissions": OPEN_KEY,
            "admin.tls.min_version": {"admin: TLS 1.2": NO_CONNECTION, "admin: TLS 1.3": TLS13},
            "admin.client_auth.mode": {"admin: is asked": False, f"{LIVE} Ana": 200, f"{PAGE} Ana": 401},
            "server.admin_listen": {"admin addresses": ["127.0.0.1", "127.0.0.2"]},
        },
    ),
    *together(
        {
            "admin.bearer_token_env": f'"{TOKEN_VARIABLE}"',
            "admin.token": '[{ name = "eye", role = "viewer", file = "admin-token" }]',
        },
        {
            "admin.bearer_token_env": {f"{PAGE} token one": 200, f"{CHANGE} token one": 405},
            "admin.token": {f"{PAGE} token two": 200, f"{CHANGE} token two": 403, f"{PAGE} without certificate": 401},
        },
    ),
    *together(
        {"admin.bearer_token_file": '"admin-token"'},
        {"admin.bearer_token_file": {f"{PAGE} token one": 401, f"{CHANGE} token two": 405}},
    ),
    *together(
        {**files("open"), "server.strict_permissions": "false", "server.admin_listen": '"127.0.0.2:0"'},
        {"server.strict_permissions": OPEN_KEY, "server.admin_listen": {"admin addresses": ["127.0.0.2"]}},
    ),
]
NO_SUITES = {
    "TLS_ECDHE_ECDSA_WITH_NOBODYS_CIPHER": "does not know it",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "CBC",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "no forward secrecy",
    "TLS_ECDHE_ECDSA_WITH_NULL_SHA": "encrypts nothing",
    "TLS_DH_anon_WITH_AES_128_GCM_SHA256": "authenticates nobody",
    "TLS_AES_128_GCM_SHA256": "of TLS 1.3",
    "ECDHE-RSA-AES128-GCM-SHA256": "the IANA name is TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
}
LOCKED = files("locked")
REFUSED = [
    Row("tls.cert", '"tls/absent.pem"', refused("tls.cert", "absent.pem", "No such file")),
    Row("tls.cert", None, refused("tls.cert: required")),
    Row("tls.key", '"tls/other.key"', refused("tls.key", "is not the key of the first certificate in")),
    Row("tls.key", None, refused("tls.key: required")),
    Row("tls.key_password_env", '"KIPUKA_TEST_UNSET"', refused("tls.key_password_env", "KIPUKA_TEST_UNSET"), LOCKED),
    Row("tls.key_password_env", None, refused("tls.key", "encrypted", "password"), LOCKED),
    Row("tls.key_password_file", '"tls/wrong-password"', refused("tls.key", "the password is wrong"), LOCKED),
    Row("tls.key_password_file", '"tls/empty-password"', refused("tls.key_password_file", "is empty"), LOCKED),
    Row("tls.key_password_file", '"tls/absent"', refused("tls.key_password_file", "No such file"), LOCKED),
    Row(
        "tls.key_password_file",
        '"tls/password"',
        refused("tls.key_password_file", "tls.key_password_env is set too"),
        {**LOCKED, "tls.key_password_env": f'"{PASSWORD_VARIABLE}"'},
    ),
    *(
        Row(f"{table}.min_version", value, refused(f"{table}.min_version", "RFC 8996", '"1.2"', '"1.3"'))
        for table in ("tls", "admin.tls")
        for value in ('"1.1"', '"1.0"', '"SSLv3"')
    ),
    Row("tls.min_version", "1.2", refused("tls.min_version", "must be text in quotes")),
    *(
        Row(
            f"{table}.cipher_suites",
            toml_list([DEFAULT_CIPHER_SUITES[0], suite]),
            refused(f"{table}.cipher_suites", suite, why, *DEFAULT_CIPHER_SUITES),
        )
        for table in ("tls", "admin.tls")
        for suite, why in NO_SUITES.items()
    ),
    Row("tls.cipher_suites", "[]", refused("tls.cipher_suites", "must not be empty")),
    Row("tls.material", '"tape"', refused("tls", "tape", "files")),
    Row("tls.client_auth.mode", '"maybe"', refused("tls.client_auth.mode", "required", "optional", "none")),
    Row("tls.client_auth.trust_anchors", None, refused("tls.client_auth.trust_anchors", "required")),
    Row("tls.client_auth.trust_own_cas", "false", refused("could never be renewed", "trust_own_cas = true")),
    Row(
        "admin.client_auth.trust_anchors",
        None,
        refused("admin.client_auth.trust_anchors", "required"),
        {"admin.client_auth.mode": '"optional"'},
    ),
    Row("admin.client_auth.mode", '"maybe"', refused("admin.client_auth.mode", "required", "optional", "none")),
    Row("admin.bearer_token_env", '"KIPUKA_TEST_UNSET"', refused("admin.bearer_token_env", "KIPUKA_TEST_UNSET")),
    Row("admin.bearer_token_file", '"devices.pem"', refused("admin.bearer_token_file", "32 to 512", "openssl rand")),
    Row("admin.token", '[{ name = "eye", role = "viewer" }]', refused("admin.token[0]", "either env or file")),
    Row("admin.operators", ANA, refused("admin.operators", "[admin.client_auth]")),
    Row("admin.viewers", BEN, refused("admin.viewers", "[admin.client_auth]")),
    Row("admin.viewers", '["Ben"]', refused("admin.viewers", "RFC 4514"), ADMINS),
    Row("admin.tls.cert", '"tls/other.pem"', refused("admin.tls.key", "required")),
    Row("admin.tls.key", '"tls/rsa.key"', refused("admin.tls.cert", "required")),
    Row("admin.tls.key", '"tls/server.key"', refused("admin.tls.key", "is not the key"), files("other", "admin.tls")),
    Row("server.admin_listen", '"9443"', refused("server.admin_listen", "host:port")),
    Row(
        "server.admin_listen",
        '"127.0.0.1:18443"',
        refused("server.admin_listen", "server.listen"),
        {"server.listen": '"127.0.0.1:18443"'},
    ),
    Row("server.admin_listen", '"192.0.2.1:0"', Refused(("server.admin_listen: 192.0.2.1",), only_by_serve=True)),
    Row("server.strict_permissions", "true", refused("open.key: mode 0644", "chmod 0600"), files("open")),
]
ROWS = [*SERVED, *REFUSED]


def served(row: Row) -> Mapping[str, str]:
    """All keys of the row's file."""
    return {key: value for key, value in {**BASE, **row.settings}.items() if value is not None}


class Servers:
    """One server at a time; rows that stand side by side with the same file share it."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._stack = ExitStack()
        self._settings: Mapping[str, str] = {}

    def of(self, row: Row) -> Site:
        """The site of a row, running."""
        if self._settings != served(row):
            self.close()
            self._site = self._stack.enter_context(running_site(self._factory.mktemp("site"), row.settings))
            self._settings = served(row)
        return self._site

    def close(self) -> None:
        """Stop the server."""
        self._settings = {}
        self._stack.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    found = Servers(tmp_path_factory)
    yield found
    found.close()


@pytest.mark.parametrize("row", SERVED, ids=str)
def test_what_clients_see(row: Row, servers: Servers) -> None:
    assert isinstance(row.sees, Mapping)
    site = servers.of(row)

    assert {view: VIEWS[view](site) for view in row.sees} == row.sees


@pytest.mark.parametrize("row", REFUSED, ids=str)
def test_what_stops_the_start(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(row.sees, Refused)
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    deployment = make_site(tmp_path, row.settings)
    furnish(deployment)

    line = (serve if row.sees.only_by_serve else check)(deployment).only_line()

    assert [text for text in row.sees.says if text not in line] == [], line
    assert PASSWORD not in line
