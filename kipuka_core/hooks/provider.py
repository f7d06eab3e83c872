"""What a plugin hands over: how to make a port from settings, and what the making may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from cryptography import x509
from pydantic import BaseModel, ConfigDict

from kipuka_core.domain.ports import RunBlocking, Signer, Store
from kipuka_core.model.event import Event
from kipuka_core.model.label import Label

PortT_co = TypeVar("PortT_co", covariant=True)


class Settings(BaseModel):
    """Base of every plugin's settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the core lends to plugins when they are opened."""

    store: Store
    clock: Callable[[], datetime]
    """The present moment, aware, UTC."""
    run_blocking: RunBlocking
    open_signer: Callable[[str], Awaitable[Signer]]
    """Opens a CA key by its URI through the key stores."""
    base_dir: Path
    """Relative paths in settings are relative to this directory (that of ``kipuka.toml``)."""
    state_dir: Path
    labels: Sequence[Label]
    client_anchors: Sequence[x509.Certificate]
    """``[tls.client_auth] trust_anchors``, as they are now: SIGHUP reads them again."""
    own_issuers: Callable[[], Sequence[x509.Certificate]]
    """Every certificate of the own CAs, previous generations included."""
    accept_unrecorded: bool
    """``[revocation] accept_unrecorded``: certificates of own CAs count although the store does not know them."""
    strict_permissions: bool
    emit: Callable[[Event], Awaitable[None]]
    """Tells log, sinks and store an audit fact. Never raises."""
    warn: Callable[[str], None]
    """Says something that the operator should change; shown at start-up, by ``kipuka check`` and on health pages."""


@dataclass(frozen=True, slots=True)
class Provider(Generic[PortT_co]):
    """One way to fill a port. ``name`` is the word after ``use =`` (or ``backend =``, a URI scheme, …).

    ``open`` gets the validated settings and the services, and does all I/O of starting and stopping: an async context
    manager whose value is the port.
    """

    name: str
    settings: type[BaseModel]
    open: Callable[[Any, Services], AbstractAsyncContextManager[PortT_co]]
