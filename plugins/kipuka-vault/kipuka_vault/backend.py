"""CA backend ``vault``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import hvac
from cryptography import x509

from kipuka_core import (
    Approved,
    CaBackend,
    CaChain,
    CaProfile,
    CsrRefused,
    Issued,
    NotAllowed,
    OutcomeUnknown,
    Services,
    Unavailable,
    Wait,
)
from kipuka_vault.access import VaultAccess
from kipuka_vault.errors import NoAnswerError, RefusedError, VaultCallError
from kipuka_vault.events import VaultFailed
from kipuka_vault.requests_for import csr_pem, parameters
from kipuka_vault.settings import VaultSettings

_NOT_NOW = "the certification authority does not issue now; repeat the request later"
_UNKNOWN = "the certification authority gave no answer that makes sense; a person has to look what it did"


class VaultCa(CaBackend):
    """Has a PKI engine sign. Safe for any number of concurrent :meth:`issue`."""

    external: ClassVar[bool] = True

    def __init__(self, settings: VaultSettings, services: Services, access: VaultAccess, chain: CaChain) -> None:
        self._settings = settings
        self._services = services
        self._access = access
        self._chain = chain
        self._profile = settings.ca_profile()
        self.revokes = settings.revoke

    @property
    def may_set(self) -> CaProfile:
        """As declared; with ``sign-verbatim``, nothing as a rule."""
        return self._profile

    async def ping(self) -> None:
        """Ask Vault's health. Raises Unavailable when it is away, sealed or not initialised."""
        try:
            health = await self._access.call(
                lambda client: client.sys.read_health_status(
                    method="GET", standby_ok=True, sealed_code=200, uninit_code=200, performance_standby_code=200
                )
            )
        except VaultCallError as error:
            raise Unavailable(f"Vault: {error}") from error
        if health.get("initialized") is not True or health.get("sealed") is not False:
            raise Unavailable("Vault is sealed or not initialised")

    async def chain(self) -> CaChain:
        """As it was at the start."""
        return self._chain

    async def issue(self, approved: Approved) -> Issued | Wait:
        """Ask Vault once."""
        role, mount = self._settings.role, self._settings.mount_point
        asked = parameters(approved, role=role)
        csr = csr_pem(approved)

        def sign(client: hvac.Client) -> Any:
            if role is None:
                return client.secrets.pki.sign_verbatim(csr, extra_params=dict(asked), mount_point=mount)
            more = {name: value for name, value in asked.items() if name != "common_name"}
            return client.secrets.pki.sign_certificate(role, csr, asked["common_name"], more, mount_point=mount)

        request_id = approved.enrolment.request_id
        try:
            return Issued(_certificate(await self._access.call(sign)))
        except NoAnswerError as error:
            await self._tell(error, request_id)
            raise OutcomeUnknown(_UNKNOWN) from error
        except VaultCallError as error:
            await self._tell(error, request_id)
            if isinstance(error, RefusedError) and error.is_request:
                raise CsrRefused("the certification authority's role does not allow what was asked for") from error
            raise Unavailable(_NOT_NOW) from error

    async def revoke(self, certificate: x509.Certificate, reason: int) -> None:
        """Tell Vault, which takes no reason; twice does no harm. Raises NotAllowed where it does not know it."""
        if not self.revokes:
            return await super().revoke(certificate, reason)
        digits = f"{certificate.serial_number:x}"
        octets = bytes.fromhex(digits.zfill(len(digits) + len(digits) % 2))
        serial, mount = octets.hex(":"), self._settings.mount_point
        try:
            await self._access.call(lambda client: client.secrets.pki.revoke_certificate(serial, mount_point=mount))
        except VaultCallError as error:
            await self._tell(error, "")
            if isinstance(error, RefusedError) and error.is_request:
                raise NotAllowed("Vault does not revoke this certificate") from error
            raise Unavailable("Vault cannot be told of the revocation now") from error
        return None

    async def _tell(self, error: VaultCallError, request_id: str) -> None:
        ca_id, now = self._settings.id or "", self._services.clock()
        await self._services.emit(VaultFailed(time=now, request_id=request_id, ca_id=ca_id, reason=str(error)))


def _certificate(answer: Mapping[str, Any]) -> x509.Certificate:
    data = answer.get("data")
    text = data.get("certificate") if isinstance(data, Mapping) else None
    try:
        return x509.load_pem_x509_certificate(text.encode() if isinstance(text, str) else b"")
    except ValueError as error:
        raise NoAnswerError("the answer does not hold a certificate in PEM") from error
