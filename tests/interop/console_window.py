"""A page of the console in a browser."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from playwright.sync_api import Browser, BrowserContext, Page

from kipuka_core.testing.client import write_leaf
from kipuka_core.testing.pki import Leaf
from tests.system.admin_site import OPERATOR, AdminSite

WIDE, NARROW = {"width": 1000, "height": 720}, {"width": 320, "height": 640}


@dataclass
class Window:
    """A page of the browser that notes what must not be."""

    site: AdminSite
    context: BrowserContext
    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))

    @property
    def root(self) -> str:
        return f"https://localhost:{self.site.system.server.admin_port}/console/"

    def go(self, path: str = "") -> Page:
        self.page.goto(self.root + path)
        return self.page

    def signed_in(self, token: str = OPERATOR) -> Window:
        self.go("sign-in")
        self.page.get_by_label("Bearer token").fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("heading", name="Overview").wait_for()
        return self

    def check(self, *, refused: int = 0) -> None:
        """Nothing was loaded from elsewhere, and the browser complained of nothing but refusals that were meant."""
        assert all(url.startswith((self.root, "data:")) for url in self.asked), self.asked
        complaints = [each for each in self.said if re.match(r"(error|warning)", each)]
        meant = [each for each in complaints if re.search(r"the server responded with a status of 4\d\d", each)]
        assert complaints == meant
        assert len(meant) == refused, complaints


def browser_context(site: AdminSite, chromium: Browser, leaf: Leaf | None = None) -> BrowserContext:
    certificates = []
    if leaf is not None:
        certificate, key = write_leaf(leaf, site.system.deployment.directory)
        origin = f"https://localhost:{site.system.server.admin_port}"
        certificates = [{"origin": origin, "certPath": str(certificate), "keyPath": str(key)}]
    return chromium.new_context(
        ignore_https_errors=True,  # the root of the test is in no store of the browser
        viewport=WIDE,  # type: ignore[arg-type]  # a plain dictionary
        locale="en-GB",
        client_certificates=certificates,  # type: ignore[arg-type]  # as above
    )
