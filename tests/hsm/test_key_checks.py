"""Which keys a CA may use, and what they refuse to sign."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kipuka_core import ConfigurationError
from kipuka_core.testing.pki import make_key
from kipuka_core.testing.services import make_services
from kipuka_hsm.keys import SIGNING_MECHANISMS, public_key_of, token_key
from kipuka_hsm.messages import MAX_DATA_BYTES, TokenSignature, decode, encode
from kipuka_hsm.store import PROVIDER
from tests.hsm.softhsm import LIBRARY, PIN, SoftHsm

_MAKE_KEYS = """
    import pkcs11
    from pkcs11 import Attribute, KeyType
    from pkcs11.util.ec import encode_named_curve_parameters

    unlike = {{
        "as it should be": {{}},
        "signs nothing": {{Attribute.SIGN: False, Attribute.DERIVE: True}},
        "not private": {{Attribute.PRIVATE: False}},
        "not sensitive": {{Attribute.SENSITIVE: False}},
        "extractable": {{Attribute.EXTRACTABLE: True}},
        "always authenticate": {{Attribute.ALWAYS_AUTHENTICATE: True}},
    }}
    curve = {{Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}}
    with pkcs11.lib({library!r}).get_token(token_label="kipuka").open(rw=True, user_pin={pin!r}) as session:
        for number, (label, template) in enumerate(unlike.items(), 1):
            domain = session.create_domain_parameters(KeyType.EC, curve, local=True)
            domain.generate_keypair(label=label, id=bytes([number]), store=True, private_template=template)
    """


@pytest.fixture
def unlike_keys(hsm: SoftHsm) -> SoftHsm:
    """A token with a key for each check; made by a process of its own, for a module is loaded once a process."""
    source = textwrap.dedent(_MAKE_KEYS).format(library=str(LIBRARY), pin=PIN)
    subprocess.run([sys.executable, "-c", source], check=True, env={**os.environ, **hsm.environment})
    return hsm


async def test_keys_that_their_token_does_not_protect_are_refused(unlike_keys: SoftHsm) -> None:
    warnings: list[str] = []
    answers: dict[str, str] = {}
    services = make_services(unlike_keys.directory, warn=warnings.append)
    async with PROVIDER.open(PROVIDER.settings(pin_file=unlike_keys.pin_file, sessions=1), services) as store:

        async def open_key(label: str) -> None:
            try:
                signer = await store.signer(f"pkcs11:token=kipuka;object={label}")
            except ConfigurationError as error:
                answers[label] = error.problem
            else:
                answers[label] = f"hsm_backed={signer.hsm_backed}"

        for label in ("as it should be", "signs nothing", "not private", "not sensitive", "always authenticate"):
            await open_key(label)
        assert not warnings
        await open_key("extractable")
    unprotected = "is not protected by its token: CKA_PRIVATE and CKA_SENSITIVE have to be true; make a new key"
    assert answers == {
        "as it should be": "hsm_backed=True",
        "signs nothing": "may not sign (CKA_SIGN is false)",
        "not private": unprotected,
        "not sensitive": unprotected,
        "always authenticate": "wants the PIN at every signature (CKA_ALWAYS_AUTHENTICATE): no server has it",
        "extractable": "hsm_backed=True",
    }
    assert warnings == [
        "pkcs11:token=kipuka;object=extractable: the key can be taken out of its token (CKA_EXTRACTABLE is true)"
    ]


async def test_a_key_whose_label_is_not_utf_8_disturbs_no_other_and_is_named_by_its_id(hsm: SoftHsm) -> None:
    hsm.import_key("issuing", make_key())
    hsm.import_key("second", make_key(), "02")
    hsm.run("softhsm2-util", "--import", str(hsm.directory / "second.pem"), "--token", "kipuka", "--pin", PIN,
            "--label", os.fsdecode(b"caf\xe9"), "--id", "77")  # fmt: skip
    settings = PROVIDER.settings(pin_file=hsm.pin_file, sessions=1)
    async with PROVIDER.open(settings, make_services(hsm.directory)) as store:
        for uri in ("pkcs11:token=kipuka;object=issuing", "pkcs11:token=kipuka;id=%77"):
            key: Any = (await store.signer(uri)).private_key
            await asyncio.to_thread(key.sign, b"data", ec.ECDSA(hashes.SHA256()))
        with pytest.raises(ConfigurationError, match=r"no private key matches object=none; .*id=%77 \(EC\)"):
            await store.signer("pkcs11:token=kipuka;object=none")
        await store.ping()


@pytest.mark.parametrize("key_type", ["ecdsa256", "ecdsa384", "ecdsa521", "ed25519"])
@pytest.mark.parametrize("is_wrapped", [True, False], ids=["in DER", "bare"])
def test_a_point_is_read_with_its_octet_string_and_without(key_type: str, is_wrapped: bool) -> None:
    public_key: Any = make_key(key_type).public_key()
    assert public_key_of(_facts(public_key, is_wrapped=is_wrapped), "key") == public_key


def test_a_bare_point_that_begins_like_der_is_a_point() -> None:
    """The x coordinate of a bare P-256 point may begin with the length of what follows it."""
    found = None
    while found is None:
        public_key: Any = make_key("ecdsa256").public_key()
        point = public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        found = public_key if point[1] == len(point) - 2 else None
    assert public_key_of(_facts(found, is_wrapped=False), "key") == found


def test_a_point_of_another_size_is_no_key() -> None:
    facts = _facts(make_key("ecdsa256").public_key(), is_wrapped=False) | {"ec_point": encoded(bytes(64))}
    with pytest.raises(ConfigurationError, match="public half that cannot be read"):
        public_key_of(facts, "key")


def _facts(public_key: Any, *, is_wrapped: bool) -> dict[str, Any]:
    """As a token says it."""
    parameters = {256: "06082a8648ce3d030107", 384: "06052b81040022", 521: "06052b81040023"}
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        kind, point = "EC", public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        curve = bytes.fromhex(parameters[public_key.curve.key_size])
    else:
        kind, point, curve = "EC_EDWARDS", public_key.public_bytes_raw(), b"\x13\x0cedwards25519"
    if is_wrapped:
        length = bytes([len(point)]) if len(point) < 0x80 else bytes([0x81, len(point)])
        point = b"\x04" + length + point
    return {"type": kind, "ec_point": encoded(point), "ec_parameters": encoded(curve)}


def encoded(value: bytes) -> str:
    return str(decode(encode({"value": value}))["value"])


def unasked(_wanted: TokenSignature) -> bytes:
    raise AssertionError("the token was asked")


@pytest.mark.parametrize(
    ("key_type", "arguments", "data", "words"),
    [
        ("rsa2048", (padding.PSS(padding.MGF1(hashes.SHA384()), 32), hashes.SHA256()), b"x", "mask generation"),
        ("rsa2048", (padding.PKCS1v15(), utils.Prehashed(hashes.SHA256())), bytes(31), "31 bytes are no hash"),
        ("ecdsa256", (ec.ECDSA(utils.Prehashed(hashes.SHA384())),), bytes(32), "32 bytes are no hash of sha384, of 48"),
        ("ed25519", (), bytes(MAX_DATA_BYTES + 1), "too many"),
    ],
)
def test_what_would_be_another_signature_than_the_wanted_one_is_refused(
    key_type: str, arguments: tuple[Any, ...], data: bytes, words: str
) -> None:
    key: Any = token_key(make_key(key_type).public_key(), unasked, SIGNING_MECHANISMS, "key")
    with pytest.raises(UnsupportedAlgorithm, match=words):
        key.sign(data, *arguments)


@pytest.mark.parametrize("mechanism", ["SHA256_RSA_PKCS", "SHA256_RSA_PKCS_PSS"])
def test_what_a_token_hashes_by_itself_may_not_be_too_long(mechanism: str) -> None:
    key: Any = token_key(make_key("rsa2048").public_key(), unasked, {mechanism}, "key")
    chosen = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if mechanism.endswith("PSS") else padding.PKCS1v15()
    with pytest.raises(UnsupportedAlgorithm, match="where the token hashes by itself"):
        key.sign(bytes(MAX_DATA_BYTES + 1), chosen, hashes.SHA256())


async def test_a_long_message_is_signed_as_a_whole(hsm: SoftHsm) -> None:
    """A certificate revocation list is long."""
    hsm.import_key("issuing", make_key("ed25519"))
    hsm.import_key("second", make_key("rsa2048"), "02")
    settings = PROVIDER.settings(pin_file=hsm.pin_file, sessions=1)
    async with PROVIDER.open(settings, make_services(hsm.directory)) as store:
        for label, size, arguments in (
            ("issuing", MAX_DATA_BYTES, ()),
            ("second", 3 * MAX_DATA_BYTES, (padding.PKCS1v15(), hashes.SHA256())),
        ):
            key: Any = (await store.signer(f"pkcs11:token=kipuka;object={label}")).private_key
            signature = await asyncio.to_thread(key.sign, bytes(size), *arguments)
            key.public_key().verify(signature, bytes(size), *arguments)
