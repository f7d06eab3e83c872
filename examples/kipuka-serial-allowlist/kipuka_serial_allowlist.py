"""Devices enrol with their manufacturer's certificate (IDevID, IEEE 802.1AR) if a list has their serial number."""

from contextlib import nullcontext
from pathlib import Path

from cryptography.x509.oid import NameOID
from pydantic import Field

from kipuka_core import Allow, Authenticator, ClientIdentity, ConfigurationError, Deny, DenyKind, Enrolment, Offer

# isort: split
from kipuka_core import Policy, Provider, Services, Settings, Template, Verdict, hookimpl


class AllowlistSettings(Settings):
    """``[auth.serial-allowlist]`` and ``[policy.serial-allowlist]``."""

    file: Path = Field(description="A text file with one serial number a line.")


class SerialAllowlist(Authenticator, Policy):
    """Says who a device is, by the serialNumber in its certificate, and that nobody else gets a certificate."""

    def __init__(self, settings: AllowlistSettings, services: Services) -> None:
        self._file, self._own_issuers = settings.file, services.own_issuers
        self._has("")  # a file that is missing or cannot be read is a start-up error

    def _has(self, serial: str) -> bool:
        try:  # every time, so that an edit counts at once
            return serial in self._file.read_text(encoding="utf-8").split()
        except (OSError, ValueError) as error:  # during a request this is a refusal
            raise ConfigurationError(str(self._file), f"cannot be read: {error}") from error

    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        """Believe the manufacturer, whose chain TLS has verified; in certificates of ours a CSR chose the number."""
        chain = offer.connection.client_chain
        if not chain or not set(chain).isdisjoint(self._own_issuers()):
            return None
        serials = [str(each.value) for each in chain[0].subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)]
        if len(serials) != 1 or not self._has(serials[0]):
            return None
        return ClientIdentity(authenticator="serial-allowlist", entity_id=serials[0], certificate=chain[0])

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        """Also for renewals, so that a device is stopped by taking it off the list."""
        listed = self._has(enrolment.identity.entity_id)
        return Allow() if listed else Deny(DenyKind.PERMISSION, "this device is not in the list of serial numbers")


@hookimpl
def kipuka_authenticators() -> list[Provider[Authenticator]]:
    """The word for ``[auth] order``."""
    return [Provider("serial-allowlist", AllowlistSettings, lambda *opened: nullcontext(SerialAllowlist(*opened)))]


@hookimpl
def kipuka_policies() -> list[Provider[Policy]]:
    """The word for ``[policy] order``."""
    return [Provider("serial-allowlist", AllowlistSettings, lambda *opened: nullcontext(SerialAllowlist(*opened)))]
