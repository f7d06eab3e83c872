import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.errors import CsrRefused, Malformed
from kipuka_core.testing.pki import make_csr, make_root, name
from kipuka_core.wire import csr_names
from kipuka_core.wire.csr import MAX_EXTENSIONS_BYTES, decode_csr
from kipuka_core.wire.name_limits import MAX_SAN_ENTRIES
from tests.wire.forge import (
    CHALLENGE_PASSWORD,
    CHANGE_SUBJECT_NAME,
    EXTENSION_REQUEST,
    EXTENSIONS,
    KEY,
    MICROSOFT_EXTENSION_REQUEST,
    SAN,
    SPKI_DER,
    UTF8,
    change_subject_name,
    extension,
    forge,
    name_der,
    rsa_spki,
    san_value,
)


def refusal(csr_der: bytes) -> str:
    with pytest.raises(CsrRefused) as refused:
        decode_csr(csr_der)
    return refused.value.reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x30\x00",
        make_csr(KEY) + b"\x00",
        make_root().certificate.public_bytes(Encoding.DER),
        SPKI_DER,
        make_csr(KEY).replace(b"\x02\x01\x00", b"\x02\x01\x03", 1),
    ],
    ids=["nothing", "empty", "trailing", "certificate", "key", "version"],
)
def test_what_is_not_pkcs10_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed, match="PKCS#10"):
        decode_csr(body)


@pytest.mark.parametrize(
    ("csr_der", "says"),
    [
        (forge(extensions=[extension("1.2.3.4", b""), extension("1.2.3.4", b"")]), "asks twice for .* 1.2.3.4"),
        (forge((EXTENSION_REQUEST, [EXTENSIONS]), (EXTENSION_REQUEST, [EXTENSIONS])), "2 extensionRequest attributes"),
        (
            forge((EXTENSION_REQUEST, [EXTENSIONS]), (MICROSOFT_EXTENSION_REQUEST, [EXTENSIONS])),
            "2 extensionRequest attributes",
        ),
        (forge((EXTENSION_REQUEST, [EXTENSIONS, b"\x30\x00"])), "exactly one value"),
        (forge((EXTENSION_REQUEST, [])), "exactly one value"),
        (forge((EXTENSION_REQUEST, [b"\x02\x01\x05"])), "cannot be parsed: the list itself"),
        (
            forge(extensions=[extension("2.5.29.15", b"x"), extension("1.2.3.4", b""), extension(SAN, b"x")]),
            "cannot be parsed: 2.5.29.15, 2.5.29.17",
        ),
        (forge(extensions=[extension(SAN, bytes.fromhex("3004a3020500"))]), "cannot be parsed: 2.5.29.17"),
        (forge((CHALLENGE_PASSWORD, [b"\x0c\x01a"]), (CHALLENGE_PASSWORD, [b"\x0c\x01b"])), "2 challengePassword"),
        (forge((CHALLENGE_PASSWORD, [b"\x0c\x01a", b"\x0c\x01b"])), "exactly one value"),
        (forge((CHALLENGE_PASSWORD, [b"\x02\x01\x01"])), "not a string"),
        (forge(spki_der=bytes.fromhex("300c300606042a0304050302 0041".replace(" ", ""))), "1.2.3.4.5"),
        (forge(spki_der=SPKI_DER[:-64] + bytes(64)), "1.2.840.10045.2.1.* is not a valid key"),
        (forge(spki_der=rsa_spki(1)), "1.2.840.113549.1.1.1.* is not a valid key"),
        (forge(spki_der=rsa_spki(65536)), "1.2.840.113549.1.1.1.* is not a valid key"),
        (forge(algorithm_der=bytes.fromhex("300606042a030405")), "signature algorithm 1.2.3.4.5"),
        (forge(subject_der=bytes.fromhex("300c310a300806035504030c01ff")), "name in the CSR cannot be parsed"),
        (forge(subject_der=name("x" * 64, OU="y").public_bytes().replace(b"x" * 64, b"x\n" * 32)), "control"),
    ],
)
def test_what_cannot_be_certified_is_refused_with_its_reason(csr_der: bytes, says: str) -> None:
    with pytest.raises(CsrRefused, match=says):
        decode_csr(csr_der)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ((x509.NameOID.COMMON_NAME, UTF8, b"x" * 65), "CN has 65 characters; at most 64"),
        ((x509.NameOID.COMMON_NAME, UTF8, b""), "CN is empty"),
        ((x509.NameOID.COMMON_NAME, UTF8, b"a\x00b"), "CN holds a control character"),
        ((x509.NameOID.COMMON_NAME, UTF8, b"\xff"), "cannot be parsed"),
        ((x509.NameOID.COUNTRY_NAME, b"\x13", b"NZL"), "C has 3 characters; at most 2"),
        ((x509.NameOID.COUNTRY_NAME, b"\x13", b"N"), "C has 1 character; it needs 2"),
        ((x509.NameOID.GIVEN_NAME, UTF8, b"x" * 256), "2.5.4.42 has 256 characters; at most 255"),
    ],
)
def test_subjects_are_held_to_the_bounds_of_rfc_5280(
    value: tuple[x509.ObjectIdentifier, bytes, bytes], says: str
) -> None:
    assert says in refusal(forge(subject_der=name_der(value)))


def test_an_endless_subject_is_refused() -> None:
    many = name_der(*[(x509.NameOID.GIVEN_NAME, UTF8, b"x" * 100)] * 50)
    assert "longer than 4096 bytes" in refusal(forge(subject_der=many))


def test_a_san_is_held_to_its_limits() -> None:
    decode_csr(forge(extensions=[extension(SAN, san_value(*["dns:a.example"] * MAX_SAN_ENTRIES))]))
    too_many = san_value(*["dns:a.example"] * (MAX_SAN_ENTRIES + 1))
    assert "101 SubjectAltName entries; at most 100" in refusal(forge(extensions=[extension(SAN, too_many)]))
    assert "at most 253" in refusal(forge(extensions=[extension(SAN, san_value("dns:" + "a" * 254))]))
    assert "control" in refusal(forge(extensions=[extension(SAN, san_value("dns:a\0.example"))]))
    assert "is empty" in refusal(forge(extensions=[extension(SAN, b"\x30\x00")]))
    directory = x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a\x07")]))
    bell = x509.SubjectAlternativeName([directory]).public_bytes()
    assert "control" in refusal(forge(extensions=[extension(SAN, bell)]))


def test_ten_thousand_names_are_refused_before_they_are_parsed() -> None:
    unparsable = b"\xff" * MAX_EXTENSIONS_BYTES
    huge = san_value(*["dns:a"] * 10_000)
    for value in (huge, unparsable):
        assert "at most 16384 bytes, and 100 SubjectAltName entries" in refusal(
            forge(extensions=[extension(SAN, value)])
        )


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("3000", "must hold a subject"),
        ("30040500 0500", "must hold a subject"),
        ("3011300d820b6e65772e6578616d706c653000", "in this order"),
        ("300430023005", "cannot be parsed"),
        ("30043002310a", "cannot be parsed"),
        ("30063004a3020500", "cannot be parsed"),
        ("0500", "cannot be parsed"),
        ("3005300382010a", "control"),
        ("3010300e310c300a06035504030c030a0a0a", "control"),
    ],
)
def test_another_change_subject_name_is_refused(value: str, says: str) -> None:
    assert says in refusal(forge((CHANGE_SUBJECT_NAME, [bytes.fromhex(value.replace(" ", ""))])))


def test_a_long_or_repeated_change_subject_name_is_refused() -> None:
    long = x509.Name([x509.NameAttribute(x509.NameOID.GIVEN_NAME, "x" * 200)] * 30)
    assert "longer than 4096" in refusal(forge(change_subject_name(long)))
    one, other = change_subject_name(name("one")), change_subject_name(name("other"))
    assert "2 ChangeSubjectName attributes" in refusal(forge(one, other))


def test_unreadable_extensions_are_found_one_by_one_or_not_at_all() -> None:
    assert csr_names.unparsable_extensions(EXTENSIONS) == ()
    assert csr_names.unparsable_extensions(b"\x30") == ()
