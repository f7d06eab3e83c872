"""A refusal as the client gets it: short, in plain text, saying what to change (RFC 7030 4.2.3, RFC 8951 5)."""

from __future__ import annotations

from kipuka_core.edges.http.messages import Response
from kipuka_core.edges.http.status import status_of
from kipuka_core.errors import BodyTimeout, BodyTooLarge, LockedOut, MethodNotAllowed, RequestRefused, Unavailable

CHALLENGE = b'Basic realm="EST", charset="UTF-8"'


def refusal_response(refusal: RequestRefused, request_id: str, *, status: int | None = None) -> Response:
    """The response to a refusal; ``request_id`` is what a person quotes to the operator."""
    status = status or status_of(refusal)
    headers: list[tuple[bytes, bytes]] = []
    if status == 401:
        headers.append((b"www-authenticate", CHALLENGE))
    if isinstance(refusal, MethodNotAllowed):
        headers.append((b"allow", ", ".join(refusal.allow).encode()))
    if isinstance(refusal, LockedOut | Unavailable):
        headers.append((b"retry-after", str(refusal.retry_after_seconds).encode()))
    if isinstance(refusal, BodyTooLarge | BodyTimeout):
        headers.append((b"connection", b"close"))
    body = f"{printable(refusal.reason)}\nrequest {request_id}\n".encode()
    return Response(status, "text/plain; charset=utf-8", body, tuple(headers))


def printable(reason: object) -> str:
    """Names of a CSR are quoted in reasons: control characters and endless ones are not handed back.

    A plugin may have given as reason what is no text at all.
    """
    shown = "".join(character if character.isprintable() else "?" for character in str(reason))
    return shown if len(shown) <= 500 else shown[:500] + "…"
