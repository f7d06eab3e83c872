"""Names that people write for object identifiers in ``kipuka.toml``, and the names of hashes."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509

EXT_KEY_USAGES: Mapping[str, str] = {
    "serverAuth": "1.3.6.1.5.5.7.3.1",
    "clientAuth": "1.3.6.1.5.5.7.3.2",
    "codeSigning": "1.3.6.1.5.5.7.3.3",
    "emailProtection": "1.3.6.1.5.5.7.3.4",
    "timeStamping": "1.3.6.1.5.5.7.3.8",
    "OCSPSigning": "1.3.6.1.5.5.7.3.9",
    "eapOverPPP": "1.3.6.1.5.5.7.3.13",
    "eapOverLAN": "1.3.6.1.5.5.7.3.14",
    "ipsecIKE": "1.3.6.1.5.5.7.3.17",
    "sshClient": "1.3.6.1.5.5.7.3.21",
    "sshServer": "1.3.6.1.5.5.7.3.22",
    "cmcRA": "1.3.6.1.5.5.7.3.28",
    "documentSigning": "1.3.6.1.5.5.7.3.36",
    "smartcardLogon": "1.3.6.1.4.1.311.20.2.2",
    "anyExtendedKeyUsage": "2.5.29.37.0",
}
"""RFC 5280 4.2.1.12, RFC 4334, RFC 4945, RFC 6402 2.10, RFC 9336 and the one that Windows log-on wants. Which of them
may be issued is the core's rule, not this table's."""

EXTENSIONS: Mapping[str, str] = {
    "subjectKeyIdentifier": "2.5.29.14",
    "keyUsage": "2.5.29.15",
    "subjectAltName": "2.5.29.17",
    "issuerAltName": "2.5.29.18",
    "basicConstraints": "2.5.29.19",
    "nameConstraints": "2.5.29.30",
    "certificatePolicies": "2.5.29.32",
    "extendedKeyUsage": "2.5.29.37",
    "tlsFeature": "1.3.6.1.5.5.7.1.24",
    "subjectInfoAccess": "1.3.6.1.5.5.7.1.11",
    "msCertificateTemplate": "1.3.6.1.4.1.311.21.7",
    "msCertificateTemplateName": "1.3.6.1.4.1.311.20.2",
    "msSecurityIdentifier": "1.3.6.1.4.1.311.25.2",
}
"""RFC 5280 4.2, RFC 7633, and what Windows clients put into their requests."""

SUBJECT_ATTRIBUTES: Mapping[str, str] = {
    "commonName": "2.5.4.3",
    "surname": "2.5.4.4",
    "serialNumber": "2.5.4.5",
    "countryName": "2.5.4.6",
    "localityName": "2.5.4.7",
    "stateOrProvinceName": "2.5.4.8",
    "streetAddress": "2.5.4.9",
    "organizationName": "2.5.4.10",
    "organizationalUnitName": "2.5.4.11",
    "title": "2.5.4.12",
    "postalCode": "2.5.4.17",
    "givenName": "2.5.4.42",
    "initials": "2.5.4.43",
    "generationQualifier": "2.5.4.44",
    "dnQualifier": "2.5.4.46",
    "pseudonym": "2.5.4.65",
    "organizationIdentifier": "2.5.4.97",
    "userId": "0.9.2342.19200300.100.1.1",
    "domainComponent": "0.9.2342.19200300.100.1.25",
    "emailAddress": "1.2.840.113549.1.9.1",
}
"""RFC 4519 and RFC 5280 4.1.2.4, in the long form."""

HASHES = ("sha256", "sha384", "sha512")


def dotted_oid(text: str) -> str:
    """Check a dotted object identifier. Raises ValueError."""
    try:
        return x509.ObjectIdentifier(text).dotted_string
    except ValueError:
        raise ValueError(f'"{text}" is not a dotted object identifier such as 1.3.6.1.5.5.7.3.2') from None


def named_oid(text: str, names: Mapping[str, str]) -> str:
    """The dotted form of a name (in any case) or of a dotted OID. Raises ValueError, with the known names."""
    for name, oid in names.items():
        if name.lower() == text.lower():
            return oid
    if text[:1].isdigit():
        return dotted_oid(text)
    raise ValueError(f'unknown name "{text}"; write a dotted object identifier or one of {", ".join(names)}')


def name_of(oid: str, names: Mapping[str, str]) -> str:
    """The name of a dotted OID, or the OID itself."""
    return next((name for name, known in names.items() if known == oid), oid)
