"""Policy ``keys``."""

import sys
from dataclasses import replace
from typing import Any

import gmpy2  # type: ignore[import-untyped]  # ships no types
import pytest
from badkeys.rsakeys import sharedprimes
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import CertificateSigningRequestBuilder, ObjectIdentifier

from kipuka_builtin.keys import PROVIDER, KeysPolicy
from kipuka_core import Allow, AttributeHint, Csr, Deny, DenyKind, KeyType, Verdict
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.policy import PolicyContract
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_label, sample_template

PRIME = gmpy2.next_prime(2**1023 + 2**1022)
FAR_PRIME = gmpy2.next_prime(2**1024 - 2**1000)
_RSA_CSR = sample_csr(pki.make_csr(pki.make_key("rsa2048")))


class TestKeysPolicyKeepsTheContract(PolicyContract):
    provider = PROVIDER


async def judge(csr: Csr, **rules: Any) -> Verdict:
    label = sample_label(**rules)
    return await KeysPolicy().decide(sample_template(csr), sample_enrolment(csr, label=label))


def reason_of(verdict: Verdict) -> str:
    assert isinstance(verdict, Deny), verdict
    return verdict.reason


def rsa_csr(modulus: int, exponent: int = 65537) -> Csr:
    key = rsa.RSAPublicNumbers(int(exponent), int(modulus)).public_key()
    return replace(_RSA_CSR, public_key=key, spki_der=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize("key_type", [each for each in KeyType if each not in {"rsa3072", "rsa4096"}])
async def test_a_key_type_is_accepted_where_it_is_listed_and_refused_with_the_list_where_not(key_type: str) -> None:
    csr = sample_csr(pki.make_csr(pki.make_key(key_type)))
    assert await judge(csr, allowed_key_types=(KeyType(key_type),)) == Allow()
    verdict = await judge(csr, allowed_key_types=(KeyType.RSA3072, KeyType.RSA4096))
    assert isinstance(verdict, Deny)
    assert verdict.kind is DenyKind.CSR
    assert verdict.reason.endswith("make a new key of one of these types: rsa3072, rsa4096")


async def test_rsa2048_means_exactly_2048_bits() -> None:
    verdict = await judge(sample_csr(pki.make_csr(rsa.generate_private_key(65537, 2056))))
    assert "RSA with 2056 bits, which is not accepted here" in reason_of(verdict)


async def test_a_curve_without_a_name_here_is_refused() -> None:
    verdict = await judge(sample_csr(pki.make_csr(ec.generate_private_key(ec.SECP256K1()))))
    assert "EC on secp256k1, which is not accepted here" in reason_of(verdict)


async def test_the_key_of_the_template_is_what_is_judged() -> None:
    csr = sample_csr(pki.make_csr())
    other = sample_csr(pki.make_csr(pki.make_key("ed25519")))
    verdict = await KeysPolicy().decide(sample_template(csr, spki_der=other.spki_der), sample_enrolment(csr))
    assert "Ed25519" in reason_of(verdict)


async def test_the_hash_of_the_signature_is_held_against_the_list() -> None:
    csr = sample_csr(pki.make_csr(hash_algorithm=hashes.SHA384()))
    assert await judge(csr, allowed_signature_algorithms=("sha384",)) == Allow()
    verdict = await judge(csr, allowed_signature_algorithms=("sha256", "sha512"))
    assert verdict == Deny(
        DenyKind.CSR,
        "the CSR is signed with sha384, which is not accepted here; sign it with one of these: sha256, sha512",
    )


async def test_rsa_pss_is_judged_by_its_hash() -> None:
    key = pki.make_key("rsa2048")
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    request = CertificateSigningRequestBuilder().subject_name(pki.name("device"))
    csr = sample_csr(request.sign(key, hashes.SHA256(), rsa_padding=pss).public_bytes(Encoding.DER))
    assert await judge(csr) == Allow()
    assert "sha256" in reason_of(await judge(csr, allowed_signature_algorithms=("sha512",)))


async def test_a_signature_without_a_hash_is_only_for_keys_that_have_none() -> None:
    csr = sample_csr(pki.make_csr(), signature_hash=None)
    assert "an unknown hash" in reason_of(await judge(csr))


@pytest.mark.parametrize("exponent", [3, 17, 65535, 2**256 + 1])
async def test_an_rsa_exponent_out_of_bounds_is_refused(exponent: int) -> None:
    verdict = await judge(rsa_csr(PRIME * FAR_PRIME, exponent))
    assert "its public exponent is not between 65537 and 2^256" in reason_of(verdict)


async def test_close_primes_are_found() -> None:
    modulus = PRIME * gmpy2.next_prime(PRIME + 2**500)
    assert "too close" in reason_of(await judge(rsa_csr(modulus)))


async def test_a_small_factor_is_found() -> None:
    modulus = 65521 * gmpy2.next_prime(2**2047 // 65521 + 1)
    assert "small factor" in reason_of(await judge(rsa_csr(modulus)))


async def test_a_key_of_the_roca_kind_is_found() -> None:
    primorial = 0x924CBA6AE99DFA084537FACC54948DF0C23DA044D8CABE0EDD75BC6
    base = pow(65537, 1234567, primorial)
    multiple = (2**2047 // primorial) + 1
    modulus = next(
        candidate
        for candidate in (base + (multiple + step) * primorial for step in range(1000))
        if candidate % 2 and gmpy2.gcd(candidate, gmpy2.primorial(65537)) == 1
    )
    assert "ROCA" in reason_of(await judge(rsa_csr(modulus)))


async def test_a_prime_that_another_key_has_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sharedprimes(int(PRIME * FAR_PRIME) * 2 + 1) is False  # loads the list that is replaced here
    monkeypatch.setitem(sys.modules["badkeys.rsakeys.sharedprimes"]._moduli, 2048, gmpy2.mpz(FAR_PRIME))
    assert "shares a prime" in reason_of(await judge(rsa_csr(PRIME * FAR_PRIME)))


async def test_a_modulus_with_a_factorable_pattern_is_found() -> None:
    chunk = 0xA5A5_0F0F_3C3C_9999_0000_0000_0000_0000 | 0x8421
    patterned = sum((chunk ^ place << 80) << (128 * place) for place in range(16)) | 1
    moduli = (patterned + 2 * step for step in range(400))
    modulus = next(each for each in moduli if gmpy2.gcd(each, gmpy2.primorial(65537)) == 1)
    assert modulus.bit_length() == 2048
    assert "pattern" in reason_of(await judge(rsa_csr(modulus)))


async def test_an_ordinary_rsa_key_is_not_weak() -> None:
    assert await judge(_RSA_CSR) == Allow()


async def test_key_algorithms_are_advertised_as_attributes_with_their_parameters() -> None:
    rules: dict[str, Any] = {
        "allowed_key_types": (KeyType.ECDSA256, KeyType.RSA2048, KeyType.ECDSA384, KeyType.RSA4096, KeyType.ED25519)
    }
    advice = await KeysPolicy().advertise(sample_label(**rules))
    curves = tuple(asn1.encode_der(ObjectIdentifier(oid)) for oid in ("1.2.840.10045.3.1.7", "1.3.132.0.34"))
    assert advice.attributes == (
        AttributeHint("1.2.840.10045.2.1", curves),
        AttributeHint("1.2.840.113549.1.1.1", (bytes.fromhex("02020800"), bytes.fromhex("02021000"))),
    )
    assert advice.oids == ("1.3.101.112",)


async def test_the_example_of_rfc_7030_4_5_2_is_what_a_p384_label_advertises() -> None:
    rules: dict[str, Any] = {"allowed_key_types": (KeyType.ECDSA384,), "allowed_signature_algorithms": ("sha384",)}
    advice = await KeysPolicy().advertise(sample_label(**rules))
    assert advice.attributes == (AttributeHint("1.2.840.10045.2.1", (bytes.fromhex("06052b81040022"),)),)
    assert advice.oids == ("1.2.840.10045.4.3.3",)
