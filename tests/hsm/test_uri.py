"""PKCS#11 URIs (RFC 7512)."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kipuka_core import ConfigurationError
from kipuka_hsm.uri import Pkcs11Uri, parse_uri, without_pin


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("pkcs11:", Pkcs11Uri()),
        (
            "pkcs11:token=kipuka;object=issuing?pin-source=file:/etc/kipuka/pin",
            Pkcs11Uri((("token", "kipuka"),), object_label="issuing", pin_source="file:/etc/kipuka/pin"),
        ),
        ("PKCS11:object=a;type=private;id=%01%ff", Pkcs11Uri(object_label="a", object_id=b"\x01\xff")),
        ("pkcs11:object=with%3Bsemicolon%2Fslash", Pkcs11Uri(object_label="with;semicolon/slash")),
        ("pkcs11:object=100%25", Pkcs11Uri(object_label="100%")),
        ("pkcs11:object=", Pkcs11Uri(object_label="")),
        ("pkcs11:slot-id=327", Pkcs11Uri(slot_id=327)),
        (
            "pkcs11:serial=1a2b;manufacturer=Sn%C3%A4ke%20Oil?module-name=softhsm2&x-vendor=1",
            Pkcs11Uri((("serial", "1a2b"), ("manufacturer", "Snäke Oil")), module_name="softhsm2", ignored=("…",)),
        ),
        ("pkcs11:object=a?module-path=/usr/lib/x.so", Pkcs11Uri(object_label="a", module_path="/usr/lib/x.so")),
        ("pkcs11:object=a?pin-value=1%2634", Pkcs11Uri(object_label="a", pin_value="1&34")),
    ],
)
def test_what_a_uri_says(uri: str, expected: Pkcs11Uri) -> None:
    assert parse_uri(uri) == expected


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("file:/x", "does not begin with pkcs11:"),
        ("pkcs11:object=a#b", "%23"),
        ("pkcs11:object=a/b", "%2F"),
        ("pkcs11:object=a;object=b", "twice"),
        ("pkcs11:objekt=a", 'unknown attribute "objekt"'),
        ("pkcs11:object", "name=value"),
        ("pkcs11:object=a;;token=b", "name=value"),
        ("pkcs11:object=%zz", "hexadecimal"),
        ("pkcs11:object=%ff", "not UTF-8"),
        ("pkcs11:token=" + "x" * 33, "longer than the 32 bytes"),
        ("pkcs11:serial=" + "1" * 17, "longer than the 16 bytes"),
        ("pkcs11:object=a;type=public", "type=private"),
        ("pkcs11:library-version=1", "library-version is not compared"),
        ("pkcs11:slot-id=one", "not a decimal number"),
        ("pkcs11:object=a?module-path=x.so", "absolute path"),
        ("pkcs11:object=a?pin-value=1&pin-source=/x", "exclude each other"),
        ("pkcs11:object=a?pin-value=1&pin-value=2", "twice"),
        ("pkcs11:object=a;id=", "id is empty"),
        ("pkcs11:object=" + "x" * 70_000, "has 70000 bytes"),
        ("pkcs11:id=" + "%01" * 50_000, "has 50000 bytes"),
        ("pkcs11:object=a?module-path=/x%0ay.so", "cannot be shown"),
        ("pkcs11:object=a?module-path=/x%00y.so", "cannot be shown"),
        ("pkcs11:object=a?pin-source=/x%00y", "cannot be shown"),
        ("pkcs11:object=a\nb;x=1", 'unknown attribute "x"'),
        ("pkcs11:object=a;pin-value=1", "belongs after the question mark"),
        ("pkcs11:object=a&pin-value=1", 'before the question mark that is ";"'),
        ("pkcs11:object=a?module-path=/x.so;pin-value=1", "write %3B"),
        ("pkcs11:object=a?module-path=/x.so?pin-value=1", "write %3F"),
    ],
)
def test_what_is_no_uri_is_refused_in_one_line(uri: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        parse_uri(uri)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        (
            "pkcs11:token=a;object=b?pin-source=/p&module-path=/m",
            "pkcs11:token=a;object=b?pin-source=/p&module-path=/m",
        ),
        ("pkcs11:object=a?pin-valeu=S3", "pkcs11:object=a?pin-valeu=…"),
        ("pkcs11:object=a?x-y=1", "pkcs11:object=a?…=…"),
        ("pkcs11:object=a?S3", "pkcs11:object=a?…"),
        ("pkcs11:object=a?module-path=/m;S3", "pkcs11:object=a?module-path=/m…"),
        ("pkcs11:issuing", "pkcs11:issuing"),
        ("pkcs11:object=a\nb", "pkcs11:object=a\\nb"),
    ],
)
def test_what_is_shown_of_a_uri(uri: str, text: str) -> None:
    assert without_pin(uri) == text


@settings(deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="&#%"), min_size=2))
def test_a_pin_is_in_no_error_and_no_repr(text: str) -> None:
    pin = f"7Q{text}7Q"  # no word of a message, as "None" would be
    for uri in (
        f"pkcs11:object=a?pin-value={pin}",
        f"pkcs11:bad?pin-value={pin}",
        f"pkcs11:object=a?x=1&PIN-VALUE={pin}",
        f"pkcs11:object=a?pin-valeu={pin}",
        f"pkcs11:object=a?pin_value={pin}",
        f"pkcs11:object=a?pin%2Dvalue={pin}",
        f"pkcs11:object=a?pin-value=a&{pin}",
        f"pkcs11:object=a?pin-value=a&{pin}=b",
        f"pkcs11:object=a?pin-value=a&{pin}=b&{pin}=b",
        f"pkcs11:object=a?pin-value=a%zz{pin}",
        f"pkcs11:object=a?{pin}",
        f"pkcs11:object=a?module-path=/m.so;pin-value={pin}",
        f"pkcs11:object=a?module-path=/m.so?pin-value={pin}",
        f"pkcs11:object=a;pin-value={pin.replace('?', '')}",
        f"pkcs11:object=a;pin-value=a;{pin.replace('?', '')}",
        f"pkcs11:object=a&pin-value={pin.replace('?', '')}",
    ):
        pieces = [piece for piece in re.split("[;?=]", pin) if "7Q" in piece]
        try:
            shown = f"{without_pin(uri)} {parse_uri(uri)!r} {parse_uri(uri).ignored}"
        except ConfigurationError as error:
            shown = f"{without_pin(uri)} {error}"
        assert not [piece for piece in pieces if piece in shown]


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        assert isinstance(parse_uri(f"pkcs11:{text}"), Pkcs11Uri)
