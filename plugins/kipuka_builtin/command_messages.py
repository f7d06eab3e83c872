"""The protocol of CA backend ``command``: one JSON object in, a certificate or one JSON object out, an exit code."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_builtin.child_process import Finished
from kipuka_builtin.external_ca import certificate_for, shown_text
from kipuka_core import Approved, Asked, CsrRefused, Issued, NotIssued, OutcomeUnknown, Template, Unavailable, Wait
from kipuka_core.model.key_usage import KEY_USAGES
from kipuka_core.model.names import san_entry

VERSION = 1
_RETRY_AFTER_SECONDS = 60
_LONGEST_RETRY_SECONDS = 7 * 86_400
_LONGEST_REFERENCE = 500
_PEM = b"-----BEGIN CERTIFICATE-----"


class ExitCode(IntEnum):
    """What a program says with its exit code. Any other one: nobody knows what happened."""

    DONE = 0
    WAIT = 10
    REFUSED = 11
    UNAVAILABLE = 12
    NOT_ISSUED = 13


_FITTING: Mapping[int, frozenset[str]] = {
    ExitCode.DONE: frozenset({"certificate", "wait", "refused"}),
    ExitCode.WAIT: frozenset({"wait", ""}),
    ExitCode.REFUSED: frozenset({"refused", "text", ""}),
    ExitCode.UNAVAILABLE: frozenset({"text", ""}),
    ExitCode.NOT_ISSUED: frozenset({"text", ""}),
}
"""Which answers do not contradict an exit code."""


def issue_question(approved: Approved) -> bytes:
    """Have this certificate issued."""
    enrolment = approved.enrolment
    return _encoded(
        action="issue",
        request_id=enrolment.request_id,
        csr=_csr_pem(enrolment.csr.der),
        template=_template(approved.template),
        identity={"entity_id": enrolment.identity.entity_id, "authenticator": enrolment.identity.authenticator},
        label=enrolment.label.name,
    )


def poll_question(asked: Asked) -> bytes:
    """Say what has become of this request."""
    return _encoded(
        action="poll",
        request_id=asked.request_id,
        reference=asked.reference,
        csr=_csr_pem(asked.csr_der),
        template=_template(asked.template),
        asked_at=_time(asked.asked_at),
    )


def revoke_question(certificate: x509.Certificate, reason: int) -> bytes:
    """Revoke this certificate (RFC 5280 5.3.1)."""
    return _encoded(action="revoke", certificate=certificate.public_bytes(Encoding.PEM).decode(), reason=reason)


def ping_question() -> bytes:
    """Say whether you could issue now."""
    return _encoded(action="ping")


def read_answer(
    finished: Finished, *, spki_der: bytes, request_id: str, clean: Callable[[str], str] = str
) -> Issued | Wait:
    """What the program has said of a certificate for ``spki_der``.

    ``clean`` takes out of a text what the client must not see. Raises CsrRefused, Unavailable, NotIssued as the
    program says, and OutcomeUnknown for what is not of this protocol or contradicts itself.
    """
    code = finished.exit_code
    what, said = _parsed(finished)
    if code < 0:
        raise OutcomeUnknown(f"the CA's program was ended by signal {-code}")
    if what not in _FITTING.get(code, ()):
        raise OutcomeUnknown(f"the CA's program ended with {code} and an answer that does not fit it")
    if code == ExitCode.UNAVAILABLE:
        raise Unavailable("the certification authority is not available now")
    if code == ExitCode.NOT_ISSUED:
        raise NotIssued("the certification authority has not issued this certificate and will not")
    if what == "certificate":
        certificate = certificate_for(said, spki_der)
        if certificate is None:
            raise OutcomeUnknown("the CA's program wrote several certificates and not one for the key")
        return Issued(certificate)
    if what == "wait" or code == ExitCode.WAIT:
        return _wait(said or {}, request_id, clean)
    raise CsrRefused(_reason(said, clean) or "the certification authority refuses this request")


def _parsed(finished: Finished) -> tuple[str, Any]:
    """What kind of answer was written (``certificate``, ``wait``, ``refused``, ``text``, empty), and its content."""
    output = finished.output.strip()
    if _PEM in output and not output.startswith(b"{"):
        return "certificate", _certificates(output)
    if not output.startswith(b"{"):
        return "text" if output else "", output.decode(errors="replace")
    said = _json_object(output)
    if len(said) != 1 or not said.keys() <= {"certificate", "wait", "refused"}:
        raise OutcomeUnknown("the CA's program wrote a JSON object that does not say one thing")
    ((what, content),) = said.items()
    return what, _certificates(str(content).encode(errors="replace")) if what == "certificate" else content


def _json_object(output: bytes) -> dict[str, Any]:
    try:
        said = json.loads(output)
    except (ValueError, RecursionError):
        raise OutcomeUnknown("the CA's program wrote what begins like JSON and is none") from None
    assert isinstance(said, dict)  # noqa: S101  # it begins with a brace
    return said


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise OutcomeUnknown("the CA's program wrote a certificate that is damaged") from None


def _wait(said: object, request_id: str, clean: Callable[[str], str]) -> Wait:
    if not isinstance(said, dict):
        raise OutcomeUnknown("the CA's program told to wait, and wrote no JSON object that says for what")
    reference = said.get("reference", request_id)
    seconds = said.get("retry_after_seconds", _RETRY_AFTER_SECONDS)
    if not isinstance(reference, str) or not reference or len(reference) > _LONGEST_REFERENCE:
        raise OutcomeUnknown("the CA's program told to wait without a reference that is text")
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 0:
        raise OutcomeUnknown("the CA's program told to wait for something that is no number of seconds")
    reason = _reason(said.get("reason"), clean) or "the certification authority has not decided yet"
    return Wait(reason, retry_after_seconds=min(seconds, _LONGEST_RETRY_SECONDS), reference=reference)


def _reason(said: object, clean: Callable[[str], str]) -> str:
    return shown_text(clean(said)) if isinstance(said, str) else ""


def _encoded(**fields: object) -> bytes:
    return json.dumps({"version": VERSION, **fields}).encode() + b"\n"


def _template(template: Template) -> dict[str, Any]:
    san = x509.SubjectAlternativeName(template.san).public_bytes() if template.san else None
    return {
        "subject": template.subject.rfc4514_string(),
        "subject_der": _base64(template.subject.public_bytes()),
        "sans": [san_entry(each) for each in template.san],
        "san_der": None if san is None else _base64(san),
        "key_usage": [name for name in KEY_USAGES if name in template.key_usage],
        "ext_key_usage": list(template.ext_key_usage),
        "not_before": _time(template.not_before),
        "not_after": _time(template.not_after),
        "extensions": [
            {
                "oid": each.oid.dotted_string,
                "critical": each.critical,
                "value_der": _base64(each.value.public_bytes()),
            }
            for each in template.extensions
        ],
    }


def _time(moment: Any) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _base64(der: bytes) -> str:
    return base64.b64encode(der).decode()


def _csr_pem(der: bytes) -> str:
    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM).decode()
