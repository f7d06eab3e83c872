"""Why a certificate was revoked: CRLReason (RFC 5280 5.3.1)."""

from __future__ import annotations

from enum import IntEnum

from kipuka_core.errors import Malformed


class RevocationReason(IntEnum):
    """The reasons that can be given here; names as RFC 5280 writes them.

    Not 8 (removeFromCRL), which only delta CRLs have, and neither 7, which is not used.
    """

    unspecified = 0
    keyCompromise = 1  # noqa: N815  # the names of RFC 5280
    cACompromise = 2  # noqa: N815
    affiliationChanged = 3  # noqa: N815
    superseded = 4
    cessationOfOperation = 5  # noqa: N815
    certificateHold = 6  # noqa: N815
    privilegeWithdrawn = 9  # noqa: N815
    aACompromise = 10  # noqa: N815


def parse_reason(value: int | str) -> RevocationReason:
    """A reason from its number or name. Raises Malformed (``invalid_reason``)."""
    try:
        # A bool is an int to Python, and no reason.
        return RevocationReason[value] if isinstance(value, str) else RevocationReason(int(value))
    except (KeyError, ValueError):
        known = ", ".join(f"{each.value} {each.name}" for each in RevocationReason)
        raise Malformed(
            f"reason: is no reason of RFC 5280 5.3.1; possible are {known}", code="invalid_reason"
        ) from None


def reason_name(number: int | None) -> str | None:
    """The RFC 5280 name of a recorded reason; the number as text where there is none."""
    if number is None:
        return None
    return RevocationReason(number).name if number in set(RevocationReason) else str(number)
