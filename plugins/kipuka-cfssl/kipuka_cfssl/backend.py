"""CA backend ``cfssl``."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_cfssl.api import CfsslApi, CfsslError, NoAnswerError, NotReachedError, RefusedError
from kipuka_cfssl.chains import ChainFiles
from kipuka_cfssl.credentials import AuthKey
from kipuka_cfssl.events import CfsslFailed
from kipuka_cfssl.info import ask_info, certificate_of
from kipuka_cfssl.lookup import Lookup, authority_key_id
from kipuka_cfssl.names import CfsslProfile, hosts, subject_fields
from kipuka_cfssl.settings import CfsslSettings
from kipuka_core import (
    Approved,
    Asked,
    CaBackend,
    CaChain,
    ConfigurationError,
    CsrRefused,
    Issued,
    NotAllowed,
    NotIssued,
    OutcomeUnknown,
    RequestRefused,
    Services,
    Unavailable,
    Wait,
)

_AWAY = "the certification authority cannot be reached now; repeat the request later"
_UNKNOWN = "the certification authority gave no answer that makes sense; what it did is being found out"
_NOT_NOW = "the certification authority does not issue now; repeat the request later"
# Categories and codes of errors.go of CFSSL. What is not here may have been issued.
_CSR_ERRORS = range(9000, 10_000)
_NAMES_NOT_ALLOWED = 5500
_AGAINST_THE_POLICY = 5300
_CERTIFICATE_STORE = range(11_000, 12_000)
_RECORD_NOT_FOUND = 11_200
_REFUSED_BEFORE_SIGNING = (range(600), range(1000, 9000), range(10_000, 11_000))


class CfsslCa(CaBackend):
    """Has CFSSL sign. Safe for any number of concurrent :meth:`issue`."""

    external: ClassVar[bool] = True

    def __init__(
        self,
        settings: CfsslSettings,
        services: Services,
        api: CfsslApi,
        *,
        key: AuthKey,
        files: ChainFiles,
        lookup: Lookup | None,
    ) -> None:
        self._settings = settings
        self._services = services
        self._api = api
        self._key = key
        self._files = files
        self._lookup = lookup
        self._chain: CaChain | None = None if files.issuing is None else files.chain(files.issuing)
        declared = settings.ca_profile()
        self._profile = CfsslProfile(
            validity=declared.validity,
            key_usage=declared.key_usage,
            ext_key_usage=declared.ext_key_usage,
            subject_attributes=declared.subject_attributes,
            extensions=declared.extensions,
        )
        self.finds = lookup is not None
        self.revokes = settings.revoke

    @property
    def may_set(self) -> CfsslProfile:
        """Validity and usages by the profile; of the subject, what CFSSL keeps and in which order."""
        return self._profile

    async def look(self) -> list[str]:
        """Ask CFSSL for its certificate and profile; what the settings say differently.

        Raises CfsslError when it cannot be asked, ConfigurationError when its issuers are not in ``chain``.
        """
        info = await ask_info(self._api, profile=self._settings.profile, label=self._settings.label)
        if self._files.issuing is not None and info.issuing != self._files.issuing:
            return [f"cert: CFSSL has another certificate, that of {info.issuing.subject.rfc4514_string()}"]
        self._chain = self._files.chain(info.issuing)
        return info.problems(self._profile)

    async def ping(self) -> None:
        """Ask CFSSL about itself. Raises Unavailable when it is away, or not as the settings say."""
        try:
            problems = await self.look()
        except (CfsslError, ConfigurationError) as error:
            raise Unavailable(str(error)) from error
        if problems:
            raise Unavailable("; ".join(problems))

    async def chain(self) -> CaChain:
        """As it was when CFSSL was last asked, at the start or by :meth:`ping`."""
        if self._chain is None:  # cannot be: opening has asked
            raise Unavailable(_AWAY)
        return self._chain

    async def issue(self, approved: Approved) -> Issued | Wait:
        """Ask CFSSL once."""
        request_id = approved.enrolment.request_id
        await self._check_end(approved)
        question = self._question(approved)
        try:
            result = await self._api.ask("authsign", self._key.authenticated(question))
            certificate = certificate_of(result, "certificate")
        except RefusedError as error:
            return await self._refused(approved, error)
        except NotReachedError as error:
            await self._tell(error, request_id)
            raise Unavailable(_AWAY) from error
        except NoAnswerError as error:
            await self._tell(error, request_id)
            raise OutcomeUnknown(_UNKNOWN) from error
        if self.finds and certificate.serial_number != question["serial"]:
            self._lookup, self.finds = None, False  # what is not found may have been issued all the same
            await self._tell("the profile has no ClientProvidesSerialNumbers: set client_serials = false", request_id)
        return Issued(certificate)

    async def poll(self, asked: Asked) -> Issued | Wait:
        """Look for the certificate with the request's serial number."""
        if self._lookup is None:
            return await super().poll(asked)
        try:
            certificate = await self._lookup(self._key.serial(asked.request_id), asked.issuer)
        except CfsslError as error:
            await self._tell(error, asked.request_id)
            raise Unavailable("what became of the request cannot be found out now") from error
        if certificate is not None:
            return Issued(certificate)
        waited = self._services.clock() - asked.asked_at
        pause = timedelta(seconds=self._settings.settle_after) - waited
        if pause > timedelta():
            raise Unavailable(
                "the certification authority may be at it yet", retry_after_seconds=int(pause.total_seconds()) + 1
            )
        raise NotIssued("the certification authority has not issued the certificate; repeat the request")

    async def revoke(self, certificate: x509.Certificate, reason: int) -> None:
        """Tell CFSSL; twice does no harm. Raises NotAllowed where it has no record of the certificate."""
        if not self.revokes:
            return await super().revoke(certificate, reason)
        question = {
            "serial": str(certificate.serial_number),
            "authority_key_id": authority_key_id(certificate),
            "reason": _REASONS.get(reason, ""),
        }
        try:
            try:
                await self._api.ask("revoke", question)
            except RefusedError as error:
                if error.code != _RECORD_NOT_FOUND:
                    raise
                # CFSSL built with a newer Go (Debian's) records no authority key identifier.
                await self._api.ask("revoke", question | {"authority_key_id": ""})
        except CfsslError as error:
            await self._tell(error, "")
            if isinstance(error, RefusedError) and error.code == _RECORD_NOT_FOUND:
                raise NotAllowed("CFSSL has no record of this certificate") from error
            raise Unavailable("CFSSL cannot be told of the revocation now") from error
        return None

    async def _check_end(self, approved: Approved) -> None:
        """CFSSL issues beyond the end of its CA."""
        ends = approved.issuer.not_valid_after_utc
        if self._services.clock() + (self._profile.validity or timedelta()) > ends:
            await self._tell(
                f"CFSSL's CA ends on {ends:%Y-%m-%d}, before what it would issue now: renew it, or shorten the"
                " profile's expiry and sets_validity_days",
                approved.enrolment.request_id,
            )
            raise Unavailable(_NOT_NOW)

    def _question(self, approved: Approved) -> dict[str, object]:
        template, csr = approved.template, approved.enrolment.csr
        if template.extensions:
            oids = ", ".join(each.oid.dotted_string for each in template.extensions)
            raise NotAllowed(f"the certification authority cannot issue the extensions {oids}; leave them out")
        if template.spki_der != csr.spki_der:
            raise NotAllowed("the certification authority certifies the key of the CSR only")
        pem = x509.load_der_x509_csr(csr.der).public_bytes(Encoding.PEM).decode()
        question: dict[str, object] = {
            "certificate_request": pem,
            "subject": subject_fields(template.subject, csr.subject),
            "hosts": hosts(template.san),
            "profile": self._settings.profile,
            "label": self._settings.label,
        }
        if self.finds:
            question["serial"] = self._key.serial(approved.enrolment.request_id)
        return question

    async def _refused(self, approved: Approved, error: RefusedError) -> Issued:
        request_id = approved.enrolment.request_id
        if error.code in _CERTIFICATE_STORE and self._lookup is not None:
            # The serial number is taken: the same request was answered before.
            try:
                found = await self._lookup(self._key.serial(request_id), approved.issuer)
            except CfsslError:
                found = None
            if found is not None:
                return Issued(found)
        await self._tell(error, request_id)
        raise _refusal(error) from error

    async def _tell(self, problem: CfsslError | str, request_id: str) -> None:
        ca_id = self._settings.id or ""
        now = self._services.clock()
        await self._services.emit(CfsslFailed(time=now, request_id=request_id, ca_id=ca_id, reason=str(problem)))


def _refusal(error: RefusedError) -> RequestRefused:
    if error.code in _CSR_ERRORS:
        return CsrRefused(f"the certification authority does not accept this CSR (CFSSL {error.code})")
    if error.code == _NAMES_NOT_ALLOWED:
        return NotAllowed(f"the certification authority does not issue for these names (CFSSL {error.code})")
    if error.code == _AGAINST_THE_POLICY:
        return NotAllowed(f"the certification authority's policy does not allow this (CFSSL {error.code})")
    if any(error.code in codes for codes in _REFUSED_BEFORE_SIGNING):
        return Unavailable(_NOT_NOW)
    return OutcomeUnknown(_UNKNOWN)


_REASONS = {
    1: "keycompromise",
    2: "cacompromise",
    3: "affiliationchanged",
    4: "superseded",
    5: "cessationofoperation",
    6: "certificatehold",
    8: "removefromcrl",
    9: "privilegewithdrawn",
    10: "aacompromise",
}
"""RFC 5280 5.3.1, as CFSSL writes them; unspecified is written as nothing."""
