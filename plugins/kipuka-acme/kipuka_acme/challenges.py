"""Challenges (RFC 8555 8): which one is answered, and by whom."""

from __future__ import annotations

import base64
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from kipuka_acme.shapes import Authorization, Challenge
from kipuka_core import NotAllowed


@dataclass(frozen=True, slots=True)
class Answering:
    """A challenge, and what the CA has to find."""

    domain: str
    """Without the ``*.`` of a wildcard."""
    challenge: Challenge
    key_authorization: str

    @property
    def record_name(self) -> str:
        """Where dns-01 looks for a TXT record (RFC 8555 8.4)."""
        return f"_acme-challenge.{self.domain}"

    @property
    def record_value(self) -> str:
        """What it looks for."""
        digest = hashlib.sha256(self.key_authorization.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Solver(ABC):
    """Answers one kind of challenges. Both methods may be called more than once for the same challenge."""

    challenge_type: ClassVar[str]
    wait_seconds: int = 0
    """How long after :meth:`present` the CA may look."""

    @abstractmethod
    async def present(self, answering: Answering) -> None:
        """Let the CA find the answer. Raises Unavailable."""

    @abstractmethod
    async def cleanup(self, answering: Answering) -> None:
        """The CA will not look again. Raises Unavailable."""


def choose(solvers: Sequence[Solver], authorization: Authorization, thumbprint: str) -> tuple[Solver, Answering]:
    """The first solver that can answer a challenge of the authorization. Raises NotAllowed where none can."""
    offered = {each.type: each for each in authorization.challenges if each.token}
    for solver in solvers:
        challenge = offered.get(solver.challenge_type)
        if challenge is not None:
            domain = authorization.identifier.value.removeprefix("*.")
            return solver, Answering(domain, challenge, f"{challenge.token}.{thumbprint}")
    name = authorization.identifier.value if not authorization.wildcard else f"*.{authorization.identifier.value}"
    raise NotAllowed(
        f"the certification authority wants proof for {name[:260]} by one of {', '.join(sorted(offered)) or 'nothing'},"
        f" and this server answers {', '.join(each.challenge_type for each in solvers) or 'no challenges'}"
    )
