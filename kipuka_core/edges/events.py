"""Where audit facts go: the log, the sinks, the store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import NoneType

from kipuka_core.domain.guard import Guard
from kipuka_core.domain.meter import Meter
from kipuka_core.domain.ports import EventSink, Store
from kipuka_core.edges.anonymous_refusals import AnonymousRefusals
from kipuka_core.edges.log import get_logger
from kipuka_core.errors import KipukaError, RequestRefused, StoreUnavailable, Unavailable
from kipuka_core.model.event import AuditSinkFailed, AuditSinkRestored, Event

log = get_logger()


@dataclass(frozen=True, slots=True)
class ConfiguredSink:
    """A sink of ``[[audit.sink]]``. A required one that fails stops issuance."""

    name: str
    sink: EventSink
    required: bool


@dataclass(frozen=True, slots=True)
class Events:
    """The event hub of a process."""

    sinks: Sequence[ConfiguredSink]
    store: Store
    guard: Guard
    anonymous: AnonymousRefusals | None = None
    """What gathers refusals of nobody known; None: each of them is told."""
    meter: Meter = field(default_factory=Meter)
    _failing: set[str] = field(default_factory=set)
    _under_way: list[int] = field(default_factory=lambda: [0])

    @property
    def backlog(self) -> int:
        """How many events are being written now."""
        return self._under_way[0]

    async def announce(self, event: Event) -> None:
        """Tell the log and the sinks.

        Raises Unavailable when a required sink failed.
        """
        fields = event.as_dict()
        log.info(fields.pop("event"), **fields)
        self._under_way[0] += 1
        try:
            failed = [each.name for each in self.sinks if not await self._told(each, event) and each.required]
        finally:
            self._under_way[0] -= 1
        if failed:
            raise Unavailable("the server cannot write its audit log, so it issues nothing", code="audit_unavailable")

    async def emit(self, event: Event) -> None:
        """Tell log, sinks and store; failures are logged and go no further."""
        self.meter.fact(event)
        if self.anonymous is None or self.anonymous.is_told(event):
            await self.tell(event)

    async def tell(self, event: Event) -> None:
        """As :meth:`emit`, for what is not to be gathered any more."""
        with suppress(Unavailable):  # of which the log was told already
            await self.announce(event)
        await self._record(event)

    async def _record(self, event: Event) -> None:
        try:
            await self.store.add_event(event)
        except (StoreUnavailable, Unavailable) as error:
            log.error("event not stored", event_name=event.name, problem=str(error))

    async def _told(self, each: ConfiguredSink, event: Event) -> bool:
        try:
            await self.guard.call(each.name, each.sink.emit, event, expect=NoneType)
        except KipukaError as error:
            problem = getattr(error, "detail", "") if isinstance(error, RequestRefused) else ""
            problem = problem or str(error)
            self.meter.sink_failed(each.name)
            log.error("audit sink failed", sink=each.name, problem=problem, event_name=event.name)
            if each.name not in self._failing:
                self._failing.add(each.name)
                await self._tell_of_sinks(
                    AuditSinkFailed(time=datetime.now(UTC), sink=each.name, required=each.required, reason=problem)
                )
            return False
        if each.name in self._failing:
            self._failing.discard(each.name)
            await self._tell_of_sinks(AuditSinkRestored(time=datetime.now(UTC), sink=each.name))
        return True

    async def _tell_of_sinks(self, event: Event) -> None:
        """Tell whoever takes events now; what happens to the sinks is an event itself."""
        self.meter.fact(event)
        fields = event.as_dict()
        log.info(fields.pop("event"), **fields)
        for each in self.sinks:
            if each.name not in self._failing:
                await self._told(each, event)
        await self._record(event)
