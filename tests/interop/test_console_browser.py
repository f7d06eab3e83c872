"""The console in Chromium: every page and action by mouse and keyboard, looked over by axe-core, and its pictures.

The pictures of docs/console.md are made anew with KIPUKA_CONSOLE_IMAGES=docs/images.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from kipuka_core.testing.pki import make_csr, make_key
from tests.docs.blocks import ROOT
from tests.interop.console_window import NARROW, WIDE, Window, browser_context
from tests.system.admin_kit import ANA
from tests.system.admin_site import OPERATOR, VIEWER, AdminSite, admin_site, hex_serial

pytestmark = [pytest.mark.interop, pytest.mark.long]

PAGES = ("", "certificates", "passwords", "passwords/batch", "requests", "lockouts", "cas", "plugins", "audit")
LARGEST_PICTURE_BYTES = 150_000
TOML = """
[admin]
bearer_token_env = "KIPUKA_TEST_OPERATOR"
[[admin.token]]
name = "eye"
role = "viewer"
env = "KIPUKA_TEST_VIEWER"
[admin.client_auth]
mode = "optional"
trust_anchors = ["admin-ca.pem"]
[[est.label]]
name = "factory"
[[est.label]]
name = "slow"
approval = true
[auth.otp]
max_failures = 2
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminSite]:
    with admin_site(tmp_path_factory.mktemp("browser"), TOML) as running:
        for number in range(1, 9):
            running.enrolled(f"pump-{number}.plant.example", label="factory" if number % 2 else "")
        _spread(running)
        running.otp("valve-7", label="factory", max_usage=3)
        running.otp("gauge-2", subject_pattern=r"gauge-[0-9]+")
        running.lock_out("camera-4")
        for name in ("gate-1", "gate-2"):
            _wait(running, name)
        running.enrol(b"no csr", "valve-7", running.otp("valve-7")["token"])
        yield running


def _spread(site: AdminSite) -> None:
    """As if the certificates had been issued over the last weeks, and the first two ended soon."""
    with closing(sqlite3.connect(site.system.deployment.database, timeout=30)) as database, database:
        for place, days in enumerate((26, 20, 20, 13, 9, 9, 9, 2), start=1):
            issued = int((datetime.now(UTC) - timedelta(days=days)).timestamp() * 1e6)
            database.execute("UPDATE certificates SET issued_at = ? WHERE id = ?", (issued, place))
        ends = int((datetime.now(UTC) + timedelta(days=6)).timestamp() * 1e6)
        database.execute("UPDATE certificates SET not_after = ? WHERE id <= 2", (ends,))


def _wait(site: AdminSite, name: str) -> None:
    token = site.otp(name)["token"]
    assert site.enrol(make_csr(make_key(), name), name, token, "slow").status == 202


@pytest.fixture
def window(site: AdminSite, chromium: Browser) -> Iterator[Window]:
    with closing(browser_context(site, chromium)) as context:
        yield Window(site, context, context.new_page())


def shoot(page: Page, name: str, directory: Path) -> None:
    """A picture, where they are kept when that is asked for."""
    kept = os.environ.get("KIPUKA_CONSOLE_IMAGES")
    target = (ROOT / kept if kept else directory) / f"console-{name}.png"
    page.screenshot(path=target, animations="disabled")
    assert 5_000 < target.stat().st_size < LARGEST_PICTURE_BYTES


# -- looking -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", [*PAGES, "sign-in", "nowhere"])
def test_each_page_has_no_barrier_in_light_and_dark_wide_and_narrow(path: str, window: Window, tmp_path: Path) -> None:
    page = window.signed_in().go(path)
    name = path.replace("/", "-") or "overview"
    if path != "nowhere":
        shoot(page, name, tmp_path)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        for size in (WIDE, NARROW):
            page.set_viewport_size(size)  # type: ignore[arg-type]  # a plain dictionary
            found = Axe().run(page).response["violations"]
            assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    window.check(refused=path == "nowhere")


@pytest.mark.parametrize("kind", ["certificate", "request", "made", "mistake"])
def test_pages_behind_the_lists_have_no_barrier(kind: str, window: Window, tmp_path: Path) -> None:
    window.signed_in()
    page = window.go("requests" if kind == "request" else "certificates" if kind == "certificate" else "passwords")
    if kind in {"certificate", "request"}:
        page.locator("tbody th a").first.click()
    else:
        page.get_by_label("Whom it is for").fill("shown-once" if kind == "made" else "a:b")
        page.get_by_role("button", name="Make a one-time password").click()
    page.get_by_role("heading", level=1).wait_for()
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)  # type: ignore[arg-type]  # a plain dictionary
        assert [each["id"] for each in Axe().run(page).response["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]  # a plain dictionary
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = false")
    shoot(page, kind, tmp_path)
    window.check(refused=kind == "mistake")


def test_the_chart_is_drawn_and_told_in_words(window: Window) -> None:
    page = window.signed_in().page
    chart = page.get_by_role("img", name=re.compile(r"Certificates issued on each of the last 30 days: \d+ in all"))
    assert chart.locator("rect").count() >= 5
    page.get_by_text("The numbers as a table").click()
    assert page.get_by_role("table", name=re.compile("Certificates issued on each")).locator("tbody tr").count() == 30
    window.check()


def test_a_client_certificate_is_all_that_is_needed(site: AdminSite, chromium: Browser) -> None:
    with closing(browser_context(site, chromium, ANA)) as context:
        window = Window(site, context, context.new_page())
        page = window.go()
        assert page.get_by_text("CN=Ana,O=Example").is_visible()
        assert page.get_by_role("button", name="Sign out").count() == 0
        window.go("passwords").get_by_label("Whom it is for").fill("by-certificate")
        page.get_by_role("button", name="Make a one-time password").click()
        page.get_by_role("heading", name="A new one-time password").wait_for()
        window.check()
    (fact,) = site.facts(event="otp_created", target="by-certificate")
    assert fact["actor"] == "CN=Ana,O=Example"


# -- doing -------------------------------------------------------------------------------------------------------------
def test_from_a_password_over_an_enrolment_to_a_revocation(window: Window) -> None:
    site, page = window.site, window.signed_in().page
    page.get_by_role("link", name="One-time passwords", exact=True).click()
    page.get_by_label("Whom it is for").fill("browser-1")
    page.get_by_label("Good for").fill("1h")
    page.get_by_label("Label").select_option("factory")
    page.get_by_role("button", name="Make a one-time password").click()
    token = page.locator("code.token").inner_text()
    certificate = site.enrol(make_csr(make_key(), "browser-1"), "browser-1", token, "factory").certificate()

    page.get_by_role("link", name="Certificates", exact=True).click()
    page.get_by_label("Identity").fill("browser-1")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="CN=browser-1").click()
    page.get_by_label("Reason").select_option("certificateHold")
    page.get_by_label(re.compile("cannot be undone")).check()
    page.get_by_role("button", name="Revoke this certificate").click()
    assert page.get_by_role("status").inner_text().startswith("Done. The certificate is on hold")
    page.get_by_role("button", name="Release").click()
    assert "counts again" in page.get_by_role("status").inner_text()
    page.get_by_label("Reason").select_option("keyCompromise")
    page.get_by_label(re.compile("cannot be undone")).check()
    page.get_by_role("button", name="Revoke this certificate").click()
    assert "is revoked" in page.get_by_role("status").inner_text()
    assert site.get(f"certs/{certificate.serial_number:x}")["revocation_reason"] == "keyCompromise"
    window.check()


def test_a_new_password_is_copied_by_its_button(window: Window) -> None:
    window.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = window.signed_in().go("passwords")
    page.get_by_label("Whom it is for").fill("copied")
    page.get_by_role("button", name="Make a one-time password").click()
    page.get_by_role("button", name="Copy the one-time password for copied").click()
    page.get_by_text("copied", exact=True).last.wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("code.token").inner_text()
    window.check()


def test_many_passwords_from_a_file_to_a_file(window: Window, tmp_path: Path) -> None:
    page = window.signed_in().go("passwords/batch")
    rows = tmp_path / "rows.csv"
    rows.write_text("entity_id\nfile-1\nfile-2\n", encoding="utf-8")
    page.get_by_label("CSV file", exact=True).set_input_files(rows)
    page.get_by_label("as a CSV file").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Make them").click()
    assert download.value.suggested_filename == "one-time-passwords.csv"
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert "file-1" in lines[1]
    window.check()


def test_a_password_is_withdrawn_and_a_lockout_lifted(window: Window) -> None:
    window.site.otp("to-withdraw")
    page = window.signed_in().go("passwords?entity_id=to-withdraw")
    page.get_by_role("button", name=re.compile("Withdraw the one-time password for to-withdraw")).click()
    assert "is withdrawn" in page.get_by_role("status").inner_text()
    window.site.lock_out("to-lift")
    window.go("lockouts").get_by_role("button", name=re.compile("Lift the lockout of .* for to-lift")).click()
    assert "is lifted" in page.get_by_role("status").inner_text()
    assert page.get_by_text("to-lift").count() == 0
    window.check()


def test_requests_are_approved_and_rejected(window: Window) -> None:
    for name in ("gate-8", "gate-9"):
        _wait(window.site, name)
    page = window.signed_in().go("requests")
    page.get_by_role("link", name="CN=gate-8").click()
    assert page.get_by_role("row", name=re.compile("approval")).is_visible()
    page.get_by_role("button", name="Approve and issue").click()
    assert "is approved" in page.get_by_role("status").inner_text()
    assert page.get_by_role("heading", name="CN=gate-8").is_visible()
    window.go("requests").get_by_role("link", name="CN=gate-9").click()
    page.get_by_label("Reason").fill("nobody knows it")
    page.get_by_role("button", name="Reject for good").click()
    assert "is rejected" in page.get_by_role("status").inner_text()
    assert page.get_by_text("nobody knows it").is_visible()
    window.check()


def test_what_a_viewer_sends_by_hand_is_refused(window: Window) -> None:
    serial = hex_serial(window.site.enrolled("guarded"))
    page = window.signed_in(VIEWER).go(f"certificates/{serial}")
    assert page.get_by_role("button", name="Revoke this certificate").count() == 0
    # A form as an operator's page has it, put into the viewer's.
    page.evaluate(
        """serial => {
            const form = document.querySelector("form[action='/console/sign-out']").cloneNode(true);
            form.action = `/console/certificates/${serial}/revoke`;
            for (const [name, value] of [["reason", "keyCompromise"], ["sure", "yes"]]) {
                const field = document.createElement("input");
                Object.assign(field, {name, value});
                form.append(field);
            }
            document.body.append(form);
            form.submit();
        }""",
        serial,
    )
    page.get_by_role("heading", name="Not allowed").wait_for()
    assert page.get_by_text("a viewer may look and change nothing").is_visible()
    assert window.site.get(f"certs/{serial}")["status"] == "active"
    window.check(refused=1)


def test_signing_in_finding_and_revoking_by_keyboard_alone(window: Window) -> None:
    """Only keys, and only what is focused: a person who sees no mouse pointer gets there too."""
    serial = hex_serial(window.site.enrolled("by-keyboard"))
    page = window.go("certificates?identity=by-keyboard&ca_id=")
    keys = page.keyboard

    def tab_to(selector: str) -> None:
        for _ in range(80):
            keys.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline == "solid", f"the focus on {selector} is not seen"
                return
        raise AssertionError(f"Tab does not reach {selector}")

    tab_to(".skip")
    tab_to("#token")
    keys.type(OPERATOR)
    keys.press("Enter")
    page.get_by_role("heading", name="Certificates", level=1).wait_for()
    tab_to(".skip")
    keys.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    tab_to("tbody th a")
    keys.press("Enter")
    page.get_by_role("heading", name="CN=by-keyboard").wait_for()
    tab_to("#reason")
    keys.type("super")
    tab_to("#sure")
    keys.press("Space")
    tab_to("button.danger")
    keys.press("Enter")
    page.get_by_role("status").wait_for()
    assert window.site.get(f"certs/{serial}")["revocation_reason"] == "superseded"
    window.check(refused=1)  # the page that asked to sign in


def test_signing_out_ends_it(window: Window) -> None:
    page = window.signed_in().page
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    window.go("certificates").get_by_role("heading", name="Sign in").wait_for()
    window.check(refused=1)
