"""A sketch: a CSR has to bring its vendor's certificate that says that a secure element made the key."""

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import Field

from kipuka_core import Allow, ConfigurationError, CsrAttributes, Deny, DenyKind, Enrolment, Label, Policy, Provider

# isort: split
from kipuka_core import Services, Settings, Template, Verdict, hookimpl, issued_by, read_certificates

kipuka_api_version = 1

EVIDENCE = "1.2.840.113549.1.9.16.2.59"  # the attribute id-aa-evidence of draft-ietf-lamps-csr-attestation
CERTIFICATE = "1.3.6.1.4.1.32473.59.1"  # the type of our statement: an example's, as RFC 5612 has it
_ANCHORS = "policy.key-attestation.anchors"


@asn1.sequence
class Statement:
    """EvidenceStatement of the draft; ours is an X.509 certificate for the key."""

    type: x509.ObjectIdentifier
    stmt: asn1.TLV
    hint: str | None


@asn1.sequence
class Bundle:
    """EvidenceBundle of the draft; ``certs`` are its issuers, each the one that signed what is before."""

    evidences: list[Statement]
    certs: list[asn1.TLV] | None


class AttestationSettings(Settings):
    """``[policy.key-attestation]``."""

    anchors: tuple[str, ...] = Field(min_length=1, description="PEM files with CAs that attest keys and nothing else.")
    required: bool = Field(default=True, description="False: a CSR without evidence passes; wrong evidence never does.")


class KeyAttestation(Policy):
    """Refuses a key unless a vendor vouches for it."""

    def __init__(self, settings: AttestationSettings, services: Services) -> None:
        self._required, self._run_blocking = settings.required, services.run_blocking
        self._anchors = read_certificates(settings.anchors, services, _ANCHORS)
        for anchor in self._anchors:
            who = anchor.subject.rfc4514_string()
            if not _may_sign(anchor, 0):
                raise ConfigurationError(_ANCHORS, f"{who} is not a CA")
            if anchor in {*services.client_anchors, *services.own_issuers()}:
                raise ConfigurationError(_ANCHORS, f"{who} certifies devices, and would so attest keys of any kind")

    async def advertise(self, label: Label) -> CsrAttributes:
        """Tell devices to send the attribute (RFC 7030 4.5.2)."""
        return CsrAttributes(oids=(EVIDENCE,))

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        """Judge in a worker thread: a chain takes several verifications."""
        problem = await self._run_blocking(self._problem, template, enrolment)
        return Deny(DenyKind.CSR, problem) if problem else Allow()

    def _problem(self, template: Template, enrolment: Enrolment) -> str:
        try:
            chain = _evidence(enrolment.csr.der)
            if not chain:
                return f"the CSR has no attestation evidence (attribute {EVIDENCE}); add it" if self._required else ""
            if chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != template.spki_der:
                return "the attestation evidence of the CSR is about another key"
            vouched_for = any(_is_path((*chain, anchor), enrolment.time) for anchor in self._anchors)
        except Exception:  # noqa: BLE001  # cryptography has no list of what it raises for hostile bytes
            return "the attestation evidence of the CSR cannot be read"
        return "" if vouched_for else "the attestation evidence is not valid now, or its vendor is not trusted here"


def _evidence(csr_der: bytes) -> list[x509.Certificate]:
    """The attestation certificate and up to four issuers; nothing where the CSR has no such attribute."""
    found = {each.oid.dotted_string: each.value for each in x509.load_der_x509_csr(csr_der).attributes}
    if EVIDENCE not in found:
        return []
    # An attribute's value comes without its head: one is made as for an OCTET STRING, and says SEQUENCE then.
    bundle = asn1.decode_der(Bundle, b"\x30" + asn1.encode_der(found[EVIDENCE])[1:])
    (ours,) = (each.stmt for each in bundle.evidences if each.type.dotted_string == CERTIFICATE)
    return [x509.load_der_x509_certificate(asn1.encode_der(each)) for each in (ours, *(bundle.certs or ())[:4])]


def _is_path(chain: Sequence[x509.Certificate], now: datetime) -> bool:
    """Whether each has signed the one before, all are valid now, and nothing critical is overlooked (RFC 5280 6.1)."""
    signed = (_may_sign(ca, below) and issued_by(ca, each) for below, (each, ca) in enumerate(pairwise(chain)))
    in_time = all(each.not_valid_before_utc <= now <= each.not_valid_after_utc for each in chain)
    critical = {type(extension.value) for each in chain for extension in each.extensions if extension.critical}
    return in_time and all(signed) and critical <= {x509.BasicConstraints, x509.KeyUsage}


def _may_sign(certificate: x509.Certificate, cas_below: int) -> bool:
    """Whether this is a CA, with so many CAs between it and what is attested (RFC 5280 4.2.1.9)."""
    values = {type(each.value): each.value for each in certificate.extensions}
    basic, usage = values.get(x509.BasicConstraints), values.get(x509.KeyUsage)
    may_sign = not isinstance(usage, x509.KeyUsage) or usage.key_cert_sign
    if not isinstance(basic, x509.BasicConstraints) or not basic.ca or not may_sign:
        return False
    return basic.path_length is None or basic.path_length >= cas_below


@hookimpl
def kipuka_policies() -> list[Provider[Policy]]:
    """The word for ``[policy] order``."""
    return [Provider("key-attestation", AttestationSettings, lambda *opened: nullcontext(KeyAttestation(*opened)))]
