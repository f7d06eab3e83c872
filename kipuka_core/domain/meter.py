"""What the core tells of itself to whoever measures it. The base class measures nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from kipuka_core.model.event import CertificateIssued, Event

_NOTHING = nullcontext()


class Meter:
    """Counts and times. Called on every road, so each method costs next to nothing, and none raises."""

    def timed(self, step: str) -> AbstractContextManager[None]:
        """Times what is done inside: one step of the road, also when it ends with a refusal."""
        return _NOTHING

    def fact(self, event: Event) -> None:
        """Count an event, one that is gathered with others too."""

    def issued(self, event: CertificateIssued, *, by_one_time_password: bool) -> None:
        """Count a certificate whose record is durable."""

    def ca_answered(self, ca_id: str, outcome: str) -> None:
        """Count a request to a CA: ``issued``, ``waiting``, ``refused``, ``away`` or ``unknown``."""

    def answered(self, operation: str, status: int) -> None:
        """Count an HTTP response of the EST listener; ``operation`` is empty for a path that is none."""

    def handshake_failed(self, listener: str, cause: str) -> None:
        """Count a connection that never became one."""

    def sink_failed(self, sink: str) -> None:
        """Count an event that an audit sink did not take."""
