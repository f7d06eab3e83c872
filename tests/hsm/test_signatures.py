"""Every kind of signature by a token's key, hashed outside the token and inside, verified by the public key alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

from kipuka_core import Signer
from kipuka_core.testing.pki import make_key, name
from kipuka_core.testing.services import make_services
from kipuka_hsm.store import PROVIDER
from tests.hsm.softhsm import SoftHsm

_DATA = b"to be signed" * 50
_SHA256, _SHA384, _SHA512 = hashes.SHA256(), hashes.SHA384(), hashes.SHA512()
_V15 = padding.PKCS1v15()


def pss(algorithm: hashes.HashAlgorithm, salt: Any = padding.PSS.DIGEST_LENGTH) -> padding.PSS:
    return padding.PSS(padding.MGF1(algorithm), salt)


@asynccontextmanager
async def opened(hsm: SoftHsm, key_type: str) -> AsyncIterator[Signer]:
    hsm.import_key("issuing", make_key(key_type))
    settings = PROVIDER.settings(pin_file=hsm.pin_file, sessions=1)
    async with PROVIDER.open(settings, make_services(hsm.directory)) as store:
        yield await store.signer("pkcs11:token=kipuka;object=issuing")


def limited(signer: Signer, mechanisms: Collection[str] | None) -> Any:
    """The key as it would be in a token that has only these mechanisms."""
    key: Any = signer.private_key
    if mechanisms is not None:
        assert mechanisms <= key._mechanisms, "SoftHSM has to have them, or this tests nothing"  # its own
        key = type(key)(key.public_key(), key._sign, mechanisms)  # the same token behind it
    return key


@pytest.mark.parametrize(
    ("key_type", "mechanisms", "arguments"),
    [
        ("rsa2048", None, (_V15, _SHA256)),
        ("rsa3072", None, (_V15, _SHA384)),
        ("rsa2048", {"SHA256_RSA_PKCS"}, (_V15, _SHA256)),
        ("rsa2048", {"SHA512_RSA_PKCS"}, (_V15, _SHA512)),
        ("rsa2048", None, (pss(_SHA256), _SHA256)),
        ("rsa3072", None, (pss(_SHA512, 20), _SHA512)),
        ("rsa2048", None, (pss(_SHA256, padding.PSS.MAX_LENGTH), _SHA256)),
        ("rsa2048", {"SHA256_RSA_PKCS_PSS"}, (pss(_SHA256), _SHA256)),
        ("rsa2048", {"SHA384_RSA_PKCS_PSS"}, (pss(_SHA384), _SHA384)),
        ("ecdsa256", None, (ec.ECDSA(_SHA256),)),
        ("ecdsa384", None, (ec.ECDSA(_SHA384),)),
        ("ecdsa521", None, (ec.ECDSA(_SHA512),)),
        ("ed25519", None, ()),
    ],
)
async def test_a_signature_verifies(
    hsm: SoftHsm, key_type: str, mechanisms: Collection[str] | None, arguments: tuple[Any, ...]
) -> None:
    async with opened(hsm, key_type) as signer:
        key = limited(signer, mechanisms)
        signature = key.sign(_DATA, *arguments)
    key.public_key().verify(signature, _DATA, *arguments)


@pytest.mark.parametrize("is_pss", [False, True])
async def test_a_hash_is_signed_as_well_as_its_data(hsm: SoftHsm, is_pss: bool) -> None:
    chosen: Any = pss(_SHA256) if is_pss else _V15
    digest = hashes.Hash(_SHA256)
    digest.update(_DATA)
    async with opened(hsm, "rsa2048") as signer:
        key: Any = signer.private_key
        signature = key.sign(digest.finalize(), chosen, utils.Prehashed(_SHA256))
        key.public_key().verify(signature, _DATA, chosen, _SHA256)
        inside = limited(signer, {"SHA256_RSA_PKCS", "SHA256_RSA_PKCS_PSS"})
        with pytest.raises(UnsupportedAlgorithm, match="hashes by itself"):
            inside.sign(bytes(32), chosen, utils.Prehashed(_SHA256))


async def test_a_certificate_signed_with_pss_verifies(hsm: SoftHsm) -> None:
    async with opened(hsm, "rsa2048") as signer:
        key = signer.private_key
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name("PSS")).issuer_name(name("PSS"))
        builder = builder.public_key(key.public_key()).serial_number(7)
        builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
        certificate = builder.sign(key, _SHA256, rsa_padding=pss(_SHA256))
    assert certificate.signature_algorithm_oid.dotted_string == "1.2.840.113549.1.1.10"
    certificate.verify_directly_issued_by(certificate)


@pytest.mark.parametrize(
    ("mechanisms", "arguments", "words"),
    [
        ({"SHA256_RSA_PKCS"}, (pss(_SHA256), _SHA256), "none of the mechanisms RSA_PKCS_PSS, SHA256_RSA_PKCS_PSS"),
        ({"RSA_PKCS_PSS"}, (_V15, _SHA256), "none of the mechanisms RSA_PKCS, SHA256_RSA_PKCS"),
        ({"RSA_PKCS"}, (_V15, hashes.SHA1()), "SHA-256, SHA-384 and SHA-512 only"),  # that it is refused
        ({"RSA_PKCS"}, (padding.OAEP(padding.MGF1(_SHA256), _SHA256, None), _SHA256), "only PKCS#1 v1.5 and PSS"),
    ],
)
async def test_what_the_token_cannot_is_refused_before_it_is_asked(
    hsm: SoftHsm, mechanisms: Collection[str], arguments: tuple[Any, ...], words: str
) -> None:
    async with opened(hsm, "rsa2048") as signer:
        key = limited(signer, mechanisms)
        with pytest.raises(UnsupportedAlgorithm, match=words):
            key.sign(_DATA, *arguments)
