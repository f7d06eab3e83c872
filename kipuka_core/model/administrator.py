"""Who administers, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_LOOKING = frozenset({"GET", "HEAD"})


class Role(StrEnum):
    """What an administrator may do: everything, or look."""

    OPERATOR = "operator"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class Administrator:
    """An authenticated administrator; routes find it as ``quart.g.administrator``."""

    name: str
    """For the audit trail: the subject (RFC 4514), the certificate's serial number where it has none, or
    ``token:NAME``."""
    role: Role

    @property
    def may_change(self) -> bool:
        """Whether this role may change anything."""
        return self.role is Role.OPERATOR

    def may(self, method: str) -> bool:
        """Whether this role may send requests with this HTTP method."""
        return self.may_change or method in _LOOKING
