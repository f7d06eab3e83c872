"""Whether a request's Content-Type can be what the operation takes (RFC 7030 4.2.1)."""

from __future__ import annotations

PKCS10 = "application/pkcs10"
PKCS7_MIME = "application/pkcs7-mime"

# A recipient may assume this type where none is given (RFC 9110 8.3), so it says as little as a missing one.
_SAYS_NOTHING = frozenset(("", "application/octet-stream"))
_ALSO_SENT_FOR = {PKCS10: frozenset(("application/x-pem-file",))}  # Cisco IOS 15 and 16


def is_acceptable(content_type: str | None, expected: str) -> bool:
    """Compare a Content-Type header with a media type, without case and parameters. A missing one is accepted.

    ``curl --data`` says ``application/x-www-form-urlencoded`` unless told otherwise. That is refused: it also removes
    line ends from the body, so the answer should tell people to write ``-H 'Content-Type: …' --data-binary``.
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    return media_type == expected or media_type in _SAYS_NOTHING or media_type in _ALSO_SENT_FOR.get(expected, ())
