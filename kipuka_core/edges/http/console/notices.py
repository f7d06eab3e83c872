"""What was done, said on the page that comes next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from quart import Response, redirect

from kipuka_core.edges.http.console.door import NOTICE, set_cookie

NOTICES: Mapping[str, str] = {
    "revoked": "The certificate is revoked. CRL and OCSP say so from now on.",
    "held": "The certificate is on hold. CRL and OCSP say so from now on.",
    "released": "The certificate counts again.",
    "withdrawn": "The one-time password is withdrawn.",
    "asked": "The request is approved. The external CA has it now; the client gets what it issues.",
    "approved": "The request is approved and the certificate issued; the client gets it when it asks again.",
    "rejected": "The request is rejected; the client is told so when it asks again.",
    "lifted": "The lockout is lifted.",
}
"""By the word in the cookie: a cookie says which of these, and no text of its own."""
_SECONDS = 60


def done(notice: str, page: str) -> Response:
    """On to a page that says what was done."""
    answer = cast("Response", redirect(page, 303))
    set_cookie(answer, NOTICE, notice, max_age_seconds=_SECONDS)
    return answer
