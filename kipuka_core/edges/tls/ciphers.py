"""The cipher suites that kipuka speaks, by their IANA names.

Only AEAD suites with an ephemeral key exchange; operators choose among the six of TLS 1.2. The three of TLS 1.3 are
always on: OpenSSL offers no way to choose among them from Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kipuka_core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class CipherSuite:
    """One suite: its IANA name, what OpenSSL calls it, and its two-octet number."""

    iana: str
    openssl: str
    number: int


TLS12_SUITES = (
    CipherSuite("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384", 0xC02C),
    CipherSuite("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384", 0xC030),
    CipherSuite("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", 0xC02B),
    CipherSuite("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256", 0xC02F),
    CipherSuite("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", 0xCCA9),
    CipherSuite("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305", 0xCCA8),
)
TLS13_SUITES = tuple(
    CipherSuite(name, name, number)
    for name, number in (
        ("TLS_AES_256_GCM_SHA384", 0x1302),
        ("TLS_CHACHA20_POLY1305_SHA256", 0x1303),
        ("TLS_AES_128_GCM_SHA256", 0x1301),
    )
)
DEFAULT_CIPHER_SUITES = tuple(suite.iana for suite in TLS12_SUITES)
_BY_IANA = {suite.iana: suite for suite in TLS12_SUITES}
_NUMBERS = {suite.openssl: suite.number for suite in TLS12_SUITES + TLS13_SUITES}


def openssl_cipher_list(iana_names: Sequence[str], where: str = "cipher_suites") -> str:
    """The OpenSSL cipher list for suites of TLS 1.2, in the given order of preference.

    Raises ConfigurationError, which names what is possible, for an empty list and for any other suite: unknown, CBC,
    RSA key exchange, NULL, anonymous.
    """
    unknown = [name for name in iana_names if name not in _BY_IANA]
    if unknown or not iana_names:
        complaint = f"{', '.join(unknown)} cannot be used" if unknown else "the list is empty"
        note = " (suites of TLS 1.3 are always on and not listed)" if _any_tls13(unknown) else ""
        raise ConfigurationError(where, f"{complaint}{note}; possible are {', '.join(DEFAULT_CIPHER_SUITES)}")
    # Level 2 is stated because OpenSSL's own default depends on the distribution: no RSA below 2048 bits, no SHA-1.
    return ":".join(["@SECLEVEL=2", *dict.fromkeys(_BY_IANA[name].openssl for name in iana_names)])


def cipher_suite_number(openssl_name: str) -> int | None:
    """The IANA number of a negotiated suite, None for one that kipuka does not configure."""
    return _NUMBERS.get(openssl_name)


def _any_tls13(names: Sequence[str]) -> bool:
    return any(suite.iana in names for suite in TLS13_SUITES)
