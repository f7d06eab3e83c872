"""TLS material ``self``: a server certificate issued by an own CA of this server, which renews it in place.

The certificate carries serverAuth and id-kp-cmcRA (RFC 7030 3.6.1), is on record like every other, and lives with its
key under ``state_dir/tls-self``. It is issued at the first start and renewed 30 days before its end, or at half of its
life when that is less than 60 days; also when names, key type or CA are others than configured, when it was revoked,
and when its file is damaged. The root of the CA is not sent: clients have it as their trust anchor.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from cryptography import x509
from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from kipuka_builtin.file_keys import GENERATORS
from kipuka_builtin.tls_self_files import Pair, PairDirectory
from kipuka_core import (
    CaChain,
    ConfigurationError,
    KeyType,
    KipukaError,
    Provider,
    ServerIdentity,
    Services,
    Settings,
    TlsMaterial,
    Unavailable,
    issued_by,
)
from kipuka_core.hooks.secret_files import check_permissions
from kipuka_core.model.fingerprints import issuer_key_id, serial_hex
from kipuka_core.model.key_type import key_type_of, parse_key_type
from kipuka_core.model.names import same_san, san_of
from kipuka_core.model.record import CertificateStatus

_TABLE = "tls.self"
_RENEWED_BEFORE_END = timedelta(days=30)
_LOCK_SECONDS = 60.0
_UPKEEP_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
# The last label is not all digits: such a name would be a mistyped IPv4 address.
_DNS_NAME = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*(?!\d+$){_LABEL}")
_KEY_TYPES = tuple(each for each in KeyType if each.family in {"rsa", "ec"})
"""What TLS clients of every kind can verify."""


def _server_key_type(value: object) -> object:
    key_type = parse_key_type(value) if isinstance(value, str) else value
    if key_type not in _KEY_TYPES:
        raise ValueError(f"the key of a TLS server is one of {', '.join(_KEY_TYPES)}")
    return key_type


_ServerKeyType = Annotated[
    KeyType, BeforeValidator(_server_key_type), WithJsonSchema({"x-kind": "key type", "type": "string"})
]


class TlsSelfSettings(Settings):
    """``[tls.self]``."""

    names: tuple[str, ...] = Field(
        min_length=1,
        description="Every DNS name and IP address by which clients reach this server.",
        examples=[["est.example.com", "192.0.2.7"]],
    )
    ca: str | None = Field(
        default=None, description="The id of the `[[ca]]` that issues; absent: the default one.", examples=["default"]
    )
    key_type: _ServerKeyType = Field(default=KeyType.ECDSA256, description=f"One of {', '.join(_KEY_TYPES)}.")
    validity_days: int = Field(
        default=90,
        ge=1,
        le=3650,
        description=(
            "How long a certificate is valid; never beyond its CA. Renewed 30 days before its end, one of less than 60 "
            "days at half of its life."
        ),
    )

    @field_validator("names", mode="after")
    @classmethod
    def _hold_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            _general_name(name)
        return names


class TlsSelf(TlsMaterial):
    """One of several processes that look at the same directory; whoever has its lock renews for all.

    ``rehearsal`` is a directory to be thrown away: in a dry run what would be issued is put there, and the real one is
    only read.
    """

    def __init__(
        self, settings: TlsSelfSettings, services: Services, files: PairDirectory, rehearsal: PairDirectory | None
    ) -> None:
        self._settings = settings
        self._services = services
        self._files = files
        self._rehearsal = rehearsal
        self._names = tuple(dict.fromkeys(map(_general_name, settings.names)))
        self._validity = timedelta(days=settings.validity_days)
        self._announced: Path | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._problem = ""
        self._failures = 0
        self._try_after: datetime | None = None

    async def open(self) -> None:
        """Have a certificate if that can be had; :meth:`server_identity` says why not. Raises KipukaError."""
        await self._services.ca_chain(self._settings.ca)
        await self._make_fresh()
        self._announced = self._files.current_file()

    async def close(self) -> None:
        """Give up what is being renewed."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait({self._renewing})

    async def server_identity(self) -> ServerIdentity:
        """The pair that serves, renewed first where that is due and can be done.

        Raises ConfigurationError when there is none that could serve.
        """
        await self._make_fresh()
        try:
            pair = await self._pair()
        except ConfigurationError as error:
            raise ConfigurationError(error.where, f"{error.problem}; {self._problem}") from None
        if pair is None or (self._problem and not pair.is_in_time(self._services.clock())):
            raise ConfigurationError(_TABLE, self._problem)
        check_permissions(pair.file, self._services)
        if self._problem:
            self._services.warn(f"{_TABLE}: {self._problem}")
        return ServerIdentity(str(pair.file), str(pair.file), is_stand_in=self._files is self._rehearsal)

    async def upkeep(self) -> bool:
        """Renew when that is due. True once after another pair has come, whoever renewed it.

        Raises Unavailable while a renewal is due and does not succeed; it is tried again, at longer intervals.
        """
        if self._has_news():
            return True
        if self._renewing is None and not await self._why_new():
            self._succeeded()
            return False
        if self._renewing is not None or self._may_try():
            await asyncio.wait({self._renewal()}, timeout=_UPKEEP_SECONDS)
        if self._has_news():
            return True
        if self._problem:
            raise Unavailable(self._problem)
        return False

    def _has_news(self) -> bool:
        current = self._files.current_file()
        if current is None or current == self._announced:
            return False
        self._announced = current
        return True

    async def _make_fresh(self) -> None:
        """Renew now if that is due; ``_problem`` says afterwards why it could not be done."""
        try:
            if not await self._why_new():
                self._succeeded()
                return
        except KipukaError as error:  # the store or the CA is away; what is there may serve all the same
            self._problem = _told(error)
            return
        await asyncio.shield(self._renewal())

    def _renewal(self) -> asyncio.Task[None]:
        """The renewal under way, or a new one. A task of its own: who asks for it may not wait to its end."""
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())
            self._renewing.add_done_callback(self._ended)
        return self._renewing

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._renewing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(type(error).__name__)

    async def _renew(self) -> None:
        try:
            if self._rehearsal is not None:
                await self._rehearse(self._rehearsal)
            else:
                async with self._files.locked(_LOCK_SECONDS):
                    await self._renew_unless_another_did()
        except KipukaError as error:
            self._failed(_told(error))
        else:
            self._succeeded()

    async def _renew_unless_another_did(self) -> None:
        if not await self._why_new():
            return
        await self._issue(self._files)
        if why := await self._why_new():  # and would be tomorrow: a CA that is asked every few seconds helps nobody
            raise Unavailable(f"the new one is no better: {why}")

    async def _rehearse(self, rehearsal: PairDirectory) -> None:
        why = await self._why_new()
        await self._issue(rehearsal)
        self._files = rehearsal
        names = ", ".join(self._settings.names)
        self._services.warn(f"{_TABLE}: the next start has a server certificate for {names} issued: {why}")

    async def _issue(self, files: PairDirectory) -> None:
        settings, run_blocking = self._settings, self._services.run_blocking
        key = await run_blocking(GENERATORS[settings.key_type])
        chain = await self._services.issue_server_certificate(
            key, self._names, validity=self._validity, ca_id=settings.ca
        )
        await run_blocking(files.put, key, chain)

    def _succeeded(self) -> None:
        self._problem, self._failures, self._try_after = "", 0, None

    def _failed(self, problem: str) -> None:
        self._problem = f"the server certificate is not issued: {problem}"
        self._try_after = self._services.clock() + min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE)
        self._failures = min(self._failures + 1, 10)

    def _may_try(self) -> bool:
        return self._try_after is None or self._services.clock() >= self._try_after

    async def _why_new(self) -> str:
        """Why another certificate is needed; empty when this one is as it should be.

        Raises StoreUnavailable, and other KipukaErrors when the CA does not say what it is.
        """
        try:
            pair = await self._pair()
        except ConfigurationError as error:
            return str(error)
        if pair is None:
            return "there is none yet"
        if self._files is self._rehearsal:
            return ""
        chain = await self._services.ca_chain(self._settings.ca)
        return (
            self._why_not_as_configured(pair, chain)
            or self._why_due(pair, chain)
            or await self._off_record(pair, chain)
        )

    def _why_not_as_configured(self, pair: Pair, chain: CaChain) -> str:
        if not same_san(san_of(pair.leaf), self._names):
            return "names has changed"
        if key_type_of(pair.leaf.public_key()) != self._settings.key_type:
            return "key_type has changed"
        above = tuple(each for each in chain.certificates if each.subject != each.issuer)
        if pair.chain[1:] != above or not issued_by(chain.issuing, pair.leaf):
            return "the CA has changed"
        return ""

    def _why_due(self, pair: Pair, chain: CaChain) -> str:
        now, leaf = self._services.clock(), pair.leaf
        if not pair.is_in_time(now):
            return "it is not valid now"
        end = leaf.not_valid_after_utc
        renewed_before_end = min(_RENEWED_BEFORE_END, (end - leaf.not_valid_before_utc) / 2)
        # A CA that ends as soon could only give the same end again, and again.
        is_longer = min(now + self._validity, chain.issuing.not_valid_after_utc) > end
        return f"it ends on {end:%Y-%m-%d}" if now >= end - renewed_before_end and is_longer else ""

    async def _off_record(self, pair: Pair, chain: CaChain) -> str:
        if self._services.dry_run:  # on a database that is empty
            return ""
        record = await self._services.store.find_certificate(issuer_key_id(chain.issuing), serial_hex(pair.leaf))
        if record is None:
            return "it is not on record"
        return "" if record.status is CertificateStatus.ACTIVE else "it was revoked"

    async def _pair(self) -> Pair | None:
        pair: Pair | None = await self._services.run_blocking(self._files.read)
        return pair


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        pass
    if not _DNS_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is neither a DNS name nor an IP address")
    return x509.DNSName(text)


def _told(error: KipukaError) -> str:
    """What the operator may know; of a plugin's failure also what the client may not."""
    return getattr(error, "detail", "") or str(error)


@asynccontextmanager
async def _open(settings: TlsSelfSettings, services: Services) -> AsyncIterator[TlsMaterial]:
    files = PairDirectory(services.state_dir / "tls-self")
    with TemporaryDirectory(prefix="kipuka-") if services.dry_run else nullcontext() as directory:
        port = TlsSelf(settings, services, files, PairDirectory(Path(directory)) if directory else None)
        try:
            await port.open()
            yield port
        finally:
            await port.close()


PROVIDER: Provider[TlsMaterial] = Provider("self", TlsSelfSettings, _open)
