"""The console as a browser without scripts sees it: cookies, forms, and what a page says."""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

from kipuka_core.testing.client import Answer
from kipuka_core.testing.pki import Leaf
from tests.system.admin_kit import admin
from tests.system.system_kit import System

VOID = frozenset({"meta", "link", "input", "br", "path", "line", "img", "hr"})


@dataclass
class Form:
    """A form with what it would send as it stands."""

    action: str
    method: str
    values: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self._texts: list[str] = []
        self._select = ""
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        had = {name: value or "" for name, value in attrs}
        self.tags.append((tag, had))
        if "id" in had:
            self.ids.append(had["id"])
        if tag not in VOID:
            self.open.append(tag)
        if tag == "form":
            self.forms.append(Form(had.get("action", ""), had.get("method", "get")))
        if tag == "select":
            self._select = had["name"]
        if tag == "option" and ("selected" in had or self._select not in self.forms[-1].values):
            self.forms[-1].values[self._select] = had["value"]
        is_on = had.get("type") not in {"checkbox", "radio"} or "checked" in had
        if tag == "input" and "name" in had and had.get("type") != "file" and is_on:
            self.forms[-1].values[had["name"]] = had.get("value", "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> of nothing"
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self._texts.append(data)

    @property
    def text(self) -> str:
        """All of its text, spaces as one."""
        return re.sub(r"\s+", " ", " ".join(self._texts))

    def form(self, action: str) -> Form:
        """The POST form with this action, or one that begins so."""
        (found,) = [each for each in self.forms if each.method == "post" and each.action.partition("?")[0] == action]
        return found


@dataclass
class Browser:
    """Somebody with a browser; a client certificate in it, or not."""

    system: System
    leaf: Leaf | None = None
    cookies: dict[str, str] = field(default_factory=dict)
    cookie_lines: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """One request; cookies are sent and kept."""
        client = admin(self.system, leaf=self.leaf)
        connection = client.connect()
        sent = dict(headers or {})
        if self.cookies:
            sent.setdefault("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            self._keep(response)
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def get(self, path: str = "", status: int = 200) -> Page:
        """A page below ``/console/``, or by its whole path."""
        answer = self.ask("GET", path if path.startswith("/") else f"/console/{path}")
        return page(answer, status)

    def send(self, form: Form, *, headers: dict[str, str] | None = None, **changed: str | None) -> Answer:
        """Send a form as a browser does, with these values; None: without the field."""
        values = {name: value for name, value in (form.values | changed).items() if value is not None}
        return self.post(form.action, values, headers=headers)

    def post(self, path: str, values: dict[str, Any], *, headers: dict[str, str] | None = None) -> Answer:
        """A POST of form fields from a page of this origin."""
        own = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": f"https://localhost:{self.system.server.admin_port}",
            "Sec-Fetch-Site": "same-origin",
        }
        return self.ask("POST", path, urlencode(values).encode(), own | dict(headers or {}))

    def then(self, answer: Answer) -> Page:
        """Where a form that was taken leads."""
        assert answer.status == 303, (answer.status, answer.text)
        return self.get(answer.headers["location"])

    def signed_in(self, token: str) -> Browser:
        """By a bearer token."""
        assert self.then(self.send(self.get("sign-in").form("/console/sign-in"), token=token)).ids
        return self

    def _keep(self, response: http.client.HTTPResponse) -> None:
        for line in response.headers.get_all("Set-Cookie") or []:
            self.cookie_lines.append(line)
            name, _, rest = line.partition("=")
            value = rest.partition(";")[0]
            if value and "Max-Age=0" not in line:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)


def page(answer: Answer, status: int = 200) -> Page:
    """The page of an answer of this status."""
    assert answer.status == status, (answer.status, answer.text[-2000:])
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer.text)
