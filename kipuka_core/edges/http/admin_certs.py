"""Certificates on the admin API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from quart import Response, request
from quart.typing import ResponseReturnValue

from kipuka_core.domain.admin.certificates import CertificateAdministration, normal_serial, search_status
from kipuka_core.domain.admin.reasons import parse_reason, reason_name
from kipuka_core.edges.http import admin_bodies as bodies
from kipuka_core.edges.http.admin_api import JSON, Answer, Api, Call, Operation, answer, no_content
from kipuka_core.edges.http.admin_cas import PEM_CHAIN
from kipuka_core.edges.http.admin_paging import found, page_answer, page_wanted, paged
from kipuka_core.model.record import RecordedCertificate
from kipuka_core.model.search import CertificateQuery

PEM = "application/x-pem-file"
DER = "application/pkix-cert"
"""RFC 2585 4.1."""
_FORMATS = {"json": JSON, "pem": PEM, "der": DER, "chain": PEM_CHAIN}

_LIST = Operation(
    method="GET",
    path="/admin/certs",
    summary="Search certificates",
    about="Newest first. With the beginning of a name they come by name, with an expiry window soonest first, and the"
    " expired ones latest first. A cursor belongs to one search.",
    query=bodies.CertificateSearch,
    answers={200: paged("Those that meet every filter.", bodies.Certificate)},
)
_SHOW = Operation(
    method="GET",
    path="/admin/certs/<serial>",
    summary="Show one certificate",
    about="With `format`, or by `Accept`, as PEM, DER, or PEM with its chain up to the root.",
    query=bodies.CertificateShown,
    answers={200: Answer(about="It.", model=bodies.CertificateDetails, media_types=(PEM, DER, PEM_CHAIN))},
    refusals=(404, 409),
)
_REVOKE = Operation(
    method="POST",
    path="/admin/certs/<serial>/revoke",
    summary="Revoke a certificate",
    about="Nothing changes when it is revoked already; one on hold (`certificateHold`) can be revoked for good.",
    query=bodies.OfCa,
    body=bodies.Revocation,
    answers={204: Answer(about="Revoked.")},
    refusals=(404, 409),
)
_RELEASE = Operation(
    method="POST",
    path="/admin/certs/<serial>/release",
    summary="Release a certificate from hold",
    about="Only one that was revoked as `certificateHold`; another one is 409.",
    query=bodies.OfCa,
    answers={204: Answer(about="It counts again.")},
    refusals=(404, 409),
)
_BULK = Operation(
    method="POST",
    path="/admin/certs/revoke",
    summary="Revoke every certificate that a search finds",
    about="First with `dry_run`, which is the default, for the count and a sample. Revoked are also those that have"
    " expired or are on hold. What was revoked stays so when the request is broken off; repeated, it goes on.",
    body=bodies.BulkRevocation,
    answers={200: Answer(about="What was, or would be.", model=bodies.BulkRevoked)},
)


def certificate_routes(certificates: CertificateAdministration, clock: Callable[[], datetime]) -> Api:
    """The operations."""
    api = Api("kipuka_certs", __name__)

    @api.operation(_LIST)
    async def entries(call: Call) -> ResponseReturnValue:
        page = await found(certificates.search(certificate_query(call.query), page_wanted(call.query)))
        now = clock()
        return page_answer(bodies.Certificate, page, lambda record: certificate_body(record, now))

    @api.operation(_SHOW)
    async def show(call: Call, serial: str) -> ResponseReturnValue:
        record = await certificates.one(serial, call.query.ca_id)
        media_type = _FORMATS[call.query.format] if call.query.format else _wanted_media_type()
        if media_type == JSON:
            return answer(bodies.CertificateDetails, details_body(record, clock()))
        if media_type == DER:
            return Response(record.certificate_der, content_type=DER)
        if media_type == PEM:
            return Response(_pem(record), content_type=PEM)
        chain = await certificates.chain(record)
        return Response(b"".join(each.public_bytes(Encoding.PEM) for each in chain), content_type=PEM_CHAIN)

    @api.operation(_REVOKE)
    async def revoke(call: Call, serial: str) -> ResponseReturnValue:
        reason = parse_reason(call.body.reason)
        await certificates.revoke(call.administrator, serial, reason, ca_id=call.query.ca_id)
        return no_content()

    @api.operation(_RELEASE)
    async def release(call: Call, serial: str) -> ResponseReturnValue:
        await certificates.release(call.administrator, serial, ca_id=call.query.ca_id)
        return no_content()

    @api.operation(_BULK)
    async def revoke_found(call: Call) -> ResponseReturnValue:
        body, reason = call.body, parse_reason(call.body.reason)
        done = await certificates.revoke_by_query(
            call.administrator, certificate_query(body.query), reason, dry_run=body.dry_run, limit=body.limit
        )
        now = clock()
        shown = bodies.BulkRevoked(
            dry_run=done.is_dry_run,
            count=done.count,
            remaining=done.remaining,
            sample=[certificate_body(each, now) for each in done.sample],
        )
        return answer(bodies.BulkRevoked, shown)

    return api


def _wanted_media_type() -> str:
    return request.accept_mimetypes.best_match(list(_FORMATS.values()), default=JSON) or JSON


def certificate_query(filters: bodies.CertificateFilters) -> CertificateQuery:
    """Filters as the store reads them."""
    values: dict[str, Any] = {
        name: getattr(filters, name) for name in bodies.CertificateFilters.model_fields if name != "serial"
    }
    return CertificateQuery(**values, serial_hex=None if filters.serial is None else normal_serial(filters.serial))


def certificate_body(record: RecordedCertificate, now: datetime) -> bodies.Certificate:
    """A certificate as a search shows it."""
    return bodies.Certificate(**_common(record, now))


def details_body(record: RecordedCertificate, now: datetime) -> bodies.CertificateDetails:
    """All that is known of a certificate."""
    return bodies.CertificateDetails(
        **_common(record, now),
        pem=_pem(record).decode(),
        key_algorithm=record.key_type,
        revocation_reason=reason_name(record.revocation_reason),
        revoked_at=record.revoked_at,
        not_before=record.not_before,
        authenticator=record.authenticator,
        request_id=record.request_id,
    )


def _common(record: RecordedCertificate, now: datetime) -> dict[str, Any]:
    return {
        "serial": record.serial_hex,
        "subject": record.subject,
        "sans": list(record.sans),
        "ca_id": record.ca_id,
        "label": record.label,
        "identity": record.entity_id,
        "issued_at": record.issued_at,
        "expires_at": record.not_after,
        "status": search_status(record, now),
    }


def _pem(record: RecordedCertificate) -> bytes:
    return x509.load_der_x509_certificate(record.certificate_der).public_bytes(Encoding.PEM)
