"""What can be said without a CA: settings that do not fit together, and the certificate identifier of RFC 9773."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from pydantic import ValidationError

from kipuka_acme.renewal import certificate_id
from kipuka_acme.settings import AcmeSettings, host_and_port
from kipuka_core.testing.pki import make_key, make_root

LEAST = {"directory": "https://acme.example/directory", "chain": "chain.pem"}


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"directory": "http://acme.example/directory"}, "should match pattern"),
        ({"chain": []}, "at least 1 item"),
        ({"http_listen": "0.0.0.0:80", "http_webroot": "www"}, "exclude each other"),
        ({"http_listen": "80"}, "must be an address and a port"),
        ({"eab_kid": "kid"}, "needs eab_kid and one of"),
        ({"eab_key_file": "hmac"}, "needs eab_kid and one of"),
        ({"eab_kid": "kid", "eab_key_file": "hmac", "eab_key_env": "HMAC"}, "exclude each other"),
        ({"timeout": 0}, "greater than or equal to 1"),
        ({"dns_wait": "soon"}, "write a duration"),
    ],
)
def test_settings_that_do_not_fit_are_errors(more: dict[str, Any], problem: str) -> None:
    AcmeSettings.model_validate(LEAST)
    with pytest.raises(ValidationError, match=problem):
        AcmeSettings.model_validate(LEAST | more)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.0.0.0:80", ("0.0.0.0", 80)), ("[::]:8080", ("::", 8080)), ("localhost:1", ("localhost", 1))],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert host_and_port(text) == expected


@pytest.mark.parametrize("text", ["", ":80", "0.0.0.0", "::1:80", "[0.0.0.0]:80", "a:b", "a:65536", "a:-1", "a:٣"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        host_and_port(text)


def test_the_certificate_identifier_of_the_rfc() -> None:
    """RFC 9773 4.1: the serial's first bit is set, so its DER has a zero before it."""
    certificate = _certificate(0x87654321, bytes.fromhex("69885b6b87464041e1b37b847ba0ae2cde01c8d4"))
    assert certificate_id(certificate) == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


def test_a_certificate_that_says_nothing_of_its_issuer_has_none() -> None:
    assert certificate_id(make_root().certificate) is None
    assert certificate_id(_certificate(1, None)) is None


def _certificate(serial: int, authority_key_id: bytes | None) -> x509.Certificate:
    key, name = make_key(), x509.Name([])
    authority = x509.AuthorityKeyIdentifier(authority_key_id, None, None)
    if authority_key_id is None:
        authority = x509.AuthorityKeyIdentifier(None, [x509.DNSName("x")], 1)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), serial)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
        .add_extension(authority, critical=False)
        .sign(key, hashes.SHA256())
    )
