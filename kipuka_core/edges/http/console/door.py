"""Who comes to the console: by a session, by a client certificate, or to sign in; and whether a form is one of ours."""

from __future__ import annotations

from typing import cast
from urllib.parse import quote

from quart import Response, g, redirect, request
from quart.typing import ResponseReturnValue

from kipuka_core.edges.http.admin import check_origin
from kipuka_core.edges.http.admin_gate import AdminGate, check_role
from kipuka_core.edges.http.console.form_tokens import FormTokens, is_same
from kipuka_core.edges.http.console.sessions import Sessions
from kipuka_core.edges.http.messages import Scope
from kipuka_core.edges.log import get_logger
from kipuka_core.errors import NotAllowed, NotAuthenticated
from kipuka_core.model.administrator import Administrator

log = get_logger()

# A name that begins so is accepted only with Secure, for this very host and without a Domain (RFC 6265bis 4.1.3.2).
SESSION, BROWSER, NOTICE = "__Host-kipuka-session", "__Host-kipuka-form", "__Host-kipuka-notice"
HOME = "/console/"
SIGN_IN, SIGN_OUT = "/console/sign-in", "/console/sign-out"
FORM_TOKEN = "form_token"  # noqa: S105  # the name of a field
_OPEN_ENDPOINTS = frozenset({"console.asset", "console.sign_in_page"})
_LOOKING = frozenset({"GET", "HEAD"})
_LONGEST_NEXT = 2000


class NobodyYet(NotAuthenticated):
    """A page was asked for, with nothing to be recognised by: there is nothing to count, only a form to show."""

    code = "no_credential"


class Door:
    """Says who asks, before every page."""

    def __init__(self, gate: AdminGate, sessions: Sessions, forms: FormTokens) -> None:
        self._gate = gate
        self._sessions = sessions
        self._forms = forms

    async def enter(self) -> None:
        """Sets ``g.administrator`` (None on open pages), ``g.has_session`` and ``g.form_token``, or refuses.

        Raises as :meth:`AdminGate.admit`, and NotAllowed for a form that is none of ours.
        """
        scope = cast("Scope", request.scope)
        session = request.cookies.get(SESSION, "")
        known = self._sessions.administrator(session) if session else None
        g.administrator, g.has_session = None, known is not None
        g.new_browser = None if request.cookies.get(BROWSER) else self._forms.new_browser()
        browser = request.cookies.get(BROWSER) or g.new_browser
        g.form_token = self._forms.token(self._gate, scope, browser=browser, session=session if known else "")
        if request.endpoint in _OPEN_ENDPOINTS:
            return
        if request.path in {SIGN_IN, SIGN_OUT} and request.method == "POST":
            await self._check_form(known)
            return
        g.administrator = await self._administrator(scope, known)
        if request.method not in _LOOKING:
            await self._check_form(g.administrator)

    async def sign_in(self) -> ResponseReturnValue:
        """A session for a bearer token. Raises NotAuthenticated, LockedOut."""
        form = await request.form
        # The gate's answer, not the token, is what the session keeps.
        administrator = await self._gate.sign_in(
            cast("Scope", request.scope), form.get("token", "").strip(), path=request.path
        )
        self._sessions.end(request.cookies.get(SESSION, ""))
        answer = cast("Response", redirect(safe_next(form.get("next", "")), 303))
        set_cookie(answer, SESSION, self._sessions.begin(administrator))
        set_cookie(answer, BROWSER, self._forms.new_browser())
        log.info("signed in to the console", administrator=administrator.name)
        return answer

    async def sign_out(self) -> ResponseReturnValue:
        """End the session."""
        self._sessions.end(request.cookies.get(SESSION, ""))
        answer = cast("Response", redirect(SIGN_IN, 303))
        drop_cookie(answer, SESSION)
        drop_cookie(answer, BROWSER)
        return answer

    async def _administrator(self, scope: Scope, known: Administrator | None) -> Administrator:
        if known is None:
            has_header = "Authorization" in request.headers
            if request.method in _LOOKING and not has_header and not self._gate.client_chain(scope):
                raise NobodyYet("sign in to see this page")
            return await self._gate.admit(scope, method=request.method, path=request.path)
        try:
            check_role(known, request.method)
        except NotAllowed as refusal:
            await self._gate.refused(scope, refusal, path=request.path)
            raise
        return known

    async def _check_form(self, administrator: Administrator | None) -> None:
        try:
            check_origin()
            await _check_token()
        except NotAllowed as refusal:
            refusal.actor = administrator.name if administrator else ""
            await self._gate.refused(cast("Scope", request.scope), refusal, path=request.path)
            raise


async def _check_token() -> None:
    token = (await request.form).get(FORM_TOKEN, "")
    if g.new_browser is not None or not is_same(token, g.form_token):
        raise NotAllowed(
            "this form is not one of the page that you have open now, or it is too old: go back, load the page again"
            " and repeat it; nothing was changed",
            code="form_token",
        )


def set_cookie(answer: Response, name: str, value: str, *, max_age_seconds: int | None = None) -> None:
    """A cookie that no script reads, and that no page of another site makes a browser send."""
    answer.set_cookie(name, value, max_age=max_age_seconds, path="/", secure=True, httponly=True, samesite="Strict")


def drop_cookie(answer: Response, name: str) -> None:
    """Have the browser forget it."""
    answer.delete_cookie(name, path="/", secure=True, httponly=True, samesite="Strict")


def safe_next(path: str) -> str:
    """Where to go after signing in: a page of the console, never another place."""
    is_page = path.startswith(HOME) and len(path) <= _LONGEST_NEXT and path.isprintable() and "\\" not in path
    return quote(path, safe="/?&=%:+*.,~-_") if is_page and not path.startswith((SIGN_IN, SIGN_OUT)) else HOME
