"""Which texts can be an entity id: the name that a deployment knows a device by."""

from __future__ import annotations

MAX_ENTITY_ID_LENGTH = 255
"""In characters."""


def entity_id_problem(text: str) -> str | None:
    """Say in a few words why ``text`` cannot be an entity id, or None when it can.

    HTTP Basic ends the user name at the first colon (RFC 7617 2), so an entity id with a colon could never be sent.
    Control characters and lone surrogates would reach logs and databases that do not take them.
    """
    if not text:
        return "it is empty"
    if len(text) > MAX_ENTITY_ID_LENGTH:
        return f"it has {len(text)} characters and may have at most {MAX_ENTITY_ID_LENGTH}"
    if ":" in text:
        return "it holds a colon, which HTTP Basic takes as the end of the user name"
    if not text.isprintable():
        return "it holds a control character or another one that cannot be printed"
    return None
