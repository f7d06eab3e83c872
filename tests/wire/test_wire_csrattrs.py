import base64
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kipuka_core.errors import Malformed, RequestRefused
from kipuka_core.model.certificate import AttributeHint, CsrAttributes, WantedExtension
from kipuka_core.wire.csrattrs import decode, encode

# RFC 8951 section 4, the example in base64.
RFC_8951_EXAMPLE = base64.b64decode(
    "MEEGCSqGSIb3DQEJBzASBgcqhkjOPQIBMQcGBSuBBAAiMBYGCSqGSIb3DQEJDjEJBgcrBgEBAQEWBggqhkjOPQQDAw=="
)
CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
EC_PUBLIC_KEY = "1.2.840.10045.2.1"
ECDSA_WITH_SHA384 = "1.2.840.10045.4.3.3"
SECP256R1 = bytes.fromhex("06082a8648ce3d030107")
SECP384R1 = bytes.fromhex("06052b81040022")
MAC_ADDRESS = bytes.fromhex("06072b060101010116")
KEY_USAGE = WantedExtension("2.5.29.15", bytes.fromhex("03020780"), critical=True)
EXT_KEY_USAGE = WantedExtension("2.5.29.37", bytes.fromhex("300a06082b06010505070302"))


def test_the_example_of_rfc_8951_is_read() -> None:
    assert decode(RFC_8951_EXAMPLE) == CsrAttributes(
        oids=(CHALLENGE_PASSWORD, ECDSA_WITH_SHA384),
        attributes=(AttributeHint(EC_PUBLIC_KEY, (SECP384R1,)), AttributeHint(EXTENSION_REQUEST, (MAC_ADDRESS,))),
    )


def test_the_parts_of_the_rfc_8951_example_are_written_byte_for_byte() -> None:
    """All but its id-ExtensionReq, which holds a bare OID where an ``Extensions`` value belongs."""
    written = encode(
        CsrAttributes(
            oids=(CHALLENGE_PASSWORD, ECDSA_WITH_SHA384), attributes=(AttributeHint(EC_PUBLIC_KEY, (SECP384R1,)),)
        )
    )
    challenge_password, ec_public_key, ecdsa = RFC_8951_EXAMPLE[2:13], RFC_8951_EXAMPLE[13:33], RFC_8951_EXAMPLE[57:]
    content = challenge_password + ecdsa + ec_public_key
    assert written == b"\x30" + bytes([len(content)]) + content


def test_nothing_to_say_is_none() -> None:
    assert encode(CsrAttributes()) is None


def test_all_wanted_extensions_share_one_extension_request_with_one_value() -> None:
    der = encode(CsrAttributes(extensions=(KEY_USAGE, EXT_KEY_USAGE, KEY_USAGE)))
    assert der is not None
    key_usage = "300e 0603551d0f 0101ff 0404 03020780"
    ext_key_usage = "3013 0603551d25 040c 300a06082b06010505070302"
    expected = f"3036 3034 06092a864886f70d01090e 3127 3025 {key_usage} {ext_key_usage}"
    assert der == bytes.fromhex(expected.replace(" ", ""))


def test_hints_of_one_type_become_one_attribute_with_a_sorted_set_of_values() -> None:
    hints = (AttributeHint(EC_PUBLIC_KEY, (SECP256R1,)), AttributeHint(EC_PUBLIC_KEY, (SECP384R1, SECP256R1)))
    der = encode(CsrAttributes(attributes=hints))
    assert der is not None
    assert decode(der).attributes == (AttributeHint(EC_PUBLIC_KEY, (SECP384R1, SECP256R1)),)


def test_a_hint_without_values_is_a_bare_oid() -> None:
    assert encode(CsrAttributes(attributes=(AttributeHint("1.2.3"),))) == encode(CsrAttributes(oids=("1.2.3", "1.2.3")))


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        (CsrAttributes(attributes=(AttributeHint(EXTENSION_REQUEST, (MAC_ADDRESS,)),)), "as WantedExtension"),
        (CsrAttributes(extensions=(KEY_USAGE, WantedExtension("2.5.29.15", b"\x05\x00"))), "2.5.29.15 .* two values"),
        (CsrAttributes(attributes=(AttributeHint("1.2.3", (b"\x05\x00\x00",)),)), "ExtraData"),
        (CsrAttributes(oids=("not an oid",)), "InvalidValue"),
    ],
)
def test_what_no_client_could_read_is_not_written(attributes: CsrAttributes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        encode(attributes)


OIDS = st.builds("1.3.6.1.4.1.{}.{}".format, st.integers(0, 2**31), st.integers(0, 500))
VALUES = st.binary(max_size=200).map(lambda data: b"\x04\x81" + bytes([len(data)]) + data if len(data) > 127 else
                                     b"\x04" + bytes([len(data)]) + data)  # fmt: skip


@st.composite
def csr_attributes(draw: st.DrawFn) -> CsrAttributes:
    def hint(oid: str) -> AttributeHint:
        # A SET OF in DER is sorted by its encoded elements (X.690 11.6).
        return AttributeHint(oid, tuple(sorted(draw(st.lists(VALUES, min_size=1, max_size=3, unique=True)))))

    def wanted(oid: str) -> WantedExtension:
        return WantedExtension(oid, draw(st.binary(max_size=20)), draw(st.booleans()))

    unique_oids = st.lists(OIDS, max_size=4, unique=True)
    return CsrAttributes(
        oids=tuple(draw(unique_oids)),
        attributes=tuple(hint(oid) for oid in draw(unique_oids)),
        extensions=tuple(wanted(oid) for oid in draw(unique_oids)),
    )


@settings(deadline=None)
@given(csr_attributes())
def test_what_is_written_is_read_again(attributes: CsrAttributes) -> None:
    der = encode(attributes)
    assert (CsrAttributes() if der is None else decode(der)) == attributes


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=60), st.integers(0, 66).map(lambda n: RFC_8951_EXAMPLE[:n] + b"\x31\x00")))
def test_reading_raises_nothing_but_malformed(der: bytes) -> None:
    try:
        decode(der)
    except RequestRefused as refused:
        assert isinstance(refused, Malformed)  # noqa: PT017  # the other outcome, a value, is as good


def test_an_empty_sequence_says_nothing() -> None:
    assert decode(b"\x30\x00") == CsrAttributes()


def test_openssl_parses_what_is_written() -> None:
    der = encode(CsrAttributes(oids=(CHALLENGE_PASSWORD,), extensions=(KEY_USAGE,)))
    command = ["openssl", "asn1parse", "-inform", "DER"]
    printed = subprocess.run(command, input=der, capture_output=True, check=True).stdout.decode()
    objects = [line.rpartition(":")[2] for line in printed.splitlines() if "OBJECT" in line]
    assert objects == ["challengePassword", "Extension Request", "X509v3 Key Usage"]
