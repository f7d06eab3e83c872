import pytest

from kipuka_core.wire.media_type import PKCS7_MIME, PKCS10, is_acceptable


@pytest.mark.parametrize(
    "content_type",
    [
        "application/pkcs10",
        "Application/PKCS10",
        "application/pkcs10; charset=utf-8",
        " application/pkcs10 ;x=y",
        "application/x-pem-file",  # Cisco IOS
        "application/octet-stream",
        "",
        " ",
        None,
    ],
)
def test_pkcs10_is_accepted_however_it_is_written_and_when_nothing_is_said(content_type: str | None) -> None:
    assert is_acceptable(content_type, PKCS10)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "text/html",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/pkcs10x",
        "application/pkcs7-mime; smime-type=CMC-request",
        "text/plain; application/pkcs10",
    ],
)
def test_a_clearly_wrong_type_is_not_accepted(content_type: str) -> None:
    assert not is_acceptable(content_type, PKCS10)


def test_the_pem_quirk_is_only_for_certificate_requests() -> None:
    assert not is_acceptable("application/x-pem-file", PKCS7_MIME)
    assert is_acceptable("application/pkcs7-mime; smime-type=CMC-request", PKCS7_MIME)
