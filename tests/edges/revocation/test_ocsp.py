"""One OCSP answer: what has to hold for it to count. Every row lies in one thing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kipuka_core.edges.revocation.asked import ask_about
from kipuka_core.edges.revocation.ocsp import AnswerUnusable, question_about, read_answer
from kipuka_core.model.revocation import RevocationStatus
from kipuka_core.testing.pki import Leaf, make_root
from tests.edges.revocation.revocation_kit import DAY, Responding, responder_leaf

CA = make_root("OCSP Device CA")
OTHER = make_root("Other CA")
GOOD, BAD = CA.leaf("good"), CA.leaf("bad")
RESPONDER = responder_leaf(CA)
TTL = timedelta(minutes=5)
NOW = datetime.now(UTC)
QUESTION = question_about(ask_about(GOOD.certificate, CA.certificate))


def read(responding: Responding, leaf: Leaf = GOOD, *, now: datetime | None = None) -> Any:
    question = question_about(ask_about(leaf.certificate, CA.certificate))
    answer = responding.answer(leaf.certificate, question.request_der)
    return read_answer(question, answer, now or datetime.now(UTC), cache_ttl=TTL)


@pytest.mark.parametrize("signer", [None, RESPONDER])
@pytest.mark.parametrize("by_name", [True, False])
def test_issuer_and_delegated_responder_say_good_revoked_and_unknown(signer: Leaf | None, by_name: bool) -> None:
    responding = Responding(
        authority=CA, signer=signer, by_name=by_name, revoked=frozenset({BAD.certificate.serial_number})
    )
    assert read(responding).status is RevocationStatus.GOOD
    assert read(responding, BAD).status is RevocationStatus.REVOKED
    assert "CN=bad" in read(responding, BAD).detail
    does_not_know = Responding(authority=CA, signer=signer, status=ocsp.OCSPCertStatus.UNKNOWN)
    assert read(does_not_know).status is RevocationStatus.UNKNOWN


def test_a_request_has_a_fresh_nonce_of_32_octets() -> None:
    first, second = (question_about(ask_about(GOOD.certificate, CA.certificate)) for _ in range(2))
    request = ocsp.load_der_ocsp_request(first.request_der)
    nonce = request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    assert nonce == first.nonce
    assert len(nonce) == 32
    assert first.nonce != second.nonce
    assert request.serial_number == GOOD.certificate.serial_number


WITHOUT_KEY_USAGE = responder_leaf(CA, eku=(ExtendedKeyUsageOID.CLIENT_AUTH,))
NO_EKU = responder_leaf(CA, eku=())
EXPIRED = responder_leaf(CA, not_before=NOW - timedelta(days=100), days=90)
TOMORROW = responder_leaf(CA, not_before=NOW + DAY)
FOREIGN = responder_leaf(OTHER)
BELOW = responder_leaf(CA.subordinate("Below CA"))
_IMPOSTOR = make_root("OCSP Device CA")
IMPOSTOR = Leaf(_IMPOSTOR.certificate, _IMPOSTOR.key)
LIES = {
    "a client as signer": (Responding(authority=CA, signer=WITHOUT_KEY_USAGE), "OCSPSigning"),
    "no extended key usage": (Responding(authority=CA, signer=NO_EKU), "OCSPSigning"),
    "responder expired": (Responding(authority=CA, signer=EXPIRED), "not in time"),
    "responder of tomorrow": (Responding(authority=CA, signer=TOMORROW), "not in time"),
    "responder of another CA": (Responding(authority=CA, signer=FOREIGN), "not issued by the issuer"),
    "responder of a CA below": (Responding(authority=CA, signer=BELOW), "not issued by the issuer"),
    "another CA itself": (Responding(authority=CA, signer=Leaf(OTHER.certificate, OTHER.key)), "not issued"),
    "the issuer's name, another key": (Responding(authority=CA, signer=IMPOSTOR, by_name=True), "signature that is"),
    "the responder's name and certificate, another key": (
        Responding(authority=CA, signer=FOREIGN, by_name=True, embedded=[RESPONDER.certificate]),
        "signature that is not that of CN=Responder",
    ),
    "responder's certificate missing": (Responding(authority=CA, signer=RESPONDER, embedded=[]), "without a cert"),
    "only a certificate of somebody else": (
        Responding(authority=CA, signer=RESPONDER, embedded=[BAD.certificate]),
        "without a certificate of whoever signed it",
    ),
    "another nonce": (Responding(authority=CA, nonce=b"n" * 32), "another nonce"),
    "another serial number": (Responding(authority=CA, about=BAD.certificate), "another certificate"),
    "another issuer": (Responding(authority=CA, issuer=OTHER.certificate), "another certificate"),
    "ended": (Responding(authority=CA, this_update=NOW - 2 * DAY, next_update=NOW - DAY), "old answer"),
    "of the future": (Responding(authority=CA, this_update=NOW + timedelta(hours=1)), "future"),
    "without end and old": (
        Responding(authority=CA, this_update=NOW - timedelta(minutes=20), has_next_update=False),
        "old answer",
    ),
    "without nonce and too old": (
        Responding(authority=CA, nonce=None, this_update=NOW - 11 * DAY, next_update=NOW + DAY),
        "without a nonce and with an old answer",
    ),
    "unknown critical extension": (Responding(authority=CA, critical=True), "critical extension"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_no_answer(lie: str) -> None:
    responding, words = LIES[lie]
    with pytest.raises(AnswerUnusable) as refused:
        read(responding)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "responding",
    [
        Responding(authority=CA, nonce=None),
        Responding(authority=CA, nonce=None, this_update=NOW - 9 * DAY, next_update=NOW + DAY),
        Responding(authority=CA, has_next_update=False),
        Responding(authority=CA, signer=RESPONDER, embedded=[BAD.certificate, RESPONDER.certificate]),
        Responding(authority=CA, hash_algorithm=hashes.SHA384()),
    ],
)
def test_what_the_standard_leaves_open_counts(responding: Responding) -> None:
    assert read(responding).status is RevocationStatus.GOOD


def test_an_answer_is_good_until_its_end_and_no_longer_than_the_cache_allows() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    soon = Responding(authority=CA, this_update=now, next_update=now + timedelta(minutes=2))
    assert read(soon, now=now).until == now + timedelta(minutes=2)
    assert read(Responding(authority=CA), now=now).until == now + TTL


@pytest.mark.parametrize("key_type", ["rsa2048", "ecdsa384", "ed25519"])
def test_keys_of_every_kind_sign(key_type: str) -> None:
    ca, impostor = make_root("CA", key_type), make_root("CA", key_type)
    leaf = ca.leaf()
    question = question_about(ask_about(leaf.certificate, ca.certificate))
    hash_algorithm: Any = None if key_type == "ed25519" else hashes.SHA256()
    by_ca = Responding(authority=ca, hash_algorithm=hash_algorithm, by_name=True)
    answer = by_ca.answer(leaf.certificate, question.request_der)
    assert read_answer(question, answer, datetime.now(UTC), cache_ttl=TTL).status is RevocationStatus.GOOD
    forged = replace(by_ca, signer=Leaf(impostor.certificate, impostor.key), embedded=[])
    with pytest.raises(AnswerUnusable, match="signature"):
        read_answer(question, forged.answer(leaf.certificate, question.request_der), datetime.now(UTC), cache_ttl=TTL)


@pytest.mark.parametrize("status", [each for each in ocsp.OCSPResponseStatus if each.value])
def test_a_responder_that_refuses_gives_no_answer(status: ocsp.OCSPResponseStatus) -> None:
    refusal = ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)
    with pytest.raises(AnswerUnusable, match=f"answers {status.name.lower()}"):
        read_answer(QUESTION, refusal, NOW, cache_ttl=TTL)


ANSWER = Responding(authority=CA, status=ocsp.OCSPCertStatus.REVOKED).answer(GOOD.certificate, QUESTION.request_der)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(lambda head, tail: ANSWER[:head] + tail, st.integers(0, len(ANSWER)), st.binary(max_size=20)),
        st.builds(
            lambda at, value: ANSWER[:at] + bytes([value]) + ANSWER[at + 1 :],
            st.integers(0, len(ANSWER) - 1),
            st.integers(0, 255),
        ),
    )
)
def test_malformed_bytes_never_make_a_revoked_certificate_good(data: bytes) -> None:
    try:
        finding = read_answer(QUESTION, data, datetime.now(UTC), cache_ttl=TTL)
    except AnswerUnusable:
        return
    assert finding.status is RevocationStatus.REVOKED
