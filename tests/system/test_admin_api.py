"""The admin API end to end: who gets in, the names in its JSON, and requests that are not what a console sends."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from typing import Any, cast

import pytest
from cryptography import x509

from kipuka_core.testing.client import basic
from kipuka_core.testing.pki import Authority, Leaf, make_csr, make_key, make_root, name
from tests.system.admin_kit import ADMIN_CA, ADMIN_ROOT, ANA, BEN, EVE, admin, json_of
from tests.system.system_kit import PKCS10, System, deploy, embedded_ca, serving

LISTED_ROOT: Authority = make_root("Listed Root CA")
UNLISTED_CA = LISTED_ROOT.subordinate("CA below the listed root")
ADMINISTRATORS = """
[[est.label]]
name = "factory"
[admin]
operators = ["CN=Ana,O=Example"]
viewers = ["CN=Ben,O=Example"]
[admin.client_auth]
mode = "optional"
trust_anchors = ["admin-ca.pem", "listed-root.pem", "state/ca/issuing.pem", "state/ca/root.pem", "cross-signed.pem"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A server whose admin anchors list more than they should: its own CAs too."""
    deployment = deploy(tmp_path_factory.mktemp("admin") / "deployment", ADMINISTRATORS)
    anchors = {"admin-ca.pem": ADMIN_CA, "listed-root.pem": LISTED_ROOT}
    anchors["cross-signed.pem"] = ADMIN_ROOT.certify(embedded_ca(deployment))
    for file, authority in anchors.items():
        (deployment.directory / file).write_bytes(authority.pem)
    with serving(deployment) as running:
        yield running


def get(site: System, path: str, leaf: Leaf | None = ANA, *, status: int = 200) -> Any:
    return json_of(admin(site, leaf=leaf).request("GET", path), status)


def refusals(site: System) -> list[dict[str, Any]]:
    return [fact for fact in site.audit() if fact["event"] == "admin_refused"]


PART = {"status", "detail", "latency_ms"}
CA = {"id", "is_default", "key_type", "hash_algorithm", "validity_days", "health", "hsm_backed"}
CERTIFICATE = {"subject", "issuer", "serial", "not_before", "not_after"}
CONTRACT = [
    (
        "health",
        {"status", "version", "uptime_secs", "database", "hsm", "ca_count", "healthy_ca_count", "warnings"},
    ),
    ("health/db", {"name", *PART}),
    ("health/hsm", {"status"}),
    ("health/ca", {"status", "ca_count", "healthy_ca_count", "cas"}),
    ("health/live", {"status"}),
    ("health/ready", {"status", "failing"}),
    ("cas", CA),
    ("cas/default", CA | CERTIFICATE),
    ("cas/default/health", {"id", *PART}),
    (
        "plugins",
        {
            *("name", "distribution", "version", "kind", "enabled", "status"),
            *("api_version", "table", "settings", "problem"),
        },
    ),
]


@pytest.mark.parametrize(("path", "names"), CONTRACT, ids=[path for path, _ in CONTRACT])
@pytest.mark.parametrize("leaf", [ANA, BEN], ids=["operator", "viewer"])
def test_the_names_in_the_json_are_those_of_the_contract(site: System, path: str, names: set[str], leaf: Leaf) -> None:
    body = get(site, path, leaf)
    for entry in body if isinstance(body, list) else [body]:
        assert set(entry) == names


def test_the_values_are_those_of_this_server(site: System) -> None:
    health = get(site, "health")
    assert health["status"] == "healthy"
    assert health["hsm"] is None
    assert set(health["database"]) == {"name", *PART}
    assert (health["database"]["name"], health["database"]["status"]) == ("sqlite", "healthy")
    assert (health["ca_count"], health["healthy_ca_count"]) == (1, 1)
    assert isinstance(health["uptime_secs"], int)
    assert any("CN=Ana" not in warning and "is an issuer of a [[ca]]" in warning for warning in health["warnings"])
    assert get(site, "health/hsm") == {"status": "not_configured"}
    (of_health,) = get(site, "health/ca")["cas"]
    assert of_health["id"] == "default"

    (ca,) = get(site, "cas")
    assert ca == {
        "id": "default",
        "is_default": True,
        "key_type": "ecdsa256",
        "hash_algorithm": "sha256",
        "validity_days": 365,
        "health": "healthy",
        "hsm_backed": False,
    }
    one = get(site, "cas/default")
    assert {key: one[key] for key in ca} == ca
    assert one["serial"] == f"{site.issuing_ca.serial_number:x}"
    assert one["subject"] == site.issuing_ca.subject.rfc4514_string()
    assert one["not_after"] == f"{site.issuing_ca.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"


def test_the_chain_is_pem_and_that_of_cacerts(site: System) -> None:
    answer = admin(site, leaf=ANA).request("GET", "cas/default/chain")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/pem-certificate-chain")
    chain = x509.load_pem_x509_certificates(answer.body)
    assert chain == [site.issuing_ca, site.root_ca]
    assert set(site.client().request("GET", "cacerts").certificates()) == set(chain)


def test_plugins_say_what_is_used_and_what_is_idle(site: System) -> None:
    status = {(each["kind"], each["name"]): each["status"] for each in get(site, "plugins")}
    assert status["ca_backend", "local"] == "active"
    assert status["authenticator", "otp"] == "active"
    assert status["authenticator", "basic"] == "idle"
    assert status["tls_material", "files"] == "active"


def test_plugins_say_where_their_settings_are_and_not_what_they_are(site: System) -> None:
    found = {(each["kind"], each["name"]): each for each in get(site, "plugins")}
    local = found["ca_backend", "local"]
    assert (local["api_version"], local["table"], local["problem"]) == (1, '[[ca]] backend = "local"', None)
    assert local["settings"][:3] == ["cert", "key", "chain"]
    assert found["authenticator", "otp"]["table"] == "[auth.otp]"
    hsm = found[None, "hsm"]
    assert (hsm["status"], hsm["api_version"], hsm["table"], hsm["settings"]) == ("disabled", None, None, [])


@pytest.mark.parametrize(
    "path", ["cas/none", "cas/none/chain", "cas/none/health", "cas/none/crl", "nowhere", "certs/none"]
)
def test_what_is_not_there_is_404_in_json(site: System, path: str) -> None:
    assert get(site, path, status=404)["error"] == "not_found"


def test_a_viewer_changes_nothing_and_an_unknown_subject_sees_nothing(site: System) -> None:
    for method in ("POST", "PUT", "DELETE"):
        forbidden = json_of(admin(site, leaf=BEN).request(method, "cas"), 403)
        assert forbidden["error"] == "forbidden"
        assert json_of(admin(site, leaf=ANA).request(method, "cas"), 405)["error"] == "method_not_allowed"
    assert get(site, "health", EVE, status=403)["error"] == "forbidden"
    assert {"viewer", "not_listed"} <= {fact["code"] for fact in refusals(site)}


def test_no_device_is_an_administrator_although_its_ca_is_listed(site: System) -> None:
    enrolled = site.enrolled("no-admin")
    # Never recorded, and named like an operator: by the own CA, by its root, and with the cross-signed CA in its chain.
    unrecorded = site.own_ca.leaf(subject=name("Ana", O="Example"))
    cross_signed = ADMIN_ROOT.certify(site.own_ca).leaf(subject=name("Ana", O="Example"))
    for leaf in (enrolled, unrecorded, cross_signed):
        before = len(refusals(site))
        assert get(site, "health", leaf, status=401)["error"] == "unauthorized"
        (fact,) = refusals(site)[before:]
        assert (fact["code"], fact["path"], fact["source_address"]) == (
            "enrolment_certificate",
            "/admin/health",
            "127.0.0.1",
        )


def test_the_direct_issuer_has_to_be_listed(site: System) -> None:
    ana = name("Ana", O="Example")
    assert get(site, "health", LISTED_ROOT.leaf(subject=ana))["status"] == "healthy"
    assert get(site, "health", UNLISTED_CA.leaf(subject=ana), status=401)["error"] == "unauthorized"
    assert refusals(site)[-1]["code"] == "unknown_issuer"


def test_an_administrator_s_certificate_gives_no_right_to_enrol(site: System) -> None:
    for path in ("simpleenroll", "factory/simpleenroll", "simplereenroll"):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            site.client(ANA).request("POST", path, make_csr(ANA.key, subject=ANA.certificate.subject), PKCS10)
    assert site.issued_to("Ana") == 0


def test_an_admin_ca_that_devices_are_trusted_under_too_gives_names_to_enrol_for_and_never_a_renewal(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The anchors of the two listeners are two lists; who writes a CA into both has said so."""
    deployment = deploy(tmp_path_factory.mktemp("both") / "deployment")
    deployment.configure(
        '[admin.client_auth]\ntrust_anchors = "admin-ca.pem"\n',
        client_auth='trust_anchors = ["state/ca/root.pem", "admin-ca.pem"]\n',
    )
    (deployment.directory / "admin-ca.pem").write_bytes(ADMIN_CA.pem)
    leaf = ADMIN_CA.leaf("ana")
    with serving(deployment) as both:
        assert get(both, "health", leaf)["status"] == "healthy"
        csr = make_csr(leaf.key, "ana")
        assert both.client(leaf).reenrol(csr).status == 403
        assert both.client(leaf).enrol(make_csr(make_key(), "somebody-else")).status == 403
        assert both.issued_to("ana") == 0


def test_credentials_in_headers_open_nothing(site: System) -> None:
    for header in ("Bearer guess", basic("admin", "admin"), basic("ana", site.otp("ana"))):
        answer = admin(site).request("GET", "cas", headers={"Authorization": header})
        assert json_of(answer, 401)["error"] == "unauthorized"
        assert "kipuka" in answer.headers["www-authenticate"]
    assert json_of(admin(site, leaf=ANA).request("GET", "cas", headers={"Authorization": "Bearer guess"}), 200)


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_kept_connection_serves_many_requests(site: System, tls: ssl.TLSVersion) -> None:
    client = admin(site, leaf=ANA, tls=tls)
    kept = client.connect()
    for _ in range(3):
        assert client.request("GET", "health", connection=kept).status == 200
        assert client.request("GET", "nowhere", connection=kept).status == 404
    kept.close()


def odd(
    site: System, target: str, *, method: str = "GET", leaf: Leaf | None = None, **headers: str
) -> tuple[int, str, bytes]:
    """Status, Location and body of a request whose target and headers are not looked over on the way."""
    connection = admin(site, leaf=leaf).connect()
    connection._validate_path = lambda _: None  # type: ignore[attr-defined]  # as a raw client does not
    try:
        connection.putrequest(method, target, skip_host=True)
        for key, value in {"Host": "localhost", **headers}.items():
            connection.putheader(key, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.getheader("Location", ""), response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/admin/health/live", 200),
        ("/admin/health/%6c%69ve", 200),
        ("/admin/health/live?x=1", 200),
        ("/admin/health/live/", 401),
        ("/admin/health/live/.", 401),
        ("/admin/health/../health/live", 401),
        ("//admin/health/live", 200),
        ("//admin/cas", 401),
        ("?/admin/health/live", 401),
        ("admin/health", 401),
        ("https://[/admin/health/live", 401),
        ("/admin//health/live", 401),
        ("/admin/health%2Flive/", 401),
        ("/admin/health/live%00", 401),
        ("/admin/health/live;x", 401),
        ("/admin/health/live%ff", 401),
        ("/admin/health", 401),
        ("/admin/health?/admin/health/live", 401),
        ("/admin/health#/admin/health/live", 401),
        ("/admin/cas/default%2Fchain", 401),
        ("*", 401),
    ],
)
def test_odd_paths_open_nothing_and_lead_nowhere_else(site: System, target: str, status: int) -> None:
    seen, location, body = odd(site, target)
    assert (seen, location) == (status, "")
    assert b"<" not in body


@pytest.mark.parametrize(
    "target", ["https://elsewhere.example/admin/health/live", "https://elsewhere.example/admin/cas"]
)
def test_a_whole_url_as_target_opens_nothing(site: System, target: str) -> None:
    seen, location, body = odd(site, target)
    assert seen == 401
    assert location == ""
    assert b"elsewhere" not in body


@pytest.mark.parametrize(
    "host", ["elsewhere.example", "localhost:1", "[::1", "a b", "", "x" * 300, "..", "\xe4.example", "a:b:c", "@"]
)
def test_the_host_header_decides_nothing(site: System, host: str) -> None:
    seen, location, body = odd(site, "/admin/nowhere", leaf=ANA, Host=host)
    assert seen == 404
    assert location == ""
    assert b"elsewhere" not in body
    assert odd(site, "/admin/cas", Host=host)[0] == 401


@pytest.mark.parametrize("path", ["/admin/health/live", "/admin/cas", "/admin/cas/default/chain"])
def test_head_is_get_without_a_body(site: System, path: str) -> None:
    status, _, body = odd(site, path, method="HEAD", leaf=ANA)
    assert (status, body) == (200, b"")


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PATCH", "POST", "FOO"])
def test_other_methods_are_405_for_administrators_and_401_for_others(site: System, method: str) -> None:
    assert odd(site, "/admin/cas", method=method, leaf=ANA)[0] == 405
    assert odd(site, "/admin/cas", method=method)[0] == 401


def test_headers_and_bodies_beyond_all_measure_are_refused(site: System) -> None:
    assert odd(site, "/admin/cas", leaf=ANA, **{"X-Much": "x" * 15000})[0] == 200
    for headers in ({"X-Much": "x" * 200_000}, {f"X-{number}": "x" * 100 for number in range(2000)}):
        try:
            status = odd(site, "/admin/cas", leaf=ANA, **headers)[0]
        except (ConnectionError, ssl.SSLError, http.client.RemoteDisconnected):
            status = 431
        assert status in {400, 431}
    assert json_of(admin(site, leaf=ANA).request("POST", "cas", b"x" * (2 << 20)), 405)
    assert get(site, "health")["status"] == "healthy"


def test_an_address_with_300_refusals_gets_429_and_an_operator_behind_it_goes_on(site: System) -> None:
    def connect(leaf: Leaf | None) -> http.client.HTTPSConnection:
        connection: Any = admin(site, leaf=leaf).connect()
        connection.source_address = ("127.0.0.3", 0)
        return cast("http.client.HTTPSConnection", connection)

    before = len(refusals(site))
    guessing, client = connect(None), admin(site)
    for _ in range(300):
        assert client.request("GET", "cas", connection=guessing).status == 401
    answer = client.request("GET", "cas", connection=guessing)
    assert json_of(answer, 429)["error"] == "too_many_requests"
    assert 0 < int(answer.headers["retry-after"]) <= 900
    assert client.request("GET", "health/live", connection=guessing).status == 200
    guessing.close()
    for leaf, status in ((EVE, 429), (ANA, 200), (BEN, 200), (None, 429)):
        connection = connect(leaf)
        assert client.request("GET", "cas", connection=connection).status == status
        connection.close()
    codes = [fact["code"] for fact in refusals(site)[before:]]
    assert codes == [*["no_credential"] * 300, "too_many_requests"]
    assert {fact["source_address"] for fact in refusals(site)[before:]} == {"127.0.0.3"}
    assert get(site, "cas", None, status=401)


def test_without_client_auth_the_listener_is_two_pages_and_the_start_says_so(system: System) -> None:
    (line,) = [line for line in system.server.log() if "admin.client_auth" in line.get("warning", "")]
    assert "answers /admin/health/live and /admin/health/ready only" in line["warning"]
    for leaf in (None, ANA, system.own_ca.leaf("Ana")):
        assert get(system, "health/live", leaf) == {"status": "alive"}
        assert get(system, "health", leaf, status=401)["error"] == "unauthorized"
