"""Policy ``keys``: which key a certificate may hold, and which hash the CSR may be signed with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from badkeys.rsakeys import fermat, roca, rsapoly, sharedprimes, smallfactors
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from kipuka_core import (
    Allow,
    AttributeHint,
    CsrAttributes,
    Deny,
    DenyKind,
    Enrolment,
    KeyType,
    Label,
    Policy,
    Provider,
    Services,
    Settings,
    Template,
    Verdict,
)
from kipuka_core.model.key_type import describe_key, key_type_of
from kipuka_core.model.label import EnrollmentRules

_WEAKNESSES: tuple[tuple[Callable[..., object], str], ...] = (
    (smallfactors, "its modulus has a small factor"),
    (fermat, "its two primes are too close to one another"),
    (roca, "it was made by a faulty library (ROCA, CVE-2017-15361)"),
    (sharedprimes, "it shares a prime with a known key"),
    (rsapoly, "its modulus has a pattern that allows to factor it"),
)
"""The checks of badkeys that need no download; False means not found. All of them together take 0.2 to 0.7 ms (the
longest is RSA-2048, against its list of known primes), less than the way to a worker thread and back is worth."""
_SMALLEST_EXPONENT = 65537
_LARGEST_EXPONENT = 2**256 - 1
"""Bounds of FIPS 186-5 A.1.1. An exponent below the upper one also rules out a small private one (Wiener)."""

_EC_PUBLIC_KEY = "1.2.840.10045.2.1"
_RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
_CURVES = {
    KeyType.ECDSA256: "1.2.840.10045.3.1.7",
    KeyType.ECDSA384: "1.3.132.0.34",
    KeyType.ECDSA521: "1.3.132.0.35",
}
_RSA_BITS = {KeyType.RSA2048: 2048, KeyType.RSA3072: 3072, KeyType.RSA4096: 4096}
_WITHOUT_PARAMETERS = {
    KeyType.ED25519: "1.3.101.112",
    KeyType.ED448: "1.3.101.113",
    KeyType.ML_DSA_44: "2.16.840.1.101.3.4.3.17",
    KeyType.ML_DSA_65: "2.16.840.1.101.3.4.3.18",
    KeyType.ML_DSA_87: "2.16.840.1.101.3.4.3.19",
}
_SIGNATURES = {
    ("rsa", "sha256"): "1.2.840.113549.1.1.11",
    ("rsa", "sha384"): "1.2.840.113549.1.1.12",
    ("rsa", "sha512"): "1.2.840.113549.1.1.13",
    ("ec", "sha256"): "1.2.840.10045.4.3.2",
    ("ec", "sha384"): "1.2.840.10045.4.3.3",
    ("ec", "sha512"): "1.2.840.10045.4.3.4",
}
_HAS_A_HASH = frozenset({"rsa", "ec"})


class KeysSettings(Settings):
    """``[policy.keys]`` has no settings of its own: ``[enrollment]`` and the label say what is allowed."""


class KeysPolicy(Policy):
    """Holds the key and the CSR's signature against the label, and refuses RSA keys that are known to be weak."""

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        """Judge the key that the certificate would hold."""
        public_key: PublicKeyTypes = enrolment.csr.public_key
        if template.spki_der != enrolment.csr.spki_der:
            public_key = serialization.load_der_public_key(template.spki_der)
        rules = enrolment.label.rules
        problem = _key_problem(public_key, rules) or _signature_problem(public_key, enrolment.csr.signature_hash, rules)
        return Deny(DenyKind.CSR, problem) if problem else Allow()

    async def advertise(self, label: Label) -> CsrAttributes:
        """Key algorithms with their parameters, and the signature algorithm where only one hash will do.

        RFC 7030 4.5.2: an algorithm is an attribute whose values are parameters (curves, RSA sizes), and a bare OID
        where it has none; a signature scheme is an OID.
        """
        allowed = label.rules.allowed_key_types
        hints = (
            AttributeHint(_EC_PUBLIC_KEY, tuple(_oid_der(_CURVES[each]) for each in allowed if each in _CURVES)),
            AttributeHint(
                _RSA_ENCRYPTION, tuple(asn1.encode_der(_RSA_BITS[each]) for each in allowed if each in _RSA_BITS)
            ),
        )
        return CsrAttributes(
            oids=(
                *(_WITHOUT_PARAMETERS[each] for each in allowed if each in _WITHOUT_PARAMETERS),
                *_signature_oids(label.rules),
            ),
            attributes=tuple(hint for hint in hints if hint.values_der),
        )


def _key_problem(public_key: PublicKeyTypes, rules: EnrollmentRules) -> str | None:
    if key_type_of(public_key) not in rules.allowed_key_types:
        return (
            f"the CSR's key is {describe_key(public_key)}, which is not accepted here; "
            f"make a new key of one of these types: {', '.join(rules.allowed_key_types)}"
        )
    weakness = _weakness(public_key) if isinstance(public_key, rsa.RSAPublicKey) else None
    return f"the CSR's RSA key is weak: {weakness}; make a new key with another generator" if weakness else None


def _weakness(public_key: rsa.RSAPublicKey) -> str | None:
    numbers = public_key.public_numbers()
    if not _SMALLEST_EXPONENT <= numbers.e <= _LARGEST_EXPONENT:
        return f"its public exponent is not between {_SMALLEST_EXPONENT} and 2^256 (FIPS 186-5 A.1.1)"
    return next((what for check, what in _WEAKNESSES if check(numbers.n) is not False), None)


def _signature_problem(public_key: PublicKeyTypes, signature_hash: str | None, rules: EnrollmentRules) -> str | None:
    key_type = key_type_of(public_key)
    if signature_hash is None and key_type is not None and key_type.family not in _HAS_A_HASH:
        return None
    if signature_hash in rules.allowed_signature_algorithms:
        return None
    return (
        f"the CSR is signed with {signature_hash or 'an unknown hash'}, which is not accepted here; "
        f"sign it with one of these: {', '.join(rules.allowed_signature_algorithms)}"
    )


def _signature_oids(rules: EnrollmentRules) -> Iterable[str]:
    if len(rules.allowed_signature_algorithms) != 1:
        return ()
    (only_hash,) = rules.allowed_signature_algorithms
    families = dict.fromkeys(each.family for each in rules.allowed_key_types)
    return tuple(_SIGNATURES[family, only_hash] for family in families if (family, only_hash) in _SIGNATURES)


def _oid_der(dotted: str) -> bytes:
    return asn1.encode_der(x509.ObjectIdentifier(dotted))


def _warm_up() -> None:
    """Let badkeys read its lists of primes now instead of during the first request."""
    for bits in _RSA_BITS.values():
        for check, _ in _WEAKNESSES:
            check(2**bits - 1)


@asynccontextmanager
async def _open(_settings: KeysSettings, services: Services) -> AsyncIterator[KeysPolicy]:
    await services.run_blocking(_warm_up)
    yield KeysPolicy()


PROVIDER: Provider[Policy] = Provider(name="keys", settings=KeysSettings, open=_open)
