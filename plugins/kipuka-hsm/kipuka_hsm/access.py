"""One token of one module, with everything that is open of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kipuka_core import Event, Services, TokenHealth
from kipuka_hsm.events import announcement, logged_in
from kipuka_hsm.login import LoginGuard
from kipuka_hsm.messages import TokenSignature
from kipuka_hsm.modules import module_named, module_path, usual_module
from kipuka_hsm.pins import (
    PinSource,
    pin_of_credential,
    pin_of_environment,
    pin_of_file,
    pin_of_source,
    pin_of_value,
)
from kipuka_hsm.pool import Pool, PoolEvent, PoolLimits
from kipuka_hsm.session import KeyRef, Session, SessionOpener
from kipuka_hsm.settings import HsmSettings
from kipuka_hsm.threads import SignerThreads, current_deadline
from kipuka_hsm.uri import Pkcs11Uri

_GUARD_DIRECTORY = "hsm"
_BUDGET_CALLS, _BUDGET_SHARE = 3, 0.9
"""The time for one signature: so many calls, and at most this share of what the core gives a plugin."""


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """Which token is meant: keys with the same one share its sessions."""

    library: Path
    texts: tuple[tuple[str, str], ...]
    slot_id: int | None
    pin: tuple[str | None, ...]

    @classmethod
    def of(cls, uri: Pkcs11Uri, settings: HsmSettings, services: Services) -> TokenPlace:
        """Where a key's token is. Raises ConfigurationError for a module that cannot be found."""
        library, texts = _library(uri, settings, services), tuple(sorted(uri.texts))
        return cls(library, texts, uri.slot_id, (uri.pin_source, uri.pin_value))

    def __repr__(self) -> str:
        return f"TokenPlace({self.library}, {self.texts})"  # a PIN may stand in the URI


class TokenAccess:
    """The pool of signer processes of a token, and the threads that wait for them."""

    def __init__(
        self,
        place: TokenPlace,
        uri: Pkcs11Uri,
        settings: HsmSettings,
        services: Services,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._services = services
        self._loop = loop
        self._name = "token"
        self._opener = opener_for(place, uri, settings, services)
        # A look beside a running server shall not take the sessions that the token has left.
        sessions = 1 if services.dry_run else settings.sessions
        # Late enough is 503 and a second try of the client's; later the core gives up by itself, which is 500.
        budget_seconds = min(_BUDGET_CALLS * settings.timeout, _BUDGET_SHARE * services.call_timeout_seconds)
        limits = PoolLimits(
            sessions=sessions,
            timeout_seconds=settings.timeout,
            budget_seconds=budget_seconds,
            retry_seconds=settings.retry,
        )
        self.pool = Pool(self._opener, limits, self._report)
        self.threads = SignerThreads(sessions, budget_seconds)
        self.mechanisms: frozenset[str] = frozenset()

    def open(self) -> None:
        """Log in. Blocks. Raises ConfigurationError."""
        try:
            first = self.pool.open()
        except BaseException:
            self.close()
            raise
        self.mechanisms, self._name = first.mechanisms, first.token_name
        sessions = self.pool.health.open
        fact = logged_in(self._name, f"{sessions} session{'' if sessions == 1 else 's'}", self._services.clock())
        self._tell(fact)
        self.pool.tell_short_start()

    def sign(self, key: KeyRef, wanted: TokenSignature) -> bytes:
        """A signature; blocks, as long as the thread that it is made in may. Raises TokenUnavailable, TokenFailed."""
        return self.pool.sign(key, wanted, current_deadline())

    def open_for_writing(self) -> Session:
        """A session of its own, in which keys can be made; to be closed. Blocks."""
        return replace(self._opener, rw=True)()

    @property
    def health(self) -> TokenHealth:
        """As it is now."""
        now = self.pool.health
        return TokenHealth(name=self._name, sessions=now.sessions, sessions_open=now.open, problem=now.problem)

    def close(self) -> None:
        """End processes and threads. Blocks."""
        self.pool.close()
        self.threads.close()

    def _report(self, event: PoolEvent, detail: str) -> None:
        self._tell(announcement(event, self._name, detail, self._services.clock()))

    def _tell(self, fact: Event) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            asyncio.run_coroutine_threadsafe(self._emit(fact), self._loop)

    async def _emit(self, fact: Event) -> None:
        await self._services.emit(fact)


def opener_for(place: TokenPlace, uri: Pkcs11Uri, settings: HsmSettings, services: Services) -> SessionOpener:
    """What opens sessions with this token. Raises ConfigurationError for a place where no PIN can be."""
    return SessionOpener(
        library=str(place.library),
        texts=place.texts,
        slot_id=place.slot_id,
        pin=_pin_source(uri, settings, services),
        guard=LoginGuard(services.state_dir / _GUARD_DIRECTORY),
        timeout_seconds=settings.timeout,
        hidden_variables=frozenset(filter(None, (settings.pin_env,))),
        passed_variables=frozenset(settings.environment),
    )


def _library(uri: Pkcs11Uri, settings: HsmSettings, services: Services) -> Path:
    if uri.module_path is not None:
        return module_path(uri.module_path, uri.module_name)
    if uri.module_name is not None:
        return module_named(uri.module_name)
    if settings.library is not None:
        return module_path(str(services.base_dir / settings.library))
    return usual_module()


def _pin_source(uri: Pkcs11Uri, settings: HsmSettings, services: Services) -> PinSource | None:
    if uri.pin_value is not None:
        return pin_of_value(uri.pin_value)
    if uri.pin_source is not None:
        return pin_of_source(uri.pin_source, services)
    if settings.pin_file is not None:
        return pin_of_file(services.base_dir / settings.pin_file, services)
    if settings.pin_env is not None:
        return pin_of_environment(settings.pin_env)
    return None if settings.pin_credential is None else pin_of_credential(settings.pin_credential, services)
