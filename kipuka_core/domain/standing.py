"""Whether a client certificate still counts: the store for what was issued here, ``[revocation]`` for all others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509

from kipuka_core.domain.ports import RevocationSource, Store
from kipuka_core.domain.renewal import issued_by
from kipuka_core.errors import NotAuthenticated, Unavailable
from kipuka_core.model.fingerprints import issuer_key_id, serial_hex
from kipuka_core.model.record import CertificateStatus, RecordedCertificate
from kipuka_core.model.revocation import RevocationStatus

log = logging.getLogger(__name__)

_LOG_INTERVAL = timedelta(minutes=1)
_LOGGED_AT_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateStanding:
    """Asked on every request that rests on a client certificate: a kept or resumed connection has no more rights."""

    store: Store
    source: RevocationSource | None
    """None: ``[revocation] check`` is ``none``, and only the store is asked."""
    soft_fail: bool
    own_issuers: Callable[[], Sequence[x509.Certificate]]
    _logged: dict[str, datetime] = field(default_factory=dict, repr=False, compare=False)
    """When ``soft_fail`` was logged, by its reason."""

    async def check(self, chain: Sequence[x509.Certificate], now: datetime) -> None:
        """Accept a verified chain, leaf first, anchor last.

        Raises NotAuthenticated (``certificate_revoked``), Unavailable (``revocation_unknown``) where the status cannot
        be found out, and StoreUnavailable.
        """
        record = await self._record(chain)
        if record is not None:
            if record.status is not CertificateStatus.ACTIVE:
                raise _revoked()
            return
        if self.source is None:
            return
        answer = await self.source.status_of(chain, now)
        if answer.status is RevocationStatus.REVOKED:
            raise _revoked()
        if answer.status is RevocationStatus.UNKNOWN:
            if not self.soft_fail:
                raise Unavailable(
                    "it cannot be found out whether the client certificate is revoked; repeat the request later",
                    code="revocation_unknown",
                )
            if self._is_new(answer.detail, now):
                log.warning("a client certificate of unknown revocation status is accepted: %s", answer.detail)

    def _is_new(self, detail: str, now: datetime) -> bool:
        """Whether it was not logged within the last minute: a device repeats its requests."""
        last = self._logged.get(detail)
        if last is not None and abs(now - last) < _LOG_INTERVAL:
            return False
        if len(self._logged) >= _LOGGED_AT_MOST:
            self._logged.clear()
        self._logged[detail] = now
        return True

    async def _record(self, chain: Sequence[x509.Certificate]) -> RecordedCertificate | None:
        leaf = chain[0]
        signer = chain[1] if len(chain) > 1 else None
        if signer is None:  # the leaf is an anchor itself
            signer = next((issuer for issuer in self.own_issuers() if issued_by(issuer, leaf)), None)
        return None if signer is None else await self.store.find_certificate(issuer_key_id(signer), serial_hex(leaf))


def _revoked() -> NotAuthenticated:
    return NotAuthenticated("the client certificate is revoked", code="certificate_revoked")
