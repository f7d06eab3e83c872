import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kipuka_core.errors import Malformed, RequestRefused
from kipuka_core.testing.pki import make_csr
from kipuka_core.wire.base64_body import DecodedBody, decode_body, encode_body

CSR_DER = make_csr(san=["dns:a.example"])
TEXT = base64.b64encode(CSR_DER)


def pem(label: bytes = b"CERTIFICATE REQUEST", content: bytes = TEXT, newline: bytes = b"\n") -> bytes:
    return newline.join([b"-----BEGIN " + label + b"-----", content, b"-----END " + label + b"-----", b""])


@pytest.mark.parametrize(
    "body",
    [
        TEXT,
        TEXT + b"\n",
        TEXT + b"\r\n\r\n",
        b" \t" + TEXT + b" ",
        b"\r\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76)),
        b" \t\r\n".join(TEXT[i : i + 1] for i in range(len(TEXT))),
    ],
)
def test_base64_is_read_with_white_space_anywhere_and_without_a_final_newline(body: bytes) -> None:
    assert decode_body(body) == DecodedBody(CSR_DER, None)


@pytest.mark.parametrize("label", [b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST", b"PKCS7", b"CMS"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_pem_armour_is_read_and_named(label: bytes, newline: bytes) -> None:
    assert decode_body(b"\r\n" + pem(label, newline=newline) + b"\n") == DecodedBody(CSR_DER, "pem_armour")


def test_raw_der_is_read_and_named() -> None:
    assert decode_body(CSR_DER) == DecodedBody(CSR_DER, "raw_der")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b" \r\n", "empty"),
        (b"MAA*", '"\\*" at offset 3'),
        (b"MA-_", '"-" at offset 2'),
        (b"MA\x00A", "the byte 0x00 at offset 2"),
        (b"MA\xe9A", "the byte 0xe9 at offset 2"),
        (b'{"csr": 1}', '"{" at offset 0'),
        (b"MAA", "multiple of 4"),
        (b"MA==MA==", "multiple of 4"),
        (b"MAA====", "multiple of 4"),
        (b"=", "multiple of 4"),
        (base64.b64encode(b"\x02\x01\x05"), "not a DER SEQUENCE"),
        (base64.b64encode(b"\x30"), "not a DER SEQUENCE"),
        (base64.b64encode(b"\x30\x80\x00\x00"), "not a DER SEQUENCE"),
        (base64.b64encode(b"\x30\x85\x00\x00\x00\x00\x00"), "not a DER SEQUENCE"),
        (base64.b64encode(b"\x30\x82\x01"), "not a DER SEQUENCE"),
        (base64.b64encode(CSR_DER[:-1]), "cut off"),
        (base64.b64encode(CSR_DER + b"ab"), "2 bytes after the end"),
        (CSR_DER + b"\n", "1 bytes after the end"),
        (CSR_DER[:-3], "cut off"),
        (pem(b"CERTIFICATE"), "not a CERTIFICATE REQUEST"),
        (b"-----BEGIN ", "not a CERTIFICATE REQUEST"),
        (pem(b"EC PRIVATE KEY"), "keep it secret"),
        (pem() + pem(), "exactly one PEM block"),
        (pem() + b"more", "exactly one PEM block"),
        (pem().replace(b"-----END", b""), "exactly one PEM block"),
        (pem(content=b"Proc-Type: 4,ENCRYPTED\n" + TEXT), '"-" at offset'),
        (pem(content=b""), "empty"),
    ],
)
def test_anything_else_is_malformed_and_the_reason_says_what_to_change(body: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        decode_body(body)


def test_an_offset_counts_from_the_start_of_the_body_and_through_its_armour() -> None:
    body = pem(content=TEXT[:10] + b"!" + TEXT[10:])
    with pytest.raises(Malformed, match=f"at offset {body.index(b'!')}"):
        decode_body(body)


def test_a_refusal_repeats_nothing_of_the_body() -> None:
    with pytest.raises(Malformed) as refused:
        decode_body(b"c2VjcmV0\x00" + b"secret" * 9)
    assert "secret" not in refused.value.reason
    assert "c2Vj" not in refused.value.reason


@settings(deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=200).map(base64.b64encode),
        st.binary(max_size=200).map(lambda tail: b"-----BEGIN CERTIFICATE REQUEST-----" + tail),
        st.binary(max_size=200).map(lambda tail: b"\x30" + tail),
    )
)
def test_no_body_raises_anything_but_a_refusal(body: bytes) -> None:
    try:
        der = decode_body(body).der
    except RequestRefused:
        return
    assert der[:1] == b"\x30"


@settings(deadline=None)
@given(st.binary(max_size=300).map(lambda content: b"\x30\x82" + len(content).to_bytes(2, "big") + content))
def test_what_is_encoded_decodes_in_both_forms(der: bytes) -> None:
    assert decode_body(encode_body(der)).der == der
    assert decode_body(encode_body(der, columns=None)).der == der


def test_lines_have_64_columns_and_end_in_lf() -> None:
    lines = encode_body(bytes(range(256))).split(b"\n")
    assert lines[-1] == b""
    assert {len(line) for line in lines[:-2]} == {64}
    assert 0 < len(lines[-2]) <= 64


def test_columns_can_be_chosen() -> None:
    assert encode_body(b"abcdefgh", columns=4) == b"YWJj\nZGVm\nZ2g=\n"


def test_the_single_line_form_has_white_space_only_at_its_end() -> None:
    body = encode_body(bytes(1000), columns=None)
    assert body.endswith(b"\r\n")
    assert len(body.split()) == 1
