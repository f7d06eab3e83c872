"""The console by requests: each page, each action, who may, and what no page of another site can make a browser do."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509

from kipuka_core.testing.pki import make_csr, make_key
from kipuka_core.testing.server import wait_until
from tests.system.admin_kit import ANA, BEN, EVE
from tests.system.admin_site import OPERATOR, TOML, VIEWER, AdminSite, admin_site, hex_serial
from tests.system.console_kit import Browser, Form, Page, page
from tests.system.system_kit import deploy, serving

PAGES = (
    "", "certificates", "passwords", "passwords/batch", "requests", "lockouts", "cas", "plugins", "audit",
)  # fmt: skip
HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}"
TURNED = "CN=pump\u202e1"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminSite]:
    with admin_site(tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest.fixture
def ana(site: AdminSite) -> Browser:
    return Browser(site.system, ANA)


@pytest.fixture
def ben(site: AdminSite) -> Browser:
    return Browser(site.system, BEN)


@pytest.fixture
def nobody(site: AdminSite) -> Browser:
    return Browser(site.system)


def refusals(site: AdminSite) -> list[dict[str, object]]:
    return [fact for fact in site.system.audit() if fact["event"] == "admin_refused"]


def certificate_path(serial: str) -> str:
    return f"/console/certificates/{serial}"


# -- every page --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("who", ["ana", "ben"])
def test_each_page_is_whole_and_can_be_read_by_everybody(
    path: str, who: str, request: pytest.FixtureRequest, site: AdminSite
) -> None:
    browser: Browser = request.getfixturevalue(who)
    shown = browser.get(path)
    kinds = [tag for tag, _ in shown.tags]
    assert kinds.count("h1") == 1
    assert len(shown.ids) == len(set(shown.ids))
    assert ("a", {"class": "skip", "href": "#main"}) in shown.tags
    assert [had for tag, had in shown.tags if had.get("aria-current")] or path == "passwords/batch"
    fields = {had.get("id") for tag, had in shown.tags if tag in {"input", "select", "textarea"}} - {None}
    assert fields <= {had.get("for") for tag, had in shown.tags if tag == "label"}
    for tag, had in shown.tags:
        assert "style" not in had
        assert not [name for name in had if name.startswith("on")]
        for described in had.get("aria-describedby", "").split():
            assert described in shown.ids, (tag, had)
        if tag == "th":
            assert had.get("scope") in {"col", "row"}
    assert kinds.count("table") == kinds.count("caption")


@pytest.mark.parametrize("path", [*PAGES, "sign-in", "nowhere", "static/console.css", "static/none"])
def test_every_answer_has_the_headers_that_keep_it_to_itself(path: str, ana: Browser) -> None:
    answer = ana.ask("GET", f"/console/{path}")
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    if path.startswith("static/console"):
        assert answer.headers["cache-control"] == "public, max-age=86400"
    else:
        assert answer.headers["cache-control"] == "no-store"


def test_nothing_comes_from_another_host(ana: Browser) -> None:
    for path in PAGES:
        for _, had in ana.get(path).tags:
            for name in ("src", "href", "action", "poster", "data"):
                assert had.get(name, "/").startswith(("/", "#")), had
                assert not had.get(name, "").startswith("//"), had


def test_the_style_sheet_the_script_and_the_icon_are_open(nobody: Browser) -> None:
    shown = nobody.get("sign-in")
    wanted = [had.get("href") or had["src"] for tag, had in shown.tags if tag in {"link", "script"}]
    kinds = [nobody.ask("GET", path).headers["content-type"] for path in wanted]
    assert sorted(kinds) == [
        "image/svg+xml; charset=utf-8", "text/css; charset=utf-8", "text/javascript; charset=utf-8",
    ]  # fmt: skip
    assert nobody.ask("GET", "/console/static/..%2fapp.py").status in {401, 404}


def test_the_path_without_its_slash_leads_on_and_unknown_ones_are_pages_of_errors(ana: Browser) -> None:
    answer = ana.ask("GET", "/console")
    assert (answer.status, answer.headers["location"]) == (308, "/console/")
    for path in ("nowhere", "certificates/", "certificates/ff/none", "cas/none/chain", "certificates/ff", "requests/x"):
        assert "Not found" in page(ana.ask("GET", f"/console/{path}"), 404).text
    assert page(ana.ask("POST", "/console/plugins"), 403).text
    assert ana.ask("GET", "/console/sign-out").status == 405
    assert ana.ask("GET", f"/console/certificates/{'f' * 300}").status == 400


# -- who comes in ------------------------------------------------------------------------------------------------------
def test_without_a_credential_every_page_is_a_form_to_sign_in_and_nothing_is_counted(
    nobody: Browser, site: AdminSite
) -> None:
    before = len(refusals(site))
    for path in (*PAGES, "nowhere", "certificates/ff"):
        answer = nobody.ask("GET", f"/console/{path}")
        shown = page(answer, 401)
        assert "Bearer" in answer.headers["www-authenticate"]
        assert "Not signed in" not in shown.text
        assert shown.form("/console/sign-in").values["next"] == f"/console/{path}"
    assert len(refusals(site)) == before


def test_a_token_brings_a_session_which_never_holds_it_and_which_signing_out_ends(
    nobody: Browser, site: AdminSite
) -> None:
    form = nobody.get("audit?event=otp_created", 401).form("/console/sign-in")
    answer = nobody.send(form, token=f" {OPERATOR} ")
    assert answer.headers["location"] == "/console/audit?event=otp_created"
    assert "token:operator" in nobody.then(answer).text
    session = nobody.cookies["__Host-kipuka-session"]
    assert OPERATOR not in json.dumps(nobody.cookie_lines)
    for line in nobody.cookie_lines:
        assert line.startswith("__Host-kipuka-")
        for word in ("Secure", "HttpOnly", "Path=/", "SameSite=Strict"):
            assert word in line
        assert "Domain" not in line
    assert session not in site.system.server.log_file.read_text(encoding="utf-8")
    # It is the console's alone: the API does not take it.
    assert nobody.ask("GET", "/admin/cas").status == 401

    form = nobody.get().form("/console/sign-out")
    assert "Bearer token" in nobody.then(nobody.send(form)).text
    assert "__Host-kipuka-session" not in nobody.cookies
    nobody.cookies["__Host-kipuka-session"] = session
    nobody.get("", 401)
    assert "__Host-kipuka-session" not in nobody.cookies


def test_a_wrong_token_is_refused_recorded_and_shown_nowhere(nobody: Browser, site: AdminSite) -> None:
    before = len(refusals(site))
    wrong = "wrong-" * 8
    for token in (wrong, "", f"{OPERATOR}x"):
        shown = page(nobody.send(nobody.get("sign-in").form("/console/sign-in"), token=token), 401)
        assert "Not signed in" in shown.text
        assert wrong not in shown.text
    new = refusals(site)[before:]
    assert [(fact["code"], fact["path"]) for fact in new] == [("wrong_token", "/console/sign-in")] * 3
    assert wrong not in json.dumps(site.system.audit())
    assert wrong not in site.system.server.log_file.read_text(encoding="utf-8")
    assert "__Host-kipuka-session" not in nobody.cookies


def test_a_new_session_ends_the_one_before_and_has_another_name(nobody: Browser) -> None:
    nobody.signed_in(OPERATOR)
    first = dict(nobody.cookies)
    nobody.signed_in(VIEWER)
    assert nobody.cookies["__Host-kipuka-session"] != first["__Host-kipuka-session"]
    assert nobody.cookies["__Host-kipuka-form"] != first["__Host-kipuka-form"]
    assert "token:eye" in nobody.get().text
    nobody.cookies = first
    nobody.get("", 401)


@pytest.mark.parametrize(
    "elsewhere",
    ["https://example.net/", "//example.net/console/", "/admin/cas", "/console/\\example.net", "", "/console/sign-out"],
)
def test_signing_in_leads_to_no_other_place(elsewhere: str, nobody: Browser) -> None:
    form = nobody.get("sign-in").form("/console/sign-in")
    assert nobody.send(form, token=OPERATOR, next=elsewhere).headers["location"] == "/console/"


def test_who_is_no_administrator_is_refused_as_by_the_api(site: AdminSite) -> None:
    device = site.enrolled("console-device")
    before = len(refusals(site))
    shown = page(Browser(site.system, device).ask("GET", "/console/"), 401)
    assert "enrolled here" in shown.text or "enrols devices" in shown.text
    assert "Bearer token" in shown.text  # whose certificate does not count may have a token
    assert "neither an operator" in page(Browser(site.system, EVE).ask("GET", "/console/"), 403).text
    new = refusals(site)[before:]
    assert [fact["code"] for fact in new] == ["enrolment_certificate", "not_listed"]
    assert {fact["path"] for fact in new} == {"/console/"}


def test_too_many_wrong_tokens_are_429_and_a_good_credential_still_comes_in(tmp_path: Path) -> None:
    with admin_site(tmp_path) as site:
        ana = Browser(site.system, ANA)
        ana.send(ana.get("passwords").form("/console/passwords"), headers={"Origin": "null"}, entity_id="crossed")
        assert [(fact["actor"], fact["code"]) for fact in refusals(site)] == [("CN=Ana,O=Example", "cross_site")]
        guesser = Browser(site.system)
        form = guesser.get("sign-in").form("/console/sign-in")
        statuses = [guesser.send(form, token="x" * 40).status for _ in range(301)]
        assert statuses == [401] * 299 + [429] * 2
        assert "too many requests" in page(guesser.send(form, token="x" * 40), 429).text
        assert site.ask("GET", "nowhere", token="x" * 40).status == 429
        Browser(site.system).signed_in(OPERATOR)
        Browser(site.system, ANA).get()


# -- forms of others ---------------------------------------------------------------------------------------------------
def test_a_form_without_the_token_of_its_page_changes_nothing(ana: Browser, site: AdminSite) -> None:
    form = ana.get("passwords").form("/console/passwords")
    before = len(refusals(site))
    other = Browser(site.system, ANA)
    others = other.get("passwords").form("/console/passwords").values["form_token"]
    session = Browser(site.system).signed_in(OPERATOR)
    of_session = session.get("passwords").form("/console/passwords").values["form_token"]
    for token in (None, "", "0" * 64, others, of_session, "ä"):
        refused = page(ana.send(form, form_token=token, entity_id="forged"), 403)
        assert "not one of the page" in refused.text
    # The cookie of one browser with the token of another, and the token without its cookie.
    assert ana.send(form, headers={"Cookie": ""}, entity_id="forged").status == 403
    # Of a browser with another certificate: the token is bound to the certificate too.
    stolen = Browser(site.system, site.system.own_ca.leaf("x"), dict(ana.cookies))
    assert stolen.send(form, entity_id="forged").status in {401, 403}
    new = refusals(site)[before:]
    assert {fact["code"] for fact in new} >= {"form_token"}
    assert {fact["actor"] for fact in new if fact["code"] == "form_token"} == {"CN=Ana,O=Example"}
    assert site.get("otp?entity_id=forged&all=1") == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://localhost:1"},
    ],
    ids=str,
)
def test_what_a_page_of_another_site_sends_is_refused_even_with_the_token(
    headers: dict[str, str], ana: Browser, site: AdminSite
) -> None:
    form = ana.get("passwords").form("/console/passwords")
    assert "another site" in page(ana.send(form, headers=headers, entity_id="crossed"), 403).text
    sign_in = Browser(site.system)
    assert sign_in.send(sign_in.get("sign-in").form("/console/sign-in"), headers=headers, token=OPERATOR).status == 403
    assert "__Host-kipuka-session" not in sign_in.cookies
    assert site.get("otp?entity_id=crossed&all=1") == []


def test_the_forms_of_a_session_need_its_cookie(site: AdminSite) -> None:
    browser = Browser(site.system).signed_in(OPERATOR)
    form = browser.get("passwords").form("/console/passwords")
    assert browser.send(form, entity_id="of-session").status == 201
    del browser.cookies["__Host-kipuka-session"]
    assert browser.send(form, entity_id="without").status == 401
    assert site.get("otp?entity_id=without&all=1") == []
    (fact,) = site.facts(event="otp_created", target="of-session")
    assert fact["actor"] == "token:operator"


def test_a_viewer_sees_no_form_that_changes_and_a_crafted_one_is_403(ben: Browser, site: AdminSite) -> None:
    leaf = site.enrolled("viewed")
    made = site.otp("viewed-otp")
    site.lock_out("viewed-locked")
    path = certificate_path(hex_serial(leaf))
    for shown in (*(ben.get(each) for each in PAGES), ben.get(path)):
        assert [form.action for form in shown.forms if form.method == "post"] == []
    session = Browser(site.system).signed_in(VIEWER)
    assert [form.action for form in session.get("passwords").forms if form.method == "post"] == ["/console/sign-out"]
    token = session.get().form("/console/sign-out").values["form_token"]
    crafted = {
        f"{path}/revoke": {"reason": "keyCompromise", "sure": "yes"},
        f"{path}/release": {},
        "/console/passwords": {"entity_id": "viewer-made"},
        "/console/passwords/batch": {"rows": "entity_id\nviewer-made"},
        f"/console/passwords/{made['id']}/withdraw": {},
        "/console/requests/x/approve": {},
        "/console/requests/x/reject": {"reason": "no"},
        "/console/lockouts/lift": {"address": "127.0.0.1", "entity_id": "viewed-locked"},
    }
    before = len(refusals(site))
    for action, values in crafted.items():
        for browser in (ben, session):
            refused = page(browser.post(action, {**values, "form_token": token}), 403)
            assert "a viewer may look and change nothing" in refused.text
    assert {fact["code"] for fact in refusals(site)[before:]} <= {"viewer"}
    assert site.get(f"certs/{hex_serial(leaf)}")["status"] == "active"
    assert site.get("otp?entity_id=viewer-made&all=1") == []
    assert any(each["entity_id"] == "viewed-locked" for each in site.get("lockouts"))
    assert "Bearer token" in session.then(session.send(session.get().form("/console/sign-out"))).text


# -- certificates ------------------------------------------------------------------------------------------------------
def test_certificates_are_found_by_every_filter_and_shown(ana: Browser, site: AdminSite) -> None:
    leaf = site.enrolled("found-1", label="open", san=("dns:found-1.example",))
    site.enrolled("found-2")
    serial = hex_serial(leaf)
    end = leaf.certificate.not_valid_after_utc.date()
    window = f"expires_after={end}&expires_before={end + timedelta(days=1)}"
    for query in (
        "subject=found-1", "subject=found-1.e*", f"serial={serial}", "identity=found-1", "label=open&subject=found*",
        f"ca_id=default&subject=found-1&status=active&limit=20&{window}",
    ):  # fmt: skip
        shown = ana.get(f"certificates?{query}")
        assert "CN=found-1" in shown.text
        assert "CN=found-2" not in shown.text, query
    assert "CN=found-2" in ana.get("certificates?label=/&subject=found*").text
    assert "No certificate meets all of this" in ana.get("certificates?status=expired").text
    for query, field in {
        "serial=xyz": "serial", "expires_before=soon": "expires_before", "limit=0": "limit", "status=x": "status",
    }.items():  # fmt: skip
        wrong = page(ana.ask("GET", f"/console/certificates?{query}"), 400)
        assert "Please correct this" in wrong.text
        (input_field,) = [had for _, had in wrong.tags if had.get("id") == field]
        assert input_field["aria-invalid"] == "true" or field == "limit"
    assert page(ana.ask("GET", "/console/certificates?after=none"), 400).text

    shown = ana.get(certificate_path(serial))
    colons = re.sub(r"(..)(?=.)", r"\1:", serial if len(serial) % 2 == 0 else f"0{serial}")
    for words in ("found-1.example", colons, "open", "ecdsa256", "otp", "BEGIN CERTIFICATE"):
        assert words in shown.text
    pem = ana.ask("GET", f"{certificate_path(serial)}/pem")
    assert x509.load_pem_x509_certificate(pem.body) == leaf.certificate
    assert pem.headers["content-disposition"] == f'attachment; filename="{serial}-pem.pem"'
    chain = x509.load_pem_x509_certificates(ana.ask("GET", f"{certificate_path(serial)}/chain").body)
    assert chain == [leaf.certificate, site.system.issuing_ca, site.system.root_ca]


def test_a_long_list_comes_in_pages(ana: Browser, site: AdminSite) -> None:
    for number in range(5):
        site.enrolled(f"paged-{number}")
    names: list[str] = []
    path = "/console/certificates?subject=paged*&limit=2"
    while path:
        shown = ana.get(path)
        names += re.findall(r"CN=(paged-\d)", shown.text)
        links = [had for tag, had in shown.tags if tag == "a"]
        path = next((had["href"] for had in links if had.get("rel") == "next"), "")
    assert names == [f"paged-{number}" for number in range(5)]
    assert "last page" in shown.text
    assert any(had.get("href") == "/console/certificates?subject=paged%2A&limit=2" for had in links)


def test_a_certificate_is_put_on_hold_released_and_revoked_for_good(ana: Browser, site: AdminSite) -> None:
    serial = hex_serial(site.enrolled("to-revoke"))
    path = certificate_path(serial)
    form = ana.get(path).form(f"{path}/revoke")
    unsure = page(ana.send(form, reason="keyCompromise"), 422)
    assert "tick this" in unsure.text
    assert site.get(f"certs/{serial}")["status"] == "active"
    assert page(ana.send(form, reason="certificateHolding", sure="yes"), 400).text

    shown = ana.then(ana.send(form, reason="certificateHold", sure="yes"))
    assert "on hold" in shown.text
    assert "Done. The certificate is on hold" in shown.text.replace("  ", " ")
    assert "Done." not in ana.get(path).text  # said once
    assert "certificateHold" not in " ".join(had.get("value", "") for tag, had in shown.tags if tag == "option")
    shown = ana.then(ana.send(shown.form(f"{path}/release")))
    assert "The certificate counts again" in shown.text
    shown = ana.then(ana.send(shown.form(f"{path}/revoke"), reason="keyCompromise", sure="yes"))
    assert "keyCompromise" in shown.text
    assert [each for each in shown.forms if each.method == "post"] == []
    assert page(ana.post(f"{path}/release", form.values), 409).text
    body = site.get(f"certs/{serial}")
    assert (body["status"], body["revocation_reason"]) == ("revoked", "keyCompromise")
    facts = site.facts(target=serial, actor=quote("CN=Ana,O=Example"))
    assert [fact["event"] for fact in facts] == ["certificate_revoked", "certificate_released", "certificate_revoked"]
    crl = x509.load_der_x509_crl(site.ask("GET", "cas/default/crl").body)
    assert crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None


# -- one-time passwords ------------------------------------------------------------------------------------------------
def token_of(shown: Page) -> list[str]:
    return [had["data-copy"] for _, had in shown.tags if "data-copy" in had]


def test_a_password_is_made_shown_once_used_and_withdrawn(ana: Browser, site: AdminSite) -> None:
    form = ana.get("passwords").form("/console/passwords")
    answer = ana.send(form, entity_id="by-console", ttl="2h", max_usage="2", label="factory")
    made = page(answer, 201)
    assert token_of(made) == ["the one-time password for by-console"]
    found = re.search(r'<code class="token"[^>]*>([^<]+)</code>', answer.text)
    assert found
    assert found[1] not in ana.ask("GET", "/console/passwords?all=1").text
    assert site.enrol(make_csr(common_name="by-console"), "by-console", found[1], "factory").status == 200
    (listed,) = site.get("otp?entity_id=by-console")
    assert (listed["label"], listed["max_usage"], listed["usage_count"]) == ("factory", 2, 1)
    ends = datetime.fromisoformat(listed["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=1, minutes=50) < ends <= timedelta(hours=2)

    shown = ana.get("passwords?entity_id=by-console")
    assert "1 of 2" in shown.text
    shown = ana.then(ana.send(shown.form(f"/console/passwords/{listed['id']}/withdraw")))
    assert "The one-time password is withdrawn" in shown.text
    assert site.get("otp?entity_id=by-console") == []
    assert "withdrawn" in ana.get("passwords?entity_id=by-console&all=1").text
    assert page(ana.post("/console/passwords/none/withdraw", form.values), 404).text


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"entity_id": ""}, "entity_id", "it is empty"),
        ({"entity_id": "a:b"}, "entity_id", "it holds a colon"),
        ({"entity_id": "x" * 1000}, "entity_id", ""),
        ({"entity_id": "e", "ttl": "soon"}, "ttl", "write a duration"),
        ({"entity_id": "e", "ttl": "0"}, "ttl", ""),
        ({"entity_id": "e", "max_usage": "many"}, "max_usage", "integer"),
        ({"entity_id": "e", "label": "no-such"}, "label", "no label"),
        ({"entity_id": "e", "subject_pattern": "("}, "subject_pattern", "regular expression"),
    ],
)
def test_a_mistake_in_a_form_is_said_at_its_field_and_keeps_what_was_typed(
    values: dict[str, str], field: str, words: str, ana: Browser
) -> None:
    form = ana.get("passwords").form("/console/passwords")
    wrong = page(ana.post(form.action, form.values | values), 422)
    (had,) = [had for _, had in wrong.tags if had.get("id") == field]
    assert had["aria-invalid"] == "true"
    assert f"{field}-error" in had["aria-describedby"].split()
    assert words in wrong.text
    assert any(had.get("href") == f"#{field}" for tag, had in wrong.tags if tag == "a")
    kept = wrong.form("/console/passwords").values
    assert kept["entity_id"] == values["entity_id"]


def test_many_passwords_by_typed_rows_and_by_a_file(ana: Browser, site: AdminSite) -> None:
    form = ana.get("passwords/batch").form("/console/passwords/batch")
    rows = "entity_id,max_usage\nmany-1,1\nmany-2,3"
    made = page(ana.send(form, rows=rows), 201)
    assert [each.rpartition(" ")[2] for each in token_of(made)] == ["many-1", "many-2"]

    boundary = "f0rm"
    parts = {"form_token": form.values["form_token"], "answer": "file", "rows": ""}
    body = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in parts.items()
    )
    body += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n'
    body += f"Content-Type: text/csv\r\n\r\nentity_id\r\nmany-3\r\n\r\n--{boundary}--\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = ana.ask("POST", "/console/passwords/batch", body.encode(), headers)
    assert (answer.status, answer.headers["content-type"]) == (201, "text/csv; charset=utf-8; header=present")
    assert answer.headers["cache-control"] == "no-store"
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert site.enrol(make_csr(common_name="many-3"), "many-3", row["token"]).status == 200

    refused = page(ana.send(form, rows="entity_id,label\ngood,\nbad,none"), 422)
    assert "row 3: label: there is no label" in refused.text
    for wrong in ("", "nonsense", "entity_id\ngood\na:b", "entity_id\ngood,1", 'entity_id\n"'):
        refused = page(ana.send(form, rows=wrong), 422)
        assert "Please correct this" in refused.text
    assert site.get("otp?entity_id=good&all=1") == []


# -- requests, lockouts, the rest --------------------------------------------------------------------------------------
def waiting(site: AdminSite, entity_id: str) -> str:
    csr = make_csr(make_key(), entity_id)
    assert site.enrol(csr, entity_id, site.otp(entity_id)["token"], "slow").status == 202
    (found,) = [str(each["id"]) for each in site.get("requests") if each["identity"] == entity_id]
    return found


def test_a_request_is_shown_with_its_trace_and_approved(ana: Browser, site: AdminSite) -> None:
    key, token = make_key(), site.otp("wait-1")["token"]
    csr = make_csr(key, "wait-1")
    assert site.enrol(csr, "wait-1", token, "slow").status == 202
    (request_id,) = [each["id"] for each in site.get("requests") if each["identity"] == "wait-1"]
    assert "CN=wait-1" in ana.get("requests").text
    path = f"/console/requests/{request_id}"
    shown = ana.get(path)
    for words in ("names", "keys", "approval", "an administrator has to approve", "What an approval would issue"):
        assert words in shown.text
    answer = ana.send(shown.form(f"{path}/approve"))
    issued = ana.then(answer)
    assert "is approved and the certificate issued" in issued.text
    certificate = site.enrol(csr, "wait-1", token, "slow").certificate()
    assert answer.headers["location"] == f"/console/certificates/{certificate.serial_number:x}"
    again = page(ana.post(f"{path}/approve", shown.form(f"{path}/approve").values), 409)
    assert "does not wait any more" in again.text
    (fact,) = site.facts(event="request_decided", target=request_id)
    assert (fact["actor"], fact["decision"]) == ("CN=Ana,O=Example", "approved")
    assert "CN=wait-1" not in ana.get("requests").text
    assert "CN=wait-1" in ana.get("requests?state=issued").text


def test_a_request_is_rejected_with_a_reason(ana: Browser, site: AdminSite) -> None:
    request_id = waiting(site, "wait-2")
    path = f"/console/requests/{request_id}"
    form = ana.get(path).form(f"{path}/reject")
    for wrong in ("", "x" * 501):
        refused = page(ana.send(form, reason=wrong), 422)
        assert refused.form(f"{path}/reject").values["reason"] == wrong
    shown = ana.then(ana.send(form, reason="not on the list"))
    assert "refused" in shown.text
    assert "not on the list" in shown.text
    assert page(ana.send(form, reason="again"), 409).text
    assert page(ana.ask("GET", "/console/requests?state=odd"), 400).text


def test_a_lockout_is_seen_and_lifted(ana: Browser, site: AdminSite) -> None:
    site.lock_out("locked-1")
    shown = ana.get("lockouts")
    (form,) = [each for each in shown.forms if each.values.get("entity_id") == "locked-1"]
    assert "The lockout is lifted" in ana.then(ana.send(form)).text
    assert page(ana.send(form), 404).text
    assert all(each["entity_id"] != "locked-1" for each in site.get("lockouts"))
    (fact,) = site.facts(event="lockout_lifted", target="locked-1")
    assert fact["actor"] == "CN=Ana,O=Example"


def test_cas_are_shown_with_chain_and_crl_and_plugins_with_their_use(ana: Browser, site: AdminSite) -> None:
    shown = ana.get("cas").text
    for certificate in (site.system.issuing_ca, site.system.root_ca):
        assert certificate.subject.rfc4514_string() in shown
        assert f"{certificate.serial_number:x}" in shown
    crl = x509.load_der_x509_crl(ana.ask("GET", "/console/cas/default/crl").body)
    assert crl.is_signature_valid(site.system.issuing_ca.public_key())  # type: ignore[arg-type]  # an EC key
    number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert f" {number} " in ana.get("cas").text
    chain = x509.load_pem_x509_certificates(ana.ask("GET", "/console/cas/default/chain").body)
    assert chain == [site.system.issuing_ca, site.system.root_ca]
    assert "No token is configured" in shown
    plugins = ana.get("plugins")
    assert "ca backend" in plugins.text
    assert '[[ca]] backend = "local"' in plugins.text
    assert [had["href"] for _, had in plugins.tags if had.get("aria-current")] == ["/console/plugins"]
    assert [had["href"] for _, had in ana.get("cas").tags if had.get("aria-current")] == ["/console/cas"]


def test_the_audit_trail_is_searched(ana: Browser, site: AdminSite) -> None:
    made = site.otp("audited")
    assert "audited" in ana.get(f"audit?target={made['id']}").text
    shown = ana.get("audit?event=otp_created&actor=token:operator&target=audited").text
    assert "1 found" in shown
    now = datetime.now(UTC)
    tomorrow, yesterday = ((now + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M") for days in (1, -1))
    assert "Nothing meets" in ana.get(f"audit?target=audited&since={tomorrow}").text
    assert "1 found" in ana.get(f"audit?target=audited&since={yesterday}&until={tomorrow}").text
    wrong = page(ana.ask("GET", "/console/audit?since=soon"), 400)
    assert "has to be a moment" in wrong.text
    assert page(ana.ask("GET", "/console/audit?after=none"), 400).text


def test_the_overview_tells_what_was_issued_and_what_failed(ana: Browser, site: AdminSite) -> None:
    site.enrolled("counted")
    site.enrol(b"no csr", "counted", site.otp("counted")["token"])
    today = f"{datetime.now(UTC):%Y-%m-%d}"

    def has_counted() -> bool:  # figures are kept for some seconds
        shown = ana.get()
        rows = re.findall(rf"({today}|[0-9-]{{10}}) (\d+) ", shown.text)
        return "malformed" in shown.text and any(int(count) > 0 for _, count in rows)

    wait_until(has_counted)
    shown = ana.get()
    (svg,) = [had for tag, had in shown.tags if tag == "svg" and had.get("role") == "img"]
    assert svg["aria-labelledby"] in shown.ids
    assert "is an issuer of a [[ca]]" in shown.text  # a warning of the health page
    assert "Health: ✓ healthy" in shown.text.replace("  ", " ")


# -- names of clients --------------------------------------------------------------------------------------------------
def test_what_a_client_says_is_text_on_every_page(ana: Browser, site: AdminSite) -> None:
    """Names, reasons and searches that would be HTML, a template or another direction of writing."""
    entity_id = "<img src=x>"
    token = site.otp(entity_id)["token"]
    csr = make_csr(make_key(), HOSTILE)
    assert site.enrol(csr, entity_id, token, "open").status == 200
    with closing(sqlite3.connect(site.system.deployment.database, timeout=30)) as database, database:
        # No CSR brings such a name in; the record of another server may.
        changed = "UPDATE certificates SET subject = ? WHERE serial_hex = ?"
        database.execute(changed, (TURNED, hex_serial(site.enrolled("turned"))))
    slow = make_csr(make_key(), "<b>slow</b>")
    assert site.enrol(slow, "<b>slow</b>", site.otp("<b>slow</b>")["token"], "slow").status == 202
    site.lock_out("<i>locked</i>")
    site.otp("<u>otp</u>", subject_pattern="<u>.*</u>")
    (request_id,) = [each["id"] for each in site.get("requests") if each["identity"] == "<b>slow</b>"]
    request_path = f"/console/requests/{request_id}"
    form = ana.get(request_path).form(f"{request_path}/reject")
    page(ana.send(form, reason="<s>\x07"), 422)
    ana.then(ana.send(form, reason="<s>no</s>"))
    (found,) = site.get(f"certs?identity={quote(entity_id)}")
    query = quote('"><script>alert(2)</script>')
    paths = (
        *PAGES, f"certificates/{found['serial']}", request_path, "requests?state=all",
        f"certificates?subject={query}&serial={query}&ca_id={query}", f"audit?actor={query}&since={query}",
        f"passwords?entity_id={query}", f"requests?state={query}", f"certificates/{query}", query,
        f"sign-in?next={query}", f"certificates/{found['serial']}?ca_id={query}",
    )  # fmt: skip
    seen = ""
    for path in paths:
        answer = ana.ask("GET", path if path.startswith("/") else f"/console/{path}")
        assert answer.status < 500
        seen += answer.text
        shown = Page(answer.text)
        assert not {"b", "i", "u", "s", "img"} & {tag for tag, _ in shown.tags}
        assert [had for tag, had in shown.tags if tag == "script"] == [
            had for tag, had in shown.tags if tag == "script" and had.get("src", "").startswith("/console/static/")
        ]
    assert "&lt;script\\&gt;alert(1)\\&lt;/script\\&gt;" in seen  # as RFC 4514 writes it
    assert "{{7*7}}" in seen
    assert "pump\\u{202e}1" in seen
    assert "\u202e" not in seen


# -- switched off, and without the database ----------------------------------------------------------------------------
def test_the_console_can_be_switched_off(tmp_path: Path) -> None:
    with admin_site(tmp_path, TOML.replace("[admin]\n", "[admin]\nconsole = false\n", 1)) as site:
        answer = site.ask("GET", "/console/")
        assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
        assert site.ask("GET", "/console/static/console.css", token=None).status == 401


def test_without_tokens_the_page_says_what_is_needed(tmp_path: Path) -> None:
    deployment = deploy(tmp_path / "deployment")
    with serving(deployment) as system:
        shown = page(Browser(system).ask("GET", "/console/"), 401)
        assert shown.forms == []
        assert "client certificates only" in shown.text
        crafted = Form("/console/sign-in", "post", {"token": OPERATOR})
        assert Browser(system).send(crafted).status == 403


def test_while_the_database_is_away_the_overview_says_so_and_the_rest_is_503(tmp_path: Path) -> None:
    with admin_site(tmp_path) as site:
        browser = Browser(site.system)
        sign_in = browser.get("sign-in").form("/console/sign-in")
        # Not by way of the overview, whose figures would be kept for some seconds.
        taken = browser.send(sign_in, token=OPERATOR, next="/console/passwords")
        form = browser.then(taken).form("/console/passwords")
        database = site.system.deployment.database
        with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
            connection.execute("ALTER TABLE otps RENAME TO otps_away")
            connection.execute("ALTER TABLE certificates RENAME TO certificates_away")
        for path in ("passwords", "certificates", "certificates/ff"):
            answer = browser.ask("GET", f"/console/{path}")
            assert "database is away" in page(answer, 503).text
            assert answer.headers["retry-after"] == "30"
        assert browser.send(form, entity_id="lost").status == 503
        assert "The database is away." in browser.get().text
