"""The cipher suites that kipuka speaks, by their IANA names.

Only AEAD suites with an ephemeral key exchange; operators choose among the six of TLS 1.2. The three of TLS 1.3 are
always on: OpenSSL offers no way to choose among them from Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
"""Forward secret and authenticated encryption: what can be configured, and the default in this order."""
TLS13_SUITES = tuple(
    CipherSuite(name, name, number)
    for name, number in (
        ("TLS_AES_256_GCM_SHA384", 0x1302),
        ("TLS_CHACHA20_POLY1305_SHA256", 0x1303),
        ("TLS_AES_128_GCM_SHA256", 0x1301),
    )
)
DEFAULT_CIPHER_SUITES = tuple(suite.iana for suite in TLS12_SUITES)
_WEAKNESSES = (
    ("_anon_", "it authenticates nobody"),
    ("_NULL_", "it encrypts nothing"),
    ("_EXPORT_", "it is breakable by design"),
    ("_RC4_", "RC4 is broken (RFC 7465)"),
    ("_CBC_", "CBC suites have no authenticated encryption"),
    ("_CCM", "CCM suites are not built into the usual TLS clients"),
    ("TLS_RSA_WITH_", "RSA key exchange has no forward secrecy"),
    ("TLS_DHE_", "finite-field Diffie-Hellman is deprecated"),
    ("_PSK_", "pre-shared keys identify no certificate"),
)


def cipher_suites_problem(names: Sequence[str]) -> str | None:
    """Why this list of IANA names cannot be used, with what is possible; None when it can."""
    possible = f"possible for TLS 1.2 are {', '.join(DEFAULT_CIPHER_SUITES)} (those of TLS 1.3 are always on)"
    if not names:
        return f"the list is empty; {possible}"
    complaints = [f"{name} cannot be used: {_reason(name)}" for name in names if name not in DEFAULT_CIPHER_SUITES]
    return f"{'; '.join(complaints)}; {possible}" if complaints else None


def _reason(name: str) -> str:
    if any(suite.iana == name for suite in TLS13_SUITES):
        return "it is a suite of TLS 1.3, and those are not listed"
    for suite in TLS12_SUITES:
        if name.upper() in {suite.openssl, suite.iana}:
            return f"the IANA name is {suite.iana}"
    return next((reason for part, reason in _WEAKNESSES if part in name), "kipuka does not know it")
