"""Lockouts, waiting requests and the audit trail on the admin API."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from quart.typing import ResponseReturnValue

from kipuka_core.domain.admin.administration import Administration
from kipuka_core.domain.admin.lockouts import LockoutAdministration
from kipuka_core.domain.admin.store import Lockout
from kipuka_core.domain.admin.waiting import DecisionTrace, RequestAdministration
from kipuka_core.edges.http import admin_bodies as bodies
from kipuka_core.edges.http.admin_api import Answer, Api, Call, Operation, answer, no_content
from kipuka_core.edges.http.admin_paging import HEADERS, found, next_link, page_answer, page_wanted, paged
from kipuka_core.errors import InvalidInput
from kipuka_core.model.certificate import Template
from kipuka_core.model.fingerprints import serial_hex
from kipuka_core.model.key_type import describe_key, key_type_of
from kipuka_core.model.names import san_entry
from kipuka_core.model.record import RequestState, StoredRequest
from kipuka_core.model.search import EventQuery
from kipuka_core.model.verdict import Allow, Deny, Verdict, Wait

_LOCKOUTS = Operation(
    method="GET",
    path="/admin/lockouts",
    summary="List lockouts",
    about="Pairs of address and entity, and whole addresses, that get 429 now; the next to end first.",
    answers={200: Answer(about="Every one.", model=list[bodies.Lockout])},
)
_LIFT = Operation(
    method="DELETE",
    path="/admin/lockouts",
    summary="Lift a lockout",
    about="What led to it is not counted again. Workers hear of it within a second.",
    query=bodies.LockoutLift,
    answers={204: Answer(about="Lifted.")},
    refusals=(404,),
)
_REQUESTS = Operation(
    method="GET",
    path="/admin/requests",
    summary="List requests that wait, newest first",
    about="Or those of another state.",
    query=bodies.RequestQuery,
    answers={200: paged("Requests.", bodies.WaitingRequest)},
)
_REQUEST = Operation(
    method="GET",
    path="/admin/requests/<request_id>",
    summary="Show a request, and what every policy says of it now",
    about="The judging code is that of the enrolment.",
    answers={200: Answer(about="It.", model=bodies.WaitingRequestDetails)},
    refusals=(404,),
)
_APPROVE = Operation(
    method="POST",
    path="/admin/requests/<request_id>/approve",
    summary="Approve a request",
    about="Every policy judges it again, and the CA issues; the client's next identical request gets the certificate.",
    answers={200: Answer(about="Issued.", model=bodies.Approved)},
    refusals=(404, 409),
)
_SETTLE = Operation(
    method="POST",
    path="/admin/requests/<request_id>/settle",
    summary="Say what became of a request at an external CA",
    about=(
        "For a request whose outcome is unknown and cannot be found out, and for one that the CA has refused or lost."
        " Without a certificate, the client's next identical request is a new one."
    ),
    body=bodies.Settlement,
    answers={204: Answer(about="Settled.")},
    refusals=(404, 409, 422),
)
_REJECT = Operation(
    method="POST",
    path="/admin/requests/<request_id>/reject",
    summary="Reject a request",
    about="For good: the client's next identical request is refused. Its one-time password is free again.",
    body=bodies.Rejection,
    answers={204: Answer(about="Rejected.")},
    refusals=(404, 409),
)
_AUDIT = Operation(
    method="GET",
    path="/admin/audit",
    summary="Search the audit trail, newest first",
    about="Facts as the store has them.",
    query=bodies.AuditQuery,
    answers={200: Answer(about="Facts.", model=bodies.Audit, headers={"Link": HEADERS["Link"]})},
)


def lockout_routes(lockouts: LockoutAdministration) -> Api:
    """The operations on lockouts."""
    api = Api("kipuka_lockouts", __name__)

    @api.operation(_LOCKOUTS)
    async def entries(_call: Call) -> ResponseReturnValue:
        return answer(list[bodies.Lockout], [lockout_body(each) for each in await lockouts.list()])

    @api.operation(_LIFT)
    async def lift(call: Call) -> ResponseReturnValue:
        await lockouts.lift(call.administrator, call.query.address, call.query.entity_id)
        return no_content()

    return api


def request_routes(requests: RequestAdministration) -> Api:
    """The operations on requests that wait."""
    api = Api("kipuka_requests", __name__)

    @api.operation(_REQUESTS)
    async def entries(call: Call) -> ResponseReturnValue:
        state = None if call.query.state == "all" else RequestState(call.query.state)
        page = await found(requests.list(page_wanted(call.query), state=state))
        return page_answer(
            bodies.WaitingRequest, page, lambda stored: bodies.WaitingRequest(**request_facts(requests, stored))
        )

    @api.operation(_REQUEST)
    async def show(_call: Call, request_id: str) -> ResponseReturnValue:
        stored = await requests.one(request_id)
        return answer(bodies.WaitingRequestDetails, request_details(requests, stored, await requests.trace(stored)))

    @api.operation(_APPROVE)
    async def approve(call: Call, request_id: str) -> ResponseReturnValue:
        outcome = await requests.approve(call.administrator, request_id)
        if isinstance(outcome, Wait):
            return answer(bodies.Approved, bodies.Approved(state="pending", serial=None, pem=None))
        certificate = outcome.certificate
        pem = certificate.public_bytes(Encoding.PEM).decode()
        return answer(bodies.Approved, bodies.Approved(state="issued", serial=serial_hex(certificate), pem=pem))

    @api.operation(_SETTLE)
    async def settle(call: Call, request_id: str) -> ResponseReturnValue:
        await requests.settle(call.administrator, request_id, _certificate(call.body.certificate))
        return no_content()

    @api.operation(_REJECT)
    async def reject(call: Call, request_id: str) -> ResponseReturnValue:
        await requests.reject(call.administrator, request_id, call.body.reason)
        return no_content()

    return api


def audit_routes(administration: Administration) -> Api:
    """The operation on the audit trail."""
    api = Api("kipuka_audit", __name__)

    @api.operation(_AUDIT)
    async def search(call: Call) -> ResponseReturnValue:
        names = ("event", "actor", "target", "since", "until")
        query = EventQuery(**{name: getattr(call.query, name) for name in names})
        page = await found(administration.audit(query, page_wanted(call.query)))
        facts = bodies.Audit(events=[bodies.Event(**each) for each in page.items], total=page.total)
        return answer(bodies.Audit, facts, headers=next_link(page))

    return api


def lockout_body(lockout: Lockout) -> bodies.Lockout:
    """A lockout as JSON."""
    return bodies.Lockout(
        scope="address" if lockout.entity_id is None else "pair",
        address=lockout.address,
        entity_id=lockout.entity_id,
        locked_until=lockout.locked_until,
    )


def request_facts(requests: RequestAdministration, stored: StoredRequest) -> dict[str, Any]:
    """What a list says of a request."""
    csr, at_ca = requests.csr(stored), stored.at_ca
    is_open = stored.state in {RequestState.INTENT, RequestState.PENDING}
    return {
        "id": stored.id,
        "state": stored.state,
        "operation": stored.operation,
        "label": stored.label,
        "identity": stored.entity_id,
        "authenticator": stored.authenticator,
        "subject": csr.subject.rfc4514_string(),
        "sans": [san_entry(each) for each in csr.san or ()],
        "key_algorithm": key_type_of(csr.public_key) or describe_key(csr.public_key),
        "reason": stored.reason,
        "source_address": stored.source_address,
        "created_at": stored.created_at,
        "decided_at": stored.decided_at,
        "ca_id": at_ca.ca_id if at_ca else None,
        "ca_reference": at_ca.reference if at_ca else None,
        "asked_at": at_ca.asked_at if at_ca else None,
        "next_poll_at": at_ca.next_poll_at if at_ca and is_open else None,
        "held": at_ca is not None and is_open and at_ca.next_poll_at is None,
    }


def _certificate(pem: str | None) -> x509.Certificate | None:
    if pem is None:
        return None
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise InvalidInput("certificate: is no certificate in PEM") from None


def request_details(
    requests: RequestAdministration, stored: StoredRequest, trace: DecisionTrace
) -> bodies.WaitingRequestDetails:
    """All that is known of a request, with what every policy says of it."""
    assessment = trace.assessment
    certificate = stored.certificate_der
    return bodies.WaitingRequestDetails(
        **request_facts(requests, stored),
        csr_pem=x509.load_der_x509_csr(stored.csr_der).public_bytes(Encoding.PEM).decode(),
        trace=[_trace_entry(*each) for each in assessment.verdicts] if assessment else [],
        refusal=trace.refusal or None,
        would_issue=_would_issue(assessment.template) if assessment and not trace.refusal else None,
        certificate_pem=certificate and x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode(),
    )


def _trace_entry(policy: str, verdict: Verdict) -> bodies.TraceEntry:
    match verdict:
        case Allow():
            return bodies.TraceEntry(policy=policy, verdict="allow", reason="")
        case Deny(reason=reason):
            return bodies.TraceEntry(policy=policy, verdict="deny", reason=reason)
        case Wait(reason=reason):
            return bodies.TraceEntry(policy=policy, verdict="wait", reason=reason)


def _would_issue(template: Template) -> bodies.WouldIssue:
    return bodies.WouldIssue(
        subject=template.subject.rfc4514_string(),
        sans=[san_entry(each) for each in template.san],
        key_usage=sorted(template.key_usage),
        ext_key_usage=list(template.ext_key_usage),
        not_before=template.not_before,
        not_after=template.not_after,
    )
