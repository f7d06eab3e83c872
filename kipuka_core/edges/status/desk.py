"""Everything that tells the status of certificates, for all CAs that kipuka can speak for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from cryptography import x509

from kipuka_core.domain.ca_ports import CaBackend, RunBlocking, StatusAuthority
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.ports import EventHub
from kipuka_core.domain.responder_certificate import ResponderCertificates
from kipuka_core.domain.status_ports import can_sign_crls
from kipuka_core.edges.log import get_logger
from kipuka_core.edges.status.crls import CrlPublisher
from kipuka_core.edges.status.ocsp import OcspAnswer, OcspDesk
from kipuka_core.edges.status.responder import Responder
from kipuka_core.edges.store import SqlStore
from kipuka_core.errors import ConfigurationError, KipukaError, NotFound
from kipuka_core.model.certificate import CaChain
from kipuka_core.model.status import PublishedCrl

log = get_logger()

UPKEEP_SECONDS = 0.5
_KEY_DIGITS = 16


class StatusDesk:
    """CRLs, CA certificates and OCSP answers, by the id of a ``[[ca]]``."""

    def __init__(
        self,
        cas: Mapping[str, CaBackend],
        *,
        store: SqlStore,
        events: EventHub,
        guard: Guard,
        run_blocking: RunBlocking,
        clock: Callable[[], datetime],
    ) -> None:
        self._cas = cas
        self._guard = guard
        self._publishers: dict[str, list[CrlPublisher]] = {}
        responders: dict[str, list[Responder]] = {}
        certificates = ResponderCertificates(
            guard=guard, store=store, events=events, run_blocking=run_blocking, clock=clock
        )

        def publisher(ca_id: str, authority: StatusAuthority) -> CrlPublisher:
            return CrlPublisher(ca_id, authority, store=store, guard=guard, run_blocking=run_blocking, clock=clock)

        for ca_id, backend in cas.items():
            authorities = [each for each in backend.status_authorities if clock() < each.issuer.not_valid_after_utc]
            try:
                self._publishers[ca_id] = [
                    publisher(ca_id, authority) for authority in authorities if can_sign_crls(authority.issuer)
                ]
            except ValueError as error:  # of a plugin: the key of its authority does not go with the hash
                raise ConfigurationError(f"ca.{ca_id}", f"its CRLs cannot be signed: {error}") from error
            responders[ca_id] = [
                Responder(ca_id, authority, certificates, run_blocking=run_blocking, clock=clock)
                for authority in authorities
            ]
        self._responders = [responder for of_ca in responders.values() for responder in of_ca]
        self._ocsp = OcspDesk(responders, store, clock)

    def has_crls(self, ca_id: str) -> bool:
        """Whether kipuka makes CRLs for this CA."""
        return bool(self._publishers.get(ca_id))

    def publishers(self, ca_id: str) -> list[CrlPublisher]:
        """Of one CA: of the key that issues now, then of earlier ones. Raises NotFound for a CA without."""
        if ca_id not in self._cas:
            raise NotFound("there is no CA with this id")
        if not self._publishers[ca_id]:
            raise NotFound("kipuka makes no CRL for this CA", code="no_crl")
        return self._publishers[ca_id]

    async def crl(self, ca_id: str, key: str = "") -> PublishedCrl:
        """The current CRL of a CA, of the key that issues now or of the one that ``key`` names (:func:`key_name`).

        Raises NotFound, and Unavailable when there is none that is good.
        """
        publishers = self.publishers(ca_id)
        for publisher in publishers:
            if not key or key_name(publisher.issuer_key_id) == key:
                return await publisher.current()
        raise NotFound("this CA has no such key", code="no_crl")

    async def issuer(self, ca_id: str) -> x509.Certificate:
        """The certificate that issues now. Raises NotFound, Unavailable and PluginFailed."""
        if ca_id not in self._cas:
            raise NotFound("there is no CA with this id")
        chain = await self._guard.call(ca_id, self._cas[ca_id].chain, expect=CaChain)
        return chain.issuing

    async def ocsp(self, request_der: bytes, ca_id: str | None = None) -> OcspAnswer:
        """The answer to an OCSP request. Raises NotFound for a CA that is not there."""
        if ca_id is not None and ca_id not in self._cas:
            raise NotFound("there is no CA with this id")
        return await self._ocsp.answer(request_der, ca_id)

    async def run(self) -> None:
        """Keep every CRL current and every responder's certificate renewed until cancelled.

        So a CRL is there before it is asked for, and the signature of a slow token is nobody's wait.
        """
        while True:
            for of_ca in self._publishers.values():
                for publisher in of_ca:
                    await _quietly(publisher.current)
            for responder in self._responders:
                if responder.is_in_use:
                    await _quietly(responder.identity)
            await asyncio.sleep(UPKEEP_SECONDS)


def key_name(issuer_key_id: str) -> str:
    """How paths name a key: the beginning of the hash of its SubjectPublicKeyInfo."""
    return issuer_key_id[:_KEY_DIGITS]


async def _quietly(work: Callable[[], Awaitable[object]]) -> None:
    """What is away has been logged where it was noticed, and is tried again at the next turn."""
    try:
        await work()
    except KipukaError:
        return
    except Exception:
        log.exception("upkeep of CRLs and OCSP failed; it goes on")
