"""The server's own certificate from one of its own CAs: the one way to id-kp-cmcRA (RFC 6402 2.10) in kipuka.

The certificate is put together here and not from a request: whoever asks chooses key, names, CA and validity, and gets
a server certificate or nothing. That such an extended key usage never comes from a CSR stays a core rule
(:mod:`kipuka_core.domain.rules`).
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.guard import Guard
from kipuka_core.domain.issuance import Issuance
from kipuka_core.domain.ports import CsrReader
from kipuka_core.domain.rules import CMC_RA, SERVER_AUTH
from kipuka_core.domain.template import BACKDATED_BY
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.certificate import Approved, CaChain, Issued, Template
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.identity import ClientIdentity
from kipuka_core.model.key_usage import key_usage_extension
from kipuka_core.model.label import EnrollmentRules, Label
from kipuka_core.model.names import general_name_text
from kipuka_core.model.request import Connection, Csr, Operation

ENTITY_ID = "kipuka-server"
"""Whose certificates they are, in the store and in events."""
OPERATION = "server_certificate"
_LONGEST_COMMON_NAME = 64  # RFC 5280, ub-common-name


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCertificates:
    """Has server certificates issued, checked and recorded like every other (invariant 2)."""

    cas: Mapping[str, CaBackend]
    default_ca_id: str
    guard: Guard
    issuance: Issuance
    reader: CsrReader
    clock: Callable[[], datetime]
    dry_run: bool

    async def chain(self, ca_id: str | None = None) -> CaChain:
        """See :class:`kipuka_core.hooks.provider.Services`."""
        name = self._known(ca_id)
        return await self.guard.call(name, self.cas[name].chain, expect=CaChain)

    async def issue(
        self,
        key: CertificateIssuerPrivateKeyTypes,
        names: Sequence[x509.GeneralName],
        *,
        validity: timedelta,
        ca_id: str | None = None,
    ) -> tuple[x509.Certificate, ...]:
        """See :class:`kipuka_core.hooks.provider.IssueServerCertificate`."""
        name = self._known(ca_id)
        chain = await self.chain(name)
        enrolment = self._enrolment(key, _checked(names), name)
        template = _template(enrolment, names, chain.issuing, validity, self.cas[name].longest_validity)
        if template.not_after <= enrolment.time:
            raise ConfigurationError(name, "the CA's own certificate is at its end: renew that first")
        approved = Approved(template=template, enrolment=enrolment, issuer=chain.issuing)
        above = tuple(each for each in chain.certificates if each.subject != each.issuer)
        if self.dry_run:
            return (_unsigned_by_the_ca(key, approved), *above)
        outcome = await self.issuance.issue(approved, operation=OPERATION)
        if isinstance(outcome, Issued):
            return (outcome.certificate, *above)
        await self.issuance.external.refuse(approved, "a server certificate cannot wait")
        await self.issuance.store.forget_refused(enrolment.request_id)
        raise ConfigurationError(
            name, "this CA does not issue at once, and a server certificate cannot wait: name another CA"
        )

    def _known(self, ca_id: str | None) -> str:
        name = self.default_ca_id if ca_id is None else ca_id
        if name not in self.cas:
            raise ConfigurationError(name, f"there is no [[ca]] with this id; known: {', '.join(sorted(self.cas))}")
        return name

    def _enrolment(
        self, key: CertificateIssuerPrivateKeyTypes, names: Sequence[x509.GeneralName], ca_id: str
    ) -> Enrolment:
        """The server as a client of its own CA. No label's rules apply: there is nothing here that they could shape."""
        return Enrolment(
            request_id=secrets.token_hex(8),
            operation=Operation.SIMPLEENROLL,
            label=Label(name="", ca_id=ca_id, rules=EnrollmentRules(), auth_order=()),
            identity=ClientIdentity(authenticator=ENTITY_ID, entity_id=ENTITY_ID),
            csr=self._csr(key, names),
            connection=Connection(source_address="", tls_version=""),
            time=self.clock(),
        )

    def _csr(self, key: CertificateIssuerPrivateKeyTypes, names: Sequence[x509.GeneralName]) -> Csr:
        builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(names))
        request = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(key, _hash(key))
        csr = self.reader.decode(base64.b64encode(request.public_bytes(serialization.Encoding.DER)))
        self.reader.verify_possession(csr)
        return csr


def _checked(names: Sequence[x509.GeneralName]) -> Sequence[x509.GeneralName]:
    if not names or not all(isinstance(each, x509.DNSName | x509.IPAddress) for each in names):
        raise ConfigurationError("names", "a server certificate is for DNS names and IP addresses, at least one")
    return names


def _template(
    enrolment: Enrolment,
    names: Sequence[x509.GeneralName],
    issuer: x509.Certificate,
    validity: timedelta,
    longest_validity: timedelta | None,
) -> Template:
    not_before = max(enrolment.time - BACKDATED_BY, issuer.not_valid_before_utc).replace(microsecond=0)
    is_rsa = isinstance(enrolment.csr.public_key, rsa.RSAPublicKey)
    return Template(
        subject=enrolment.csr.subject,
        spki_der=enrolment.csr.spki_der,
        san=tuple(names),
        key_usage=frozenset({"digitalSignature", "keyEncipherment"} if is_rsa else {"digitalSignature"}),
        ext_key_usage=(SERVER_AUTH, CMC_RA),
        not_before=not_before,
        not_after=min(not_before + min(validity, longest_validity or validity), issuer.not_valid_after_utc),
    )


def _subject(names: Sequence[x509.GeneralName]) -> x509.Name:
    common_name = general_name_text(names[0])
    if len(common_name) > _LONGEST_COMMON_NAME:  # the SubjectAltName alone names the server then
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _hash(key: CertificateIssuerPrivateKeyTypes) -> hashes.SHA256 | None:
    return hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) else None


def _unsigned_by_the_ca(key: CertificateIssuerPrivateKeyTypes, approved: Approved) -> x509.Certificate:
    """What would be issued, signed with its own key: good to be looked at, worthless to everybody else."""
    template = approved.template
    return (
        x509.CertificateBuilder()
        .subject_name(template.subject)
        .issuer_name(approved.issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(template.not_before)
        .not_valid_after(template.not_after)
        .add_extension(x509.SubjectAlternativeName(template.san), critical=not template.subject.rdns)
        .add_extension(key_usage_extension(template.key_usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage(map(x509.ObjectIdentifier, template.ext_key_usage)), critical=False)
        .sign(key, _hash(key))
    )
