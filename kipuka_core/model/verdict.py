"""What a policy says of a template."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DenyKind(StrEnum):
    """Which kind of refusal the client gets."""

    CSR = "csr"
    """What the CSR *is*: HTTP 400."""
    PERMISSION = "permission"
    """What this client may not *have*: HTTP 403."""


@dataclass(frozen=True, slots=True)
class Allow:
    """No objection."""


@dataclass(frozen=True, slots=True)
class Deny:
    """An objection. ``reason`` goes to the client: say what to change."""

    kind: DenyKind
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: a person or another system decides (202, RFC 7030 4.2.3). ``reason`` goes to the client."""

    reason: str
    retry_after_seconds: int | None = None
    """None: what the label says. 0, of a CA: poll at once."""
    reference: str = ""
    """Of a CA: what it knows the request by. It is on record before :meth:`CaBackend.poll` is given it."""


Verdict = Allow | Deny | Wait
