import base64
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kipuka_core.errors import Malformed, RequestRefused
from kipuka_core.model.identity import BasicCredentials
from kipuka_core.wire.basic_auth import MAX_HEADER_CHARACTERS, parse_basic


def basic(credentials: bytes) -> str:
    return "Basic " + base64.b64encode(credentials).decode()


def test_the_examples_of_rfc_7617_are_read() -> None:
    """RFC 7617 2 (Aladdin) and 2.1 (a user name in UTF-8)."""
    assert parse_basic("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==") == BasicCredentials("Aladdin", "open sesame")
    assert parse_basic("Basic dGVzdDoxMjPCow==") == BasicCredentials("test", "123£")


@pytest.mark.parametrize(
    ("credentials", "username", "password"),
    [(b":token", "", "token"), (b"device:", "device", ""), (b"device:a:b:", "device", "a:b:"), (b":", "", "")],
)
def test_the_user_name_ends_at_the_first_colon_and_may_be_empty(
    credentials: bytes, username: str, password: str
) -> None:
    assert parse_basic(basic(credentials)) == BasicCredentials(username, password)


@pytest.mark.parametrize("scheme", ["basic ", "BASIC  ", " Basic "])
def test_case_and_spaces_around_the_scheme_do_not_matter(scheme: str) -> None:
    assert parse_basic(scheme + "YTpi ") == BasicCredentials("a", "b")


@pytest.mark.parametrize(
    "header", ["", " ", "Bearer YTpi", "Digest username=a", "BasicYTpi", "Negotiate " + "A" * 9999]
)
def test_another_scheme_is_not_for_this_reader(header: str) -> None:
    assert parse_basic(header) is None


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("Basic", "no colon"),
        (basic(b"no-colon"), "no colon"),
        ("Basic YTpi!", "not base64"),
        ("Basic YTp", "not base64"),
        ("Basic a:b", "not base64"),
        ("Basic YTpi YTpi", "not base64"),
        ("Basic YTpié", "not base64"),
        (basic("é:ü".encode("latin-1")), "not base64 of UTF-8"),
        (basic(b"a\x00b:c"), "control characters"),
        (basic(b"a:b\n"), "control characters"),
        (basic(b"a:" + b"b" * MAX_HEADER_CHARACTERS), "longer than 4096"),
    ],
)
def test_a_broken_basic_header_is_malformed(header: str, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        parse_basic(header)


@pytest.mark.parametrize("credentials", [b"user-secret", b"user:hidden-secret\xff", b"user:hidden-secret\x00"])
def test_no_error_holds_the_credentials(credentials: bytes) -> None:
    header = basic(credentials)
    with pytest.raises(Malformed) as refused:
        parse_basic(header)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None
    shown = "".join(traceback.format_exception_only(refused.value)) + repr(refused.value)
    assert "secret" not in shown
    assert header.removeprefix("Basic ") not in shown


def test_a_password_is_not_in_the_repr_of_credentials() -> None:
    assert "sesame" not in repr(parse_basic("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="))


@settings(deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(max_size=60).map("Basic {}".format), st.binary(max_size=60).map(basic)))
def test_no_header_raises_anything_but_a_refusal(header: str) -> None:
    try:
        credentials = parse_basic(header)
    except RequestRefused:
        return
    assert credentials is None or ":" not in credentials.username
