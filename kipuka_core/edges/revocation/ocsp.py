"""OCSP (RFC 6960): the request about one certificate, and what has to hold for an answer to count.

Decisions where the RFC leaves them open:

* The CertID is made with SHA-1, which all responders know (RFC 5019 2.1.1); nothing rests on its strength. An answer
  may use another hash of the SHA-2 family.
* A responder is the issuer itself, or has a certificate that the issuer's very key signed, with OCSPSigning. Whether
  that certificate is revoked is not asked about, with or without id-pkix-ocsp-nocheck (RFC 6960 4.2.2.2.1): a CA gives
  its responders short-lived certificates, and asking the responder about itself proves nothing.
* Without a nonce (responders that answer from stock) an answer counts while its nextUpdate lasts and it is no older
  than ten days. Without a nextUpdate it counts for ``cache_ttl`` from its thisUpdate on.
* An answer is about one certificate (RFC 5019 2.2.1): with more, their extensions cannot be told apart.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.edges.revocation.asked import CLOCK_SKEW, MALFORMED, Asked, Finding, unknown
from kipuka_core.edges.revocation.signatures import signed_response, weak_hash
from kipuka_core.model.revocation import RevocationStatus

NONCE_BYTES = 32
"""RFC 9654 2.1; what it allows is 1 to 128."""
_OLDEST_WITHOUT_NONCE = timedelta(days=10)
_MAX_RESPONDER_CERTIFICATES = 8
_CERT_ID_HASHES = (hashes.SHA1, hashes.SHA224, hashes.SHA256, hashes.SHA384, hashes.SHA512)


class AnswerUnusable(ValueError):
    """An answer that does not count; the text is why, to follow the responder's name."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request about one certificate."""

    asked: Asked
    nonce: bytes
    request_der: bytes


def question_about(asked: Asked) -> Question:
    """Ask with a fresh nonce."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    request = (
        ocsp.OCSPRequestBuilder()
        .add_certificate(asked.certificate, asked.issuer, hashes.SHA1())  # noqa: S303  # an identifier, see above
        .add_extension(x509.OCSPNonce(nonce), critical=False)
        .build()
    )
    return Question(asked, nonce, request.public_bytes(serialization.Encoding.DER))


def read_answer(question: Question, answer_der: bytes, now: datetime, *, cache_ttl: timedelta) -> Finding:
    """What the answer says of the certificate, after everything about it was verified. Raises AnswerUnusable."""
    try:
        return _read(question, ocsp.load_der_ocsp_response(answer_der), now, cache_ttl)
    except AnswerUnusable:
        raise
    except (*MALFORMED, UnsupportedAlgorithm) as error:
        raise AnswerUnusable("answers with what cannot be read as an OCSP response") from error


def _read(question: Question, response: ocsp.OCSPResponse, now: datetime, cache_ttl: timedelta) -> Finding:
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise AnswerUnusable(f"answers {response.response_status.name.lower()}")
    _check_signer(response, question.asked.issuer, now)
    single = _single(response)
    _check_extensions(response, question.nonce)
    if not _is_about(single, question.asked):
        raise AnswerUnusable("answers about another certificate")
    return _finding(single, question.asked, _until(response, single, now, cache_ttl=cache_ttl))


def _finding(single: ocsp.OCSPSingleResponse, asked: Asked, until: datetime) -> Finding:
    if single.certificate_status is ocsp.OCSPCertStatus.GOOD:
        return Finding(RevocationStatus.GOOD, f"{asked} is good", until)
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        return Finding(RevocationStatus.REVOKED, f"{asked} is revoked", until)
    return unknown(f"does not know {asked}")


def _single(response: ocsp.OCSPResponse) -> ocsp.OCSPSingleResponse:
    responses = list(response.responses)
    if len(responses) != 1:
        raise AnswerUnusable(f"answers about {len(responses)} certificates instead of one")
    return responses[0]


# -- who answers -------------------------------------------------------------------------------------------------------
def _check_signer(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> None:
    """RFC 6960 4.2.2.2 and 3.2, 2 to 4."""
    delegated = response.certificates[:_MAX_RESPONDER_CERTIFICATES]
    signer = next((each for each in (issuer, *delegated) if _is_responder(response, each)), None)
    if signer is None:
        raise AnswerUnusable("answers without a certificate of whoever signed it, who is not the issuer either")
    if signer != issuer:
        _check_delegated(signer, issuer, now)
    if not signed_response(response, signer.public_key()):
        raise AnswerUnusable(f"answers with a signature that is not that of {signer.subject.rfc4514_string()}")


def _is_responder(response: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    """Whether the responderID is this certificate's."""
    if response.responder_name is not None:
        return response.responder_name == certificate.subject
    key_hash = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
    return response.responder_key_hash == key_hash  # SHA-1 of the key, RFC 6960 4.2.1


def _check_delegated(signer: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
    who = f"answers by {signer.subject.rfc4514_string()}, whose certificate"
    try:
        signer.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        raise AnswerUnusable(f"{who} is not issued by the issuer of the client certificate") from None
    weak = weak_hash(signer.signature_hash_algorithm)
    if weak is not None:
        raise AnswerUnusable(f"{who} is signed with {weak}, which is too weak")
    if not _has_ocsp_signing(signer.extensions):
        raise AnswerUnusable(f"{who} is not one of a responder (extendedKeyUsage OCSPSigning, digitalSignature)")
    if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
        raise AnswerUnusable(f"{who} is not in time")


def _has_ocsp_signing(extensions: x509.Extensions) -> bool:
    try:
        usages = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    try:
        may_sign = extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        may_sign = True
    return may_sign and ExtendedKeyUsageOID.OCSP_SIGNING in usages


# -- about what, and when ----------------------------------------------------------------------------------------------
def _check_extensions(response: ocsp.OCSPResponse, nonce: bytes) -> None:
    for extension in (*response.extensions, *response.single_extensions):
        if isinstance(extension.value, x509.OCSPNonce):
            if extension.value.nonce != nonce:
                raise AnswerUnusable("answers with another nonce than the one it was asked with")
        elif extension.critical:
            raise AnswerUnusable(f"answers with a critical extension unknown here ({extension.oid.dotted_string})")


def _is_about(single: ocsp.OCSPSingleResponse, asked: Asked) -> bool:
    """RFC 6960 3.2, 1: serial number, and name and key of the issuer."""
    if not isinstance(single.hash_algorithm, _CERT_ID_HASHES):
        raise AnswerUnusable(f"answers with the hash {single.hash_algorithm.name}, which is not known here")
    algorithm = type(single.hash_algorithm)()
    certificate, issuer = asked.certificate, asked.issuer
    own = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, algorithm).build()
    return (
        single.serial_number == own.serial_number
        and single.issuer_name_hash == own.issuer_name_hash
        and single.issuer_key_hash == own.issuer_key_hash
    )


def _until(
    response: ocsp.OCSPResponse, single: ocsp.OCSPSingleResponse, now: datetime, *, cache_ttl: timedelta
) -> datetime:
    """How long an answer is good for. Raises AnswerUnusable when it is not good now (RFC 6960 3.2, 5 and 6)."""
    started, ends = single.this_update_utc, single.next_update_utc
    if max(started, response.produced_at_utc) > now + CLOCK_SKEW:
        raise AnswerUnusable(f"answers with a time in the future ({started:%Y-%m-%d %H:%M:%S} UTC)")
    if ends is None:
        ends = started + cache_ttl + CLOCK_SKEW
    if ends < now:
        raise AnswerUnusable(f"answers with an old answer (good until {ends:%Y-%m-%d %H:%M:%S} UTC)")
    if not _has_nonce(response.extensions) and started < now - _OLDEST_WITHOUT_NONCE:
        raise AnswerUnusable(f"answers without a nonce and with an old answer ({started:%Y-%m-%d %H:%M:%S} UTC)")
    return min(ends, now + cache_ttl)


def _has_nonce(extensions: x509.Extensions) -> bool:
    return any(isinstance(extension.value, x509.OCSPNonce) for extension in extensions)
