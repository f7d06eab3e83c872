"""Certificates: search, show, revoke, release from hold."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from quart import Blueprint, Response, g, render_template, request, url_for
from quart.typing import ResponseReturnValue

from kipuka_core.domain.admin.reasons import RevocationReason, parse_reason
from kipuka_core.edges.http import admin_bodies as bodies
from kipuka_core.edges.http.admin_cas import PEM_CHAIN
from kipuka_core.edges.http.admin_certs import PEM, certificate_body, certificate_query, details_body
from kipuka_core.edges.http.console.asking import FormErrors, as_moment, given, read, sent
from kipuka_core.edges.http.console.notices import done
from kipuka_core.edges.http.console.paging import ListPage, next_url
from kipuka_core.edges.http.console.services import ConsoleServices
from kipuka_core.model.record import RecordedCertificate
from kipuka_core.model.search import BadCursor, PageWanted, SearchStatus

_FILTERS = tuple(bodies.CertificateFilters.model_fields)
_SEARCH = (*_FILTERS, "limit", "after")
DOOR_WITHOUT_LABEL = "/"
"""How a form says the label ``""``; no label has this name, because it is a part of a path."""
REASONS = {
    RevocationReason.unspecified: "no reason given",
    RevocationReason.keyCompromise: "the key is in wrong hands, or may be",
    RevocationReason.cACompromise: "the key of the CA is in wrong hands",
    RevocationReason.affiliationChanged: "the subject belongs elsewhere now",
    RevocationReason.superseded: "another certificate took its place",
    RevocationReason.cessationOfOperation: "the device is out of service",
    RevocationReason.certificateHold: "on hold: can be released again",
    RevocationReason.privilegeWithdrawn: "the subject may not any more what it says",
    RevocationReason.aACompromise: "the key of the attribute authority is in wrong hands",
}


def pages(services: ConsoleServices) -> Blueprint:
    """The pages."""
    routes = Blueprint("console_certificates", __name__, url_prefix="/console/certificates")

    @routes.get("")
    async def search() -> ResponseReturnValue:
        return await _search(services)

    @routes.get("/<serial>")
    async def show(serial: str) -> ResponseReturnValue:
        return await _page(services, await _found(services, serial))

    @routes.get("/<serial>/<any(pem, chain):kind>")
    async def export(serial: str, kind: str) -> ResponseReturnValue:
        return await _export(services, await _found(services, serial), kind)

    @routes.post("/<serial>/revoke")
    async def revoke(serial: str) -> ResponseReturnValue:
        return await _revoke(services, await _found(services, serial))

    @routes.post("/<serial>/release")
    async def release(serial: str) -> ResponseReturnValue:
        record = await _found(services, serial)
        await services.administration.certificates.release(g.administrator, record.serial_hex, ca_id=record.ca_id)
        return done("released", _address(record))

    return routes


async def _found(services: ConsoleServices, serial: str) -> RecordedCertificate:
    return await services.administration.certificates.one(serial, request.args.get("ca_id") or None)


async def _page(services: ConsoleServices, record: RecordedCertificate, errors: dict[str, str] | None = None) -> str:
    return await render_template(
        "certificate.html",
        certificate=details_body(record, services.clock()),
        at=place(record),
        is_on_hold=record.revocation_reason == RevocationReason.certificateHold,
        reasons=REASONS,
        errors=errors or {},
    )


async def _export(services: ConsoleServices, record: RecordedCertificate, kind: str) -> Response:
    chain = await services.administration.certificates.chain(record) if kind == "chain" else []
    pem = "".join(each.public_bytes(Encoding.PEM).decode() for each in chain)
    body = pem or details_body(record, services.clock()).pem
    headers = {"Content-Disposition": f'attachment; filename="{record.serial_hex}-{kind}.pem"'}
    return Response(body, content_type=PEM_CHAIN if chain else PEM, headers=headers)


async def _revoke(services: ConsoleServices, record: RecordedCertificate) -> ResponseReturnValue:
    values = await sent("reason", "sure")
    errors = {}
    if "reason" not in values:
        errors["reason"] = "choose why it is revoked"
    if "sure" not in values:
        errors["sure"] = "tick this: a revocation is for good, except for a hold"
    if errors:
        return await _page(services, record, errors), 422
    reason = parse_reason(values["reason"])
    await services.administration.certificates.revoke(g.administrator, record.serial_hex, reason, ca_id=record.ca_id)
    return done("held" if reason is RevocationReason.certificateHold else "revoked", _address(record))


def _address(record: RecordedCertificate) -> str:
    return url_for("console_certificates.show", serial=record.serial_hex, ca_id=record.ca_id)


def place(record: RecordedCertificate) -> dict[str, str]:
    """What the address of its page is made of: several CAs may have used the serial number."""
    return {"serial": record.serial_hex, "ca_id": record.ca_id}


async def _search(services: ConsoleServices) -> ResponseReturnValue:
    now = services.clock()
    asked = given(*_SEARCH)
    values: dict[str, Any] = dict(asked)
    if values.get("label") == DOOR_WITHOUT_LABEL:
        values["label"] = ""
    for name in ("expires_before", "expires_after"):
        if name in values:
            values[name] = as_moment(values[name])
    listed = ListPage()
    try:
        query = read(bodies.CertificateSearch, values)
        wanted = PageWanted(limit=query.limit, after=query.after)
        page = await services.administration.certificates.search(certificate_query(query), wanted)
        rows = [(certificate_body(each, now), place(each)) for each in page.items]
        listed = ListPage(rows, page.total_text, next_url(page), is_continued=query.after is not None)
    except FormErrors as wrong:
        listed = ListPage(errors=wrong.errors)
    except BadCursor as wrong:
        listed = ListPage(errors={"": f"after: {wrong}"})
    shown = await render_template(
        "certificates.html",
        listed=listed,
        asked=asked,
        is_filtered=bool(asked.keys() & set(_FILTERS)),
        statuses=list(SearchStatus),
        ca_ids=list(services.cas.cas),
        labels=sorted(set(services.administration.otps.labels) - {""}),
        no_label=DOOR_WITHOUT_LABEL,
    )
    return shown, 400 if listed.errors else 200
