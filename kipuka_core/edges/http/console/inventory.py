"""What there is: CAs with their chains, CRLs and keys, and plugins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from quart import Blueprint, Response, render_template
from quart.typing import ResponseReturnValue

from kipuka_core.edges.http.admin_cas import CRL, PEM_CHAIN
from kipuka_core.edges.http.console.services import ConsoleServices
from kipuka_core.edges.status.desk import key_name
from kipuka_core.errors import KipukaError, RequestRefused
from kipuka_core.model.fingerprints import issuer_key_id, serial_hex
from kipuka_core.model.key_type import describe_key, key_type_of
from kipuka_core.model.status import CrlFacts


@dataclass(frozen=True, slots=True)
class CrlState:
    """The CRL of one key of a CA, or why there is none."""

    key: str
    facts: CrlFacts | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class CaPage:
    """What the page says of one CA."""

    facts: dict[str, Any]
    chain: Sequence[dict[str, Any]]
    previous: Sequence[dict[str, Any]]
    crls: Sequence[CrlState]
    problem: str = ""


def pages(services: ConsoleServices) -> Blueprint:
    """The pages."""
    routes = Blueprint("console_inventory", __name__, url_prefix="/console")

    @routes.get("/cas")
    async def cas() -> ResponseReturnValue:
        found = [await _ca_page(services, ca_id) for ca_id in services.cas.cas]
        _, tokens = await services.health.hsm()
        return await render_template("cas.html", cas=found, tokens=tokens.get("tokens", []), now=services.clock())

    @routes.get("/cas/<ca_id>/chain")
    async def chain(ca_id: str) -> ResponseReturnValue:
        certificates = (await services.cas.chain(ca_id)).certificates
        pem = b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
        headers = {"Content-Disposition": f'attachment; filename="{ca_id}-chain.pem"'}
        return Response(pem, content_type=PEM_CHAIN, headers=headers)

    @routes.get("/cas/<ca_id>/crl")
    async def crl(ca_id: str) -> ResponseReturnValue:
        published = await services.cas.status.crl(services.cas.known(ca_id))
        headers = {"Content-Disposition": f'attachment; filename="{ca_id}.crl"'}
        return Response(published.der, content_type=CRL, headers=headers)

    @routes.get("/plugins")
    async def plugins() -> ResponseReturnValue:
        return await render_template("plugins.html", plugins=await services.plugins.entries())

    return routes


async def _ca_page(services: ConsoleServices, ca_id: str) -> CaPage:
    facts = await services.cas.one(ca_id)
    try:
        chain = await services.cas.chain(ca_id)
    except RequestRefused as refusal:
        return CaPage(facts, (), (), (), refusal.reason)
    crls = [await _crl(services, ca_id, each) for each in _keys(services, ca_id)]
    return CaPage(
        facts, [_certificate(each) for each in chain.certificates], list(map(_certificate, chain.previous)), crls
    )


def _keys(services: ConsoleServices, ca_id: str) -> list[str]:
    status = services.cas.status
    return [key_name(each.issuer_key_id) for each in status.publishers(ca_id)] if status.has_crls(ca_id) else []


async def _crl(services: ConsoleServices, ca_id: str, key: str) -> CrlState:
    try:
        return CrlState(key, (await services.cas.status.crl(ca_id, key)).facts)
    except KipukaError as error:
        return CrlState(key, None, getattr(error, "reason", "the server's database is away"))


def _certificate(certificate: x509.Certificate) -> dict[str, Any]:
    try:
        public_key = certificate.public_key()
        key = key_type_of(public_key) or describe_key(public_key)
    except (ValueError, TypeError):
        key = "unknown"
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": serial_hex(certificate),
        "key_type": key,
        "key": key_name(issuer_key_id(certificate)),
        "not_before": certificate.not_valid_before_utc,
        "not_after": certificate.not_valid_after_utc,
    }
