"""OCSP answers: what is good, who signs, what is kept, and what is answered while something is away."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from kipuka_core.domain.ports import EventSink
from kipuka_core.edges.events import ConfiguredSink
from kipuka_core.edges.status.ocsp import OcspAnswer, OcspDesk
from kipuka_core.edges.store import open_store
from kipuka_core.model.event import CertificateIssued, Event
from kipuka_core.testing.pki import make_root
from kipuka_core.wire.der import element, sequence_elements, whole
from tests.edges.status.status_kit import StatusSite, ocsp_request, read_ocsp

GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN


def error_of(answer: OcspAnswer) -> str:
    assert answer.next_update is None
    return ocsp.load_der_ocsp_response(answer.der).response_status.name


def joined(*requests: bytes) -> bytes:
    """One message that asks what several ask."""
    singles = [whole(sequence_elements(whole(sequence_elements(each)[0]))[0]) for each in requests]
    asked = [whole(element_) for single in singles for element_ in sequence_elements(single)]
    return element(0x30, element(0x30, element(0x30, *asked)))


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
async def test_good_is_what_is_on_record_and_not_revoked(site: StatusSite, algorithm: hashes.HashAlgorithm) -> None:
    desk, leaf = site.desk(), await site.issued(1)
    asked = ocsp_request(leaf, site.issuer, algorithm=algorithm)
    response = read_ocsp(await desk.answer(asked), site.issuer)
    assert response.certificate_status is GOOD
    assert type(response.hash_algorithm) is type(algorithm)
    assert response.next_update_utc == site.clock() + timedelta(hours=1)
    await site.revoke(leaf.serial_number, 4)
    response = read_ocsp(await desk.answer(asked), site.issuer)
    assert response.certificate_status is REVOKED
    assert (response.revocation_reason, response.revocation_time_utc) == (x509.ReasonFlags.superseded, site.clock())


async def test_what_was_never_recorded_is_unknown_and_kept_by_nobody(site: StatusSite) -> None:
    desk, unrecorded = site.desk(), site.issuer.leaf("never recorded").certificate
    answer = await desk.answer(ocsp_request(unrecorded, site.issuer))
    assert read_ocsp(answer, site.issuer).certificate_status is UNKNOWN
    assert answer.next_update is None
    await site.on_record(f"{unrecorded.serial_number:x}")
    assert read_ocsp(await desk.answer(ocsp_request(unrecorded, site.issuer)), site.issuer).certificate_status is GOOD


async def test_a_hold_and_its_release_are_seen_at_once(site: StatusSite) -> None:
    desk, leaf = site.desk(), await site.issued(1)
    asked = ocsp_request(leaf, site.issuer)
    seen = [read_ocsp(await desk.answer(asked), site.issuer).certificate_status]
    await site.revoke(leaf.serial_number, 6)
    response = read_ocsp(await desk.answer(asked), site.issuer)
    assert response.revocation_reason is x509.ReasonFlags.certificate_hold
    await site.release(leaf.serial_number)
    seen.append(read_ocsp(await desk.answer(asked), site.issuer).certificate_status)
    assert seen == [GOOD, GOOD]


async def test_the_responder_s_certificate_is_recorded_announced_and_says_what_it_is_for(site: StatusSite) -> None:
    told: list[Event] = []

    class Sink(EventSink):
        async def emit(self, event: Event) -> None:
            told.append(event)

    site.sinks = (ConfiguredSink("told", Sink(), required=True),)
    response = read_ocsp(await site.desk().answer(ocsp_request(await site.issued(1), site.issuer)), site.issuer)
    (signer,) = response.certificates
    extensions = {extension.oid: extension for extension in signer.extensions}
    assert x509.OCSPNoCheck.oid in extensions
    assert not extensions[x509.BasicConstraints.oid].value.ca
    assert extensions[x509.KeyUsage.oid].value.digital_signature
    assert not extensions[x509.KeyUsage.oid].value.key_cert_sign
    recorded = await site.store.find_certificate(site.key_id, f"{signer.serial_number:x}")
    assert recorded is not None
    assert recorded.certificate_der == signer.public_bytes(Encoding.DER)
    assert (recorded.entity_id, recorded.authenticator) == ("kipuka-ocsp", "kipuka-ocsp")
    (event,) = told
    assert isinstance(event, CertificateIssued)
    assert (event.operation, event.serial) == ("ocsp_responder", recorded.serial_hex)


@pytest.mark.parametrize("key_type", ["rsa2048", "ecdsa384", "ed25519", "ed448", "ml-dsa-44"])
async def test_the_responder_has_a_key_of_the_ca_s_kind(site: StatusSite, key_type: str) -> None:
    site.issuer = make_root(key_type=key_type)
    answer = await site.desk().answer(ocsp_request(await site.issued(1), site.issuer))
    response = read_ocsp(answer, site.issuer)
    (signer,) = response.certificates
    assert type(signer.public_key()) is type(site.issuer.certificate.public_key())
    key, signed = signer.public_key(), response.tbs_response_bytes
    verified: Any = key
    if key_type == "rsa2048":
        verified.verify(response.signature, signed, padding.PKCS1v15(), hashes.SHA256())
    elif key_type == "ecdsa384":
        verified.verify(response.signature, signed, ec.ECDSA(hashes.SHA384()))
    else:
        verified.verify(response.signature, signed)


async def test_it_is_renewed_half_way_and_the_old_one_serves_while_none_can_be_had(
    site: StatusSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    desk, asked = site.desk(), ocsp_request(await site.issued(1), site.issuer)

    async def signer() -> int:
        now[0] += 10
        return read_ocsp(await desk.answer(asked), site.issuer).certificates[0].serial_number

    first = await signer()
    site.clock.advance(days=3)
    assert await signer() == first
    site.token.is_away = True
    site.clock.advance(days=1)
    assert await signer() == first
    site.clock.advance(days=2, hours=23, minutes=59)
    response = read_ocsp(await desk.answer(asked), site.issuer)
    assert response.next_update_utc == response.certificates[0].not_valid_after_utc  # never beyond its signer's end
    site.clock.advance(minutes=2)
    now[0] += 10
    assert error_of(await desk.answer(asked)) == "TRY_LATER"
    site.token.is_away = False
    assert error_of(await desk.answer(asked)) == "TRY_LATER"  # nobody has tried again yet
    assert await signer() != first


async def test_without_a_required_sink_there_is_no_certificate(site: StatusSite) -> None:
    class Broken(EventSink):
        async def emit(self, event: Event) -> None:
            raise OSError("no space left")

    site.sinks = (ConfiguredSink("broken", Broken(), required=True),)
    leaf = await site.issued(1)
    assert error_of(await site.desk().answer(ocsp_request(leaf, site.issuer))) == "TRY_LATER"
    assert await site.store.search_certificates(subject="OCSP of *") == []


async def test_clients_at_once_wait_for_one_certificate(site: StatusSite) -> None:
    desk, leaf = site.desk(), await site.issued(1)
    nonces = [bytes([number]) for number in range(20)]
    answers = await asyncio.gather(*(desk.answer(ocsp_request(leaf, site.issuer, nonce=each)) for each in nonces))
    responses = [read_ocsp(answer, site.issuer) for answer in answers]
    assert len({response.certificates[0].serial_number for response in responses}) == 1
    echoed = [response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce for response in responses]
    assert echoed == nonces


async def test_an_answer_is_given_again_until_something_changes_or_half_its_time_is_over(site: StatusSite) -> None:
    desk, leaf, other = site.desk(), await site.issued(1), await site.issued(2)
    asked = ocsp_request(leaf, site.issuer)
    first = await desk.answer(asked)
    site.clock.advance(minutes=29)
    assert (await desk.answer(asked)) is first
    assert (await desk.answer(ocsp_request(leaf, site.issuer, nonce=b"n"))).der != first.der
    await site.revoke(other.serial_number)  # of the same issuer: its changes are counted together
    second = await desk.answer(asked)
    assert second.der != first.der
    site.clock.advance(minutes=30)
    assert (await desk.answer(asked)).der != second.der


async def test_unknown_serials_are_not_remembered_and_others_only_so_many(
    site: StatusSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kipuka_core.edges.status.ocsp._MOST_KEPT", 3)
    desk = site.desk()
    for number in range(5):
        await desk.answer(ocsp_request(await site.issued(number), site.issuer))
        await desk.answer(ocsp_request(site.issuer.leaf(f"unknown-{number}").certificate, site.issuer))
    assert len(desk._kept) == 3


async def test_several_certificates_in_one_message_are_all_answered(site: StatusSite) -> None:
    desk, first, second = site.desk(), await site.issued(1), await site.issued(2)
    third = site.issuer.leaf("unrecorded").certificate
    await site.revoke(second.serial_number)
    answer = await desk.answer(joined(*(ocsp_request(each, site.issuer) for each in (first, second, third))))
    responses = list(ocsp.load_der_ocsp_response(answer.der).responses)
    assert [each.serial_number for each in responses] == [each.serial_number for each in (first, second, third)]
    assert [each.certificate_status for each in responses] == [GOOD, REVOKED, UNKNOWN]


async def test_certificates_of_others_are_not_ours_to_speak_of(site: StatusSite) -> None:
    other = make_root("Another")
    desk, ours, theirs = site.desk(), await site.issued(1), other.leaf("theirs").certificate
    asked, foreign = ocsp_request(ours, site.issuer), ocsp_request(theirs, other)
    assert error_of(await desk.answer(foreign)) == "UNAUTHORIZED"
    assert error_of(await desk.answer(joined(asked, foreign))) == "UNAUTHORIZED"
    assert error_of(await desk.answer(joined(foreign, asked))) == "UNAUTHORIZED"
    assert error_of(await desk.answer(asked, "elsewhere")) == "UNAUTHORIZED"
    assert read_ocsp(await desk.answer(asked, "default"), site.issuer).certificate_status is GOOD


async def test_one_answer_is_about_one_ca(site: StatusSite) -> None:
    """It has one signature, and the responder of one CA is nobody to the other."""
    other = StatusSite(site.store, site.clock, issuer=make_root("Second CA"))
    desk = OcspDesk({"default": [site.responder()], "second": [other.responder()]}, site.store, site.clock)
    mine, its = ocsp_request(await site.issued(1), site.issuer), ocsp_request(await other.issued(1), other.issuer)
    assert read_ocsp(await desk.answer(mine), site.issuer).certificate_status is GOOD
    assert read_ocsp(await desk.answer(its), other.issuer).certificate_status is GOOD
    assert error_of(await desk.answer(joined(mine, its))) == "UNAUTHORIZED"


async def test_the_same_key_under_another_name_is_another_issuer(site: StatusSite) -> None:
    request = ocsp_request(await site.issued(1), site.issuer)
    namesake = make_root(site.issuer.certificate.subject.rfc4514_string().removeprefix("CN="))
    assert error_of(await site.desk().answer(ocsp_request(namesake.leaf("x").certificate, namesake))) == "UNAUTHORIZED"
    assert read_ocsp(await site.desk().answer(request), site.issuer).certificate_status is GOOD


@pytest.mark.parametrize("data", [b"", b"0", b"\x30\x00", b"MEIwQDA+", bytes(5000), b"\x30\x80\x00\x00"])
async def test_other_bytes_are_malformed(site: StatusSite, data: bytes) -> None:
    assert error_of(await site.desk().answer(data)) == "MALFORMED_REQUEST"


async def test_while_the_database_is_away_clients_try_later(site: StatusSite, url: str) -> None:

    leaf = await site.issued(1)
    async with open_store(url, clock=site.clock) as other:
        away = StatusSite(other, site.clock, issuer=site.issuer)
        desk, asked = away.desk(), ocsp_request(leaf, site.issuer)
        read_ocsp(await desk.answer(asked), site.issuer)
    assert error_of(await desk.answer(asked)) == "TRY_LATER"  # kept, but nobody knows whether it is still true
