"""Devices get the DNS names and IP addresses that an inventory (CMDB) has for them, and only while it says so."""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, Field, StringConstraints

from kipuka_core import Allow, ConfigurationError, Deny, DenyKind, Duration, Enrolment, Policy, Provider, Services

# isort: split
from kipuka_core import Settings, Template, Unavailable, hookimpl, read_certificates, read_secret_file, san_entry

kipuka_api_version = 1

MAX_BYTES, MAX_KEPT = 65_536, 10_000
_DNS = StringConstraints(max_length=253, pattern=r"^[a-z0-9][a-z0-9.-]*$")
_TABLE = "policy.cmdb-names"
_LOG = logging.getLogger("kipuka_cmdb_names")


class CmdbSettings(Settings):
    """``[policy.cmdb-names]``."""

    url: str = Field(pattern=r"^https://[^\s?#@]+$", description="Where the inventory is: `GET URL?id=ENTITY_ID`.")
    token_file: Path = Field(description="The file with the bearer token that the inventory wants.")
    trust_anchors: tuple[str, ...] = Field(min_length=1, description="PEM files with CAs of the inventory's server.")
    timeout: Duration = Field(default=5, description="For a whole answer. Shorter than `[plugins] timeout`.")
    ttl: Duration = Field(default=60, description="For so long a record counts without being asked for again.")


class Record(BaseModel, frozen=True, strict=True):
    """What the inventory says of a device; other keys do not matter here."""

    id: str
    active: bool
    dns: tuple[Annotated[str, _DNS], ...] = Field(max_length=100)
    ip: tuple[IPv4Address | IPv6Address, ...] = Field(max_length=100)

    @property
    def san(self) -> tuple[x509.GeneralName, ...]:
        """The names as a certificate has them."""
        return (*map(x509.DNSName, self.dns), *map(x509.IPAddress, self.ip))


class CmdbNames(Policy):
    """Refuses a device that is not active and names that it does not have; gives it its names if it asks for none."""

    def __init__(self, settings: CmdbSettings, client: httpx.AsyncClient, services: Services) -> None:
        self._settings, self._client, self._clock = settings, client, services.clock
        self._kept: dict[str, tuple[datetime, Record]] = {}

    async def shape(self, template: Template, enrolment: Enrolment) -> Template:
        """Give the record's names where the CSR has no SAN. A renewal has the names that it renews."""
        if template.san or enrolment.renewing or not (record := await self._record(enrolment.identity.entity_id)):
            return template
        return replace(template, san=record.san)

    async def decide(self, template: Template, enrolment: Enrolment) -> Allow | Deny:
        """Judge everything in the certificate's subject and SubjectAltName: what is not in the record is refused."""
        record = await self._record(enrolment.identity.entity_id)
        if record is None or not record.active:
            return Deny(DenyKind.PERMISSION, "the inventory has no active device of this name")
        others = [str(each.value) for each in template.subject if each.value not in {record.id, *record.dns}]
        others += {*map(san_entry, template.san)} - {*map(san_entry, record.san)}
        if others:
            return Deny(DenyKind.PERMISSION, f"the inventory does not have {ascii(min(others))[:100]} for this device")
        return Allow()

    async def _record(self, entity_id: str) -> Record | None:
        now, kept = self._clock(), self._kept.get(entity_id)
        if kept and timedelta() <= now - kept[0] < timedelta(seconds=self._settings.ttl):
            return kept[1]
        asked = self._client.stream("GET", self._settings.url, params={"id": entity_id})
        try:
            async with asyncio.timeout(self._settings.timeout), asked as response:
                if response.status_code == httpx.codes.NOT_FOUND:
                    return None  # and not kept: it may be entered at any moment
                record = await _read(response.raise_for_status(), entity_id)
        except (httpx.HTTPError, OSError, ValueError) as error:  # of OSError: time-outs, and what TLS says
            _LOG.warning("the inventory cannot be used: %s", str(error).partition("\n")[0] or type(error).__name__)
            raise Unavailable("the inventory of devices cannot be asked now; try again later") from error
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[entity_id] = now, record
        return record


async def _read(response: httpx.Response, entity_id: str) -> Record:
    body = bytearray()
    async for part in response.aiter_raw():  # as it comes: what is compressed has no bound
        body += part
        if len(body) > MAX_BYTES:
            raise ValueError(f"it answers with more than {MAX_BYTES} bytes")
    record = Record.model_validate_json(bytes(body))
    if record.id != entity_id:
        raise ValueError("it answers with the record of another device")
    return record


@asynccontextmanager
async def _open(settings: CmdbSettings, services: Services) -> AsyncIterator[CmdbNames]:
    if settings.timeout >= services.call_timeout_seconds:
        raise ConfigurationError(f"{_TABLE}.timeout", "must be shorter than [plugins] timeout")
    token = read_secret_file(settings.token_file, services).strip()
    if not re.fullmatch(rb"[!-~]+", token):
        raise ConfigurationError(str(settings.token_file), "does not hold a token in one line")
    anchors = read_certificates(settings.trust_anchors, services, f"{_TABLE}.trust_anchors")
    context = ssl.create_default_context(cadata="".join(each.public_bytes(Encoding.PEM).decode() for each in anchors))
    headers = {"Authorization": f"Bearer {token.decode()}", "Accept": "application/json"}
    # No proxy of the environment, no redirect; and one limit for a whole answer instead of one for each part of it.
    async with httpx.AsyncClient(verify=context, trust_env=False, headers=headers, timeout=None) as client:  # noqa: S113
        yield CmdbNames(settings, client, services)


@hookimpl
def kipuka_policies() -> list[Provider[Policy]]:
    """The word for ``[policy] order``."""
    return [Provider("cmdb-names", CmdbSettings, _open)]
