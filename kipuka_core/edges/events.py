"""Where audit facts go: the log, the sinks, the store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import NoneType

from kipuka_core.domain.guard import Guard
from kipuka_core.domain.ports import EventSink, Store
from kipuka_core.edges.log import get_logger
from kipuka_core.errors import KipukaError, RequestRefused, StoreUnavailable, Unavailable
from kipuka_core.model.event import Event

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

    async def announce(self, event: Event) -> None:
        """Tell the log and the sinks.

        Raises Unavailable when a required sink failed.
        """
        fields = event.as_dict()
        log.info(fields.pop("event"), **fields)
        failed = [each.name for each in self.sinks if not await self._told(each, event) and each.required]
        if failed:
            raise Unavailable("the server cannot write its audit log, so it issues nothing", code="audit_unavailable")

    async def emit(self, event: Event) -> None:
        """Tell log, sinks and store; failures are logged and go no further."""
        with suppress(Unavailable):  # of which the log was told already
            await self.announce(event)
        try:
            await self.store.add_event(event)
        except (StoreUnavailable, Unavailable) as error:
            log.error("event not stored", event_name=event.name, problem=str(error))

    async def _told(self, each: ConfiguredSink, event: Event) -> bool:
        try:
            await self.guard.call(each.name, each.sink.emit, event, expect=NoneType)
        except KipukaError as error:
            detail = getattr(error, "detail", "") if isinstance(error, RequestRefused) else ""
            log.error("audit sink failed", sink=each.name, problem=detail or str(error), event_name=event.name)
            return False
        return True
