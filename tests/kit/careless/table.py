"""The shape of a row: a mistake, a plugin that makes it, who finds it, and the line that its author then reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from kipuka_core import Provider, Services, Settings, hookimpl

HOOKS = {
    "authenticator": "kipuka_authenticators",
    "policy": "kipuka_policies",
    "ca_backend": "kipuka_ca_backends",
    "key_store": "kipuka_key_stores",
    "tls_material": "kipuka_tls_material",
    "event_sink": "kipuka_event_sinks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """A test of the contract suite that fails, and what it says; both as far as they tell the mistake from others."""

    test: str
    says: str
    secrets: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AtStart:
    """The start stops: what stands in its one line."""

    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AtRequest:
    """The request is refused: with which status, and what the log says."""

    status: int
    logs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """What no server can know of a plugin, and what becomes of it there."""

    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Careless:
    """A plugin with one mistake."""

    mistake: str
    kind: str = "authenticator"
    port: Callable[[], object] | None = None
    """Makes what is opened."""
    provider: Callable[[str], Any] | None = None
    """Makes the provider from its name, where the mistake is there."""
    plugin: Callable[[], object] | None = None
    """Makes the plugin, where the mistake is in its hooks; an exception fails its import."""
    contract: Contract | None = None
    """None: the mistake is in a hook, which no suite sees."""
    server: AtStart | AtRequest | Unseen

    @property
    def name(self) -> str:
        """The name of the plugin and of its provider."""
        return re.sub("[^a-z0-9]+", "_", self.mistake.lower()).strip("_")

    def made_provider(self) -> Any:
        """What its hook hands over."""
        if self.provider is not None:
            return self.provider(self.name)
        if self.port is None:
            raise TypeError(f"{self.mistake}: neither a port nor a provider")
        return Provider(self.name, Settings, opening(self.port))

    def made_plugin(self) -> object:
        """What its entry point names."""
        if self.plugin is not None:
            return self.plugin()
        return with_hook(HOOKS[self.kind], lambda: [self.made_provider()])


def opening(make: Callable[[], Any]) -> Callable[[Any, Services], AbstractAsyncContextManager[Any]]:
    """The ``open`` of a provider without resources."""
    return lambda _settings, _services: nullcontext(make())


def with_hook(name: str, hook: Callable[[], Any], **more: Any) -> object:
    """A plugin with one hook, marked as it has to be."""

    def marked() -> Any:
        return hook()

    return SimpleNamespace(**{name: hookimpl(marked)}, **more)
