"""The CAs on the admin listener: ``/admin/cas``, one of them, its health, its chain, its CRL."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from quart import Blueprint, Response
from quart.typing import ResponseReturnValue

from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.guard import Guard
from kipuka_core.edges.http.admin_health import HealthChecks, ca_part, part_body
from kipuka_core.edges.log import get_logger
from kipuka_core.edges.status import StatusDesk
from kipuka_core.errors import KipukaError, NotFound, PluginFailed, Unavailable, detail_of
from kipuka_core.model.certificate import CaChain
from kipuka_core.model.fingerprints import serial_hex
from kipuka_core.model.key_type import describe_key, key_type_of

log = get_logger()

CRL = "application/pkix-crl"  # RFC 2585 4.2
PEM_CHAIN = "application/pem-certificate-chain"
"""RFC 8555 9.1: the issuing certificate first, each followed by the one that certifies it."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a backend says of itself."""

    chain: CaChain
    hash_name: str | None
    validity_days: int | None
    hsm_backed: bool


@dataclass(frozen=True, slots=True)
class CaDirectory:
    """Every ``[[ca]]`` as the admin API shows it."""

    cas: Mapping[str, CaBackend]
    default_id: str
    guard: Guard
    checks: HealthChecks
    status: StatusDesk

    async def entries(self) -> list[dict[str, Any]]:
        """Every CA. They are asked side by side: one that does not answer takes no time of the others."""
        facts = await asyncio.gather(*map(self._facts_or_none, self.cas))
        return [await self._entry(ca_id, found) for ca_id, found in zip(self.cas, facts, strict=True)]

    async def _entry(self, ca_id: str, facts: _Facts | None) -> dict[str, Any]:
        """One entry of ``/admin/cas``. A CA that does not answer is listed too: with null for what only it knows."""
        part = (await self.checks.parts())[ca_part(ca_id)]
        return {
            "id": ca_id,
            "is_default": ca_id == self.default_id,
            "key_type": _key_type(facts.chain.issuing) if facts else None,
            "hash_algorithm": facts.hash_name if facts else None,
            "validity_days": facts.validity_days if facts else None,
            "health": part.status,
            "hsm_backed": facts.hsm_backed if facts else None,
        }

    async def one(self, ca_id: str) -> dict[str, Any]:
        """The entry with what the issuing certificate says. Raises NotFound."""
        facts = await self._facts_or_none(self.known(ca_id))
        return await self._entry(ca_id, facts) | (_certificate(facts.chain.issuing) if facts else {})

    async def chain(self, ca_id: str) -> CaChain:
        """The certificates of a CA. Raises NotFound and Unavailable."""
        try:
            return (await self._facts(self.known(ca_id))).chain
        except PluginFailed as error:
            log.error("plugin failed", plugin=error.plugin, detail=error.detail)
            raise Unavailable("the CA does not answer; repeat the request later", code="ca_unavailable") from error

    def known(self, ca_id: str) -> str:
        """The id, if there is such a CA. Raises NotFound."""
        if ca_id not in self.cas:
            raise NotFound("there is no CA with this id; GET /admin/cas lists them")
        return ca_id

    async def _facts(self, ca_id: str) -> _Facts:
        backend = self.cas[ca_id]

        async def ask() -> _Facts:
            longest = backend.longest_validity
            days = None if longest is None else longest.days
            return _Facts(await backend.chain(), backend.hash_name, days, bool(backend.hsm_backed))

        return await self.guard.call(ca_id, ask, expect=_Facts)

    async def _facts_or_none(self, ca_id: str) -> _Facts | None:
        try:
            return await self._facts(ca_id)
        except KipukaError as error:
            log.warning("CA does not answer", ca=ca_id, problem=detail_of(error))
            return None


def ca_routes(directory: CaDirectory) -> Blueprint:
    """The pages."""
    routes = Blueprint("kipuka_cas", __name__, url_prefix="/admin/cas")

    @routes.get("")
    async def entries() -> ResponseReturnValue:
        return await directory.entries()

    @routes.get("/<ca_id>")
    async def one(ca_id: str) -> ResponseReturnValue:
        return await directory.one(ca_id)

    @routes.get("/<ca_id>/health")
    async def health(ca_id: str) -> ResponseReturnValue:
        part = (await directory.checks.parts())[ca_part(directory.known(ca_id))]
        return {"id": ca_id, **part_body(part)}, 200 if part.is_healthy else 503

    @routes.get("/<ca_id>/chain")
    async def chain(ca_id: str) -> ResponseReturnValue:
        certificates = (await directory.chain(ca_id)).certificates
        pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
        return Response(pem, content_type=PEM_CHAIN)

    @routes.get("/<ca_id>/crl")
    async def crl(ca_id: str) -> ResponseReturnValue:
        published = await directory.status.crl(directory.known(ca_id))
        return Response(published.der, content_type=CRL)

    return routes


def _key_type(issuing: x509.Certificate) -> str | None:
    try:
        public_key = issuing.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key_type_of(public_key) or describe_key(public_key)


def _certificate(issuing: x509.Certificate) -> dict[str, Any]:
    return {
        "subject": issuing.subject.rfc4514_string(),
        "issuer": issuing.issuer.rfc4514_string(),
        "serial": serial_hex(issuing),
        "not_before": issuing.not_valid_before_utc.isoformat().replace("+00:00", "Z"),
        "not_after": issuing.not_valid_after_utc.isoformat().replace("+00:00", "Z"),
    }
