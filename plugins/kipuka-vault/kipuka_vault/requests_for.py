"""What Vault is asked for, and what it is not asked for because something else would come back."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from kipuka_core import Approved, CsrRefused, NotAllowed

_KEY_USAGES = {
    "digitalSignature": "DigitalSignature",
    "contentCommitment": "ContentCommitment",
    "keyEncipherment": "KeyEncipherment",
    "dataEncipherment": "DataEncipherment",
    "keyAgreement": "KeyAgreement",
    "keyCertSign": "CertSign",
    "cRLSign": "CRLSign",
    "encipherOnly": "EncipherOnly",
    "decipherOnly": "DecipherOnly",
}
"""Go's names, which Vault takes."""
_JUDGED = frozenset(
    {
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    }
)


def parameters(approved: Approved, *, role: str | None) -> dict[str, Any]:
    """The parameters of ``sign`` or ``sign-verbatim``, without the CSR.

    Raises CsrRefused or NotAllowed where Vault would issue something else: it takes names from the CSR.
    """
    template, csr = approved.template, approved.enrolment.csr
    if template.spki_der != csr.spki_der:
        raise NotAllowed("the certification authority certifies the key of the CSR only")
    if set(template.san) != set(csr.san or ()):
        raise CsrRefused("the certification authority takes the SubjectAltName from the CSR: ask for the approved one")
    ends = min(template.not_after, approved.issuer.not_valid_after_utc)
    asked = {"not_after": f"{ends:%Y-%m-%dT%H:%M:%SZ}", "format": "pem"}
    if role is None:
        return asked | _verbatim(approved)
    if template.extensions:
        oids = ", ".join(each.oid.dotted_string for each in template.extensions)
        raise NotAllowed(f"the certification authority cannot issue the extensions {oids}; leave them out")
    return asked | _by_role(approved)


def csr_pem(approved: Approved) -> str:
    """The device's CSR."""
    return x509.load_der_x509_csr(approved.enrolment.csr.der).public_bytes(Encoding.PEM).decode()


def _verbatim(approved: Approved) -> dict[str, Any]:
    template, csr = approved.template, approved.enrolment.csr
    if csr.subject != template.subject:
        raise CsrRefused("the certification authority takes the subject from the CSR: ask for the approved one")
    wanted = {each.oid: (each.critical, each.value) for each in csr.extensions}
    further = {oid: what for oid, what in wanted.items() if oid not in _JUDGED}
    if further != {each.oid: (each.critical, each.value) for each in template.extensions}:
        raise CsrRefused("the certification authority copies all extensions of the CSR: ask for the approved ones only")
    # An extension in the CSR wins over the parameters.
    if (usage := wanted.get(ExtensionOID.KEY_USAGE)) and _names(usage[1]) != template.key_usage:
        raise CsrRefused("the certification authority copies the CSR's key usage: leave it out")
    if ExtensionOID.EXTENDED_KEY_USAGE in wanted:
        oids = {each.dotted_string for each in wanted[ExtensionOID.EXTENDED_KEY_USAGE][1]}  # type: ignore[attr-defined]
        if oids != set(template.ext_key_usage):
            raise CsrRefused("the certification authority copies the CSR's extended key usage: leave it out")
    return {
        "key_usage": sorted(_KEY_USAGES[name] for name in template.key_usage),
        "ext_key_usage": [],
        "ext_key_usage_oids": list(template.ext_key_usage),
    }


def _by_role(approved: Approved) -> dict[str, Any]:
    names = approved.template.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    in_csr = approved.enrolment.csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(approved.template.subject.rdns) != len(names) or len(names) > 1 or names != in_csr:
        raise CsrRefused("the certification authority takes the common name from the CSR, and nothing else")
    san = approved.template.san
    return {
        "common_name": names[0].value if names else "",
        "exclude_cn_from_sans": True,
        "alt_names": ",".join(each.value for each in san if isinstance(each, x509.DNSName | x509.RFC822Name)),
        "ip_sans": ",".join(str(each.value) for each in san if isinstance(each, x509.IPAddress)),
        "uri_sans": ",".join(each.value for each in san if isinstance(each, x509.UniformResourceIdentifier)),
    }


def _names(usage: x509.ExtensionType) -> frozenset[str]:
    bits = {
        "digitalSignature": "digital_signature",
        "contentCommitment": "content_commitment",
        "keyEncipherment": "key_encipherment",
        "dataEncipherment": "data_encipherment",
        "keyAgreement": "key_agreement",
        "keyCertSign": "key_cert_sign",
        "cRLSign": "crl_sign",
    }
    return frozenset(name for name, attribute in bits.items() if getattr(usage, attribute))
