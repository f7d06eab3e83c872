from contextlib import suppress

from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from kipuka_core.errors import RequestRefused
from kipuka_core.testing.pki import make_csr, make_key, name
from kipuka_core.wire import der
from kipuka_core.wire.csr import decode_csr, verify_possession
from tests.wire.forge import (
    CHALLENGE_PASSWORD,
    CHANGE_SUBJECT_NAME,
    EXTENSION_REQUEST,
    SAN,
    change_subject_name,
    extension,
    forge,
    name_der,
    san_value,
)

SEEDS = [
    make_csr(make_key(key_type), san=["dns:a.example"], challenge_password=b"abc=")
    for key_type in ("ecdsa256", "ed25519", "rsa2048")
]
SEEDS.append(
    forge(change_subject_name(name("new"), "dns:new.example"), extensions=[extension(SAN, san_value("dns:a.example"))])
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)


KNOWN_OIDS = [
    f"2.5.29.{arc}" for arc in (9, 14, 15, 16, 17, 18, 19, 20, 21, 24, 27, 28, 29, 30, 31, 32, 35, 36, 37, 46, 54)
]
KNOWN_OIDS += ["1.3.6.1.5.5.7.1.1", "1.3.6.1.5.5.7.1.24", "1.3.6.1.4.1.11129.2.4.2", "1.3.6.1.4.1.311.21.7", "1.2.3"]
SMALL_DER = st.recursive(
    st.tuples(st.integers(0, 255), st.binary(max_size=6)).map(lambda t: bytes([t[0], len(t[1])]) + t[1]),
    lambda inner: st.tuples(st.sampled_from([0x30, 0x31, 0xA0, 0xA4]), st.lists(inner, max_size=3)).map(
        lambda t: bytes([t[0]]) + (len(b"".join(t[1])) & 0x7F).to_bytes(1, "big") + b"".join(t[1])
    ),
    max_leaves=5,
)
FORGED_EXTENSIONS = st.lists(st.builds(extension, st.sampled_from(KNOWN_OIDS), SMALL_DER), max_size=3)


def decode_and_verify(csr_der: bytes) -> None:
    with suppress(RequestRefused):
        verify_possession(decode_csr(csr_der))


@settings(max_examples=300, deadline=None)
@given(st.one_of(mutated(), st.binary(max_size=100)))
def test_mutated_truncated_and_random_bytes_raise_nothing_but_refusals(csr_der: bytes) -> None:
    decode_and_verify(csr_der)


@settings(max_examples=200, deadline=None)
@given(FORGED_EXTENSIONS)
def test_forged_extensions_raise_nothing_but_refusals(extensions: list[der.Extension]) -> None:
    decode_and_verify(forge(extensions=extensions))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([CHANGE_SUBJECT_NAME, CHALLENGE_PASSWORD, EXTENSION_REQUEST]), SMALL_DER)
def test_forged_attributes_raise_nothing_but_refusals(oid: str, value: bytes) -> None:
    try:
        der.tlv(value)
    except ValueError:
        return
    decode_and_verify(forge((oid, [value])))


STRING_TAGS = st.sampled_from([bytes([tag]) for tag in (0x03, 0x0C, 0x12, 0x13, 0x14, 0x16, 0x1A, 0x1C, 0x1E)])
NAME_OIDS = st.sampled_from(["2.5.4.3", "2.5.4.6", "2.5.4.45", "1.2.840.113549.1.9.1", "1.2.3"]).map(
    x509.ObjectIdentifier
)
NAMES = st.lists(st.tuples(NAME_OIDS, STRING_TAGS, st.binary(max_size=9)), max_size=3).map(lambda n: name_der(*n))


@settings(max_examples=200, deadline=None)
@given(NAMES, NAMES)
def test_forged_names_raise_nothing_but_refusals(subject_der: bytes, directory_name_der: bytes) -> None:
    general_name_der = b"\xa4" + bytes([len(directory_name_der)]) + directory_name_der
    san = extension(SAN, b"\x30" + bytes([len(general_name_der)]) + general_name_der)
    decode_and_verify(forge(subject_der=subject_der))
    decode_and_verify(forge(extensions=[san]))
    change = b"\x30" + bytes([len(subject_der)]) + subject_der
    decode_and_verify(forge((CHANGE_SUBJECT_NAME, [change])))
