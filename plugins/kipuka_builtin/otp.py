"""Authenticator ``otp``: a one-time password as HTTP Basic password, its entity as user name (RFC 7030 3.2.3)."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field

from kipuka_core import (
    Authenticator,
    ClientIdentity,
    LockoutLimits,
    Offer,
    OneTimeCredential,
    Provider,
    Services,
    Settings,
    WrongSecret,
)
from kipuka_core.domain.one_time_passwords import MIN_TOKEN_BITS, hash_token
from kipuka_core.hooks.durations import Duration
from kipuka_core.model.entity_id import entity_id_problem
from kipuka_core.model.record import OneTimePassword

_MAX_TOKEN_BITS = 1024
_MAX_TOKEN_LENGTH = 512
"""In characters; no token of ours is longer, and what is longer need not be hashed."""


class OtpSettings(Settings):
    """``[auth.otp]``."""

    token_bits: int = Field(default=160, ge=MIN_TOKEN_BITS, le=_MAX_TOKEN_BITS, description="Random bits in a token.")
    ttl: Duration = Field(default=86_400, description="How long a one-time password is good for.")
    max_usage: int = Field(default=1, ge=1, le=1_000_000, description="How many certificates one password is good for.")
    max_failures: int = Field(
        default=5,
        ge=1,
        description="Wrong secrets within failure_window after which a pair of address and entity is locked.",
    )
    failure_window: Duration = Field(default=900, description="The time in which wrong secrets are counted together.")
    lockout: Duration = Field(default=1800, description="How long a lockout lasts.")
    address_failures: int = Field(
        default=300, ge=1, description="Wrong secrets within failure_window after which a whole address is locked."
    )


class OtpAuthenticator(Authenticator):
    """Finds the one-time password that a client sent. Whether it may still be used, the core's reservation decides."""

    def __init__(self, settings: OtpSettings, services: Services) -> None:
        self._store = services.store
        self.lockout_limits = LockoutLimits(
            max_failures=settings.max_failures,
            failure_window_seconds=settings.failure_window,
            lockout_seconds=settings.lockout,
            address_failures=settings.address_failures,
        )

    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        """The entity that the token was made for.

        An expired, used, revoked or other-label password is an identity too: reserving it fails, with its own reason,
        and a request that waits for a decision goes on although its password has expired meanwhile (invariant 5).
        """
        if offer.credentials is None:
            return None
        username = offer.credentials.username
        if username and entity_id_problem(username):
            return None  # no password was ever made for such a name, and a database need not take it
        record = await self._find(offer.credentials.password)
        if record is None:
            if username and await self._store.knows_otp_entity(username):
                raise WrongSecret(username)
            return None
        if username and username != record.entity_id:
            raise WrongSecret(username)
        return ClientIdentity(
            authenticator=PROVIDER.name,
            entity_id=record.entity_id,
            one_time=OneTimeCredential(record.id, record.subject_pattern),
        )

    async def _find(self, token: str) -> OneTimePassword | None:
        if len(token) > _MAX_TOKEN_LENGTH:
            return None
        token_hash = hash_token(token)
        record = await self._store.find_otp(token_hash)
        # A database compares in its own way (collations, prefixes); this comparison is the one that counts.
        return record if record is not None and hmac.compare_digest(record.token_hash, token_hash) else None


@asynccontextmanager
async def _open(settings: OtpSettings, services: Services) -> AsyncIterator[Authenticator]:
    yield OtpAuthenticator(settings, services)


PROVIDER: Provider[Authenticator] = Provider("otp", OtpSettings, _open)
