"""From what the core tells to figures with sane labels."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from kipuka_core.domain.meter import Meter
from kipuka_core.edges.metrics import catalogue
from kipuka_core.edges.metrics.counters import Counters, Timing
from kipuka_core.model.event import (
    AdminRefused,
    CertificateIssued,
    ClientLockedOut,
    EnrolmentRefused,
    EnrolmentReplayed,
    EnrolmentWaiting,
    Event,
)
from kipuka_core.model.label import Label
from kipuka_core.model.request import Operation

NO_LABEL, UNKNOWN = "(none)", "(unknown)"
_READ_ONLY = frozenset({"", Operation.CACERTS, Operation.CSRATTRS})


class CountingMeter(Meter):
    """Counts into ``counters``. A label that is none of ``labels`` was made up by a client."""

    def __init__(self, counters: Counters, labels: Mapping[str, Label]) -> None:
        self._counters = counters
        self._shown = {name: (name or NO_LABEL, label.ca_id) for name, label in labels.items()}

    def timed(self, step: str) -> AbstractContextManager[None]:
        """See the base class."""
        return Timing(self._counters, catalogue.STEP_SECONDS.name, (step,))

    def fact(self, event: Event) -> None:
        """See the base class."""
        add = self._counters.add
        add(catalogue.EVENTS.name, (event.name,))
        match event:
            case EnrolmentRefused():
                self._refused(event)
            case EnrolmentWaiting():
                self._enrolled(event.label, event.authenticator, event.operation, "waiting")
            case EnrolmentReplayed():
                self._enrolled(event.label, event.authenticator, event.operation, "replayed")
            case ClientLockedOut():
                add(catalogue.LOCKOUTS.name)
            case AdminRefused():
                add(catalogue.ADMIN_REFUSALS.name, (event.code,))

    def issued(self, event: CertificateIssued, *, by_one_time_password: bool) -> None:
        """See the base class."""
        self._counters.add(catalogue.EVENTS.name, (event.name,))
        self._enrolled(event.label, event.authenticator, event.operation, "issued")
        if by_one_time_password:
            self._counters.add(catalogue.OTP_USES.name)

    def ca_answered(self, ca_id: str, outcome: str) -> None:
        """See the base class."""
        self._counters.add(catalogue.CA_REQUESTS.name, (ca_id, outcome))

    def answered(self, operation: str, status: int) -> None:
        """See the base class."""
        self._counters.add(catalogue.RESPONSES.name, (operation, str(status)))

    def handshake_failed(self, listener: str, cause: str) -> None:
        """See the base class."""
        self._counters.add(catalogue.HANDSHAKES_FAILED.name, (listener, cause))

    def sink_failed(self, sink: str) -> None:
        """See the base class."""
        self._counters.add(catalogue.SINK_FAILURES.name, (sink,))

    def _refused(self, event: EnrolmentRefused) -> None:
        label, _ = self._shown.get(event.label, (UNKNOWN, ""))
        self._counters.add(catalogue.REFUSALS.name, (label, event.operation, event.code))
        if event.operation not in _READ_ONLY:
            self._enrolled(event.label, event.authenticator, event.operation, "refused")

    def _enrolled(self, label: str, authenticator: str, operation: str, outcome: str) -> None:
        shown, ca_id = self._shown.get(label, (UNKNOWN, ""))
        self._counters.add(catalogue.ENROLMENTS.name, (shown, ca_id, authenticator, operation, outcome))
