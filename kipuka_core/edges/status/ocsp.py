"""OCSP answers about the certificates of the server's own CAs (RFC 6960, RFC 5019)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha1, sha256, sha384, sha512

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kipuka_core.domain.status_ports import StatusStore
from kipuka_core.edges.log import get_logger
from kipuka_core.edges.status.crls import trouble_of
from kipuka_core.edges.status.responder import Responder
from kipuka_core.errors import KipukaError
from kipuka_core.model.fingerprints import issuer_key_id
from kipuka_core.wire.der import sequence_elements
from kipuka_core.wire.ocsp import (
    CertId,
    OcspError,
    OcspMalformed,
    OcspRequest,
    ResponseData,
    SingleStatus,
    basic_response,
    error_response,
    read_request,
)

log = get_logger()

_HASHES = {
    "1.3.14.3.2.26": sha1,  # names the issuer and protects nothing; RFC 5019 2.1.1 asks for it
    "2.16.840.1.101.3.4.2.1": sha256,
    "2.16.840.1.101.3.4.2.2": sha384,
    "2.16.840.1.101.3.4.2.3": sha512,
}
_MOST_KEPT = 4096
_IssuerId = tuple[str, bytes, bytes]


@dataclass(frozen=True, slots=True)
class OcspAnswer:
    """An OCSPResponse. Without ``next_update`` nobody may keep it: an error, an unknown certificate, one with nonce."""

    der: bytes
    this_update: datetime | None = None
    next_update: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: OcspAnswer
    changes: int
    use_until: datetime


class OcspDesk:
    """Answers for every CA that has a responder.

    Good means on record and not revoked. A serial number without a record is ``unknown``, never ``revoked`` by the
    extended definition of RFC 6960 4.4.8: the key may have signed certificates before kipuka had it, and they are not
    ours to revoke.
    """

    def __init__(
        self,
        responders: Mapping[str, Sequence[Responder]],
        store: StatusStore,
        clock: Callable[[], datetime],
    ) -> None:
        """``responders`` by the CA's id."""
        self._store = store
        self._clock = clock
        self._by_issuer: dict[_IssuerId, tuple[str, Responder]] = {}
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        for ca_id, of_ca in responders.items():
            for responder in of_ca:
                for issuer in _issuer_ids(responder.authority.issuer):
                    self._by_issuer.setdefault(issuer, (ca_id, responder))

    async def answer(self, request_der: bytes, ca_id: str | None = None) -> OcspAnswer:
        """Answer a request; with ``ca_id`` only about certificates of this CA.

        Never raises for what a client has sent or for what is away: those are answers of OCSP, too.
        """
        try:
            request = read_request(request_der)
        except OcspMalformed:
            return OcspAnswer(error_response(OcspError.MALFORMED_REQUEST))
        responder = self._responder_for(request, ca_id)
        if responder is None:
            return OcspAnswer(error_response(OcspError.UNAUTHORIZED))
        try:
            return await self._answer(request, responder)
        except KipukaError as error:
            log.warning("OCSP request not answered", problem=trouble_of(error))
            return OcspAnswer(error_response(OcspError.TRY_LATER))

    def _responder_for(self, request: OcspRequest, ca_id: str | None) -> Responder | None:
        """Whoever may answer all of it. One answer has one signature, so it is about certificates of one key."""
        found = {self._by_issuer.get(cert_id.issuer) for cert_id in request.cert_ids}
        if len(found) != 1:
            return None
        (one,) = found
        if one is None or (ca_id is not None and one[0] != ca_id):
            return None
        return one[1]

    async def _answer(self, request: OcspRequest, responder: Responder) -> OcspAnswer:
        key_id = issuer_key_id(responder.authority.issuer)
        # Read before the statuses: what changes meanwhile makes the kept answer too old, and not too new.
        changes = (await self._store.revocation_state(key_id)).changes
        keepable = request.cert_ids[0].der if request.nonce is None and len(request.cert_ids) == 1 else None
        if keepable is not None and (kept := self._kept.get(keepable)) is not None:
            if kept.changes == changes and self._clock() < kept.use_until:
                self._kept.move_to_end(keepable)
                return kept.answer
            del self._kept[keepable]
        statuses = [await self._status(key_id, cert_id) for cert_id in request.cert_ids]
        answer, use_until = await self._signed(request, responder, statuses)
        if keepable is not None and answer.next_update is not None:
            self._kept[keepable] = _Kept(answer, changes, use_until)
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return answer

    async def _status(self, key_id: str, cert_id: CertId) -> SingleStatus:
        recorded = await self._store.recorded_status(key_id, f"{cert_id.serial:x}")
        if recorded is None:
            return SingleStatus(cert_id=cert_id)
        return SingleStatus(
            cert_id=cert_id,
            is_good=recorded.revoked_at is None,
            revoked_at=recorded.revoked_at,
            reason=recorded.reason,
        )

    async def _signed(
        self, request: OcspRequest, responder: Responder, statuses: Sequence[SingleStatus]
    ) -> tuple[OcspAnswer, datetime]:
        """The answer, and until when it may be given again."""
        identity = await responder.identity()
        now = self._clock().replace(microsecond=0)
        validity = responder.authority.times.ocsp_validity
        next_update = min(now + validity, identity.certificate.not_valid_after_utc)
        data_der = ResponseData(
            responder_key_hash=identity.key_hash,
            statuses=statuses,
            this_update=now,
            next_update=next_update,
            nonce=request.nonce,
        ).encode()
        signature = await responder.sign(identity, data_der)
        der = basic_response(data_der, identity.algorithm_der, signature, identity.certificate)
        is_known = all(status.is_good or status.revoked_at is not None for status in statuses)
        may_be_kept = is_known and request.nonce is None
        answer = OcspAnswer(der, now if may_be_kept else None, next_update if may_be_kept else None)
        return answer, now + (next_update - now) / 2


def _issuer_ids(issuer: x509.Certificate) -> list[_IssuerId]:
    """How requests may name an issuer (RFC 6960 4.1.1): hashes of its name, and of its key without tag and length."""
    spki_der = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key_bits = bytes(sequence_elements(spki_der)[1].data)[1:]
    name_der = issuer.subject.public_bytes()
    return [(oid, new(name_der).digest(), new(key_bits).digest()) for oid, new in _HASHES.items()]
