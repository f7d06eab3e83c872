"""What is known about the revocation of a client certificate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RevocationStatus(StrEnum):
    """Of a certificate, or of a whole chain: then the worst of its certificates."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RevocationAnswer:
    """A status and one line about where it comes from, for the log: whose certificate, which source, what failed."""

    status: RevocationStatus
    detail: str = ""
