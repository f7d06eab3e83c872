"""Cipher suites as OpenSSL writes them."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import rsa

from kipuka_core.errors import ConfigurationError
from kipuka_core.model.cipher_suites import TLS12_SUITES, TLS13_SUITES, cipher_suites_problem

_BY_IANA = {suite.iana: suite for suite in TLS12_SUITES}
_NUMBERS = {suite.openssl: suite.number for suite in TLS12_SUITES + TLS13_SUITES}


def openssl_cipher_list(iana_names: Sequence[str], where: str = "cipher_suites") -> str:
    """The OpenSSL cipher list for suites of TLS 1.2, in the given order of preference.

    Raises ConfigurationError, which names what is possible, for an empty list and for any other suite: unknown, CBC,
    RSA key exchange, NULL, anonymous.
    """
    if problem := cipher_suites_problem(iana_names):
        raise ConfigurationError(where, problem)
    # Level 2 is stated because OpenSSL's own default depends on the distribution: no RSA below 2048 bits, no SHA-1.
    return ":".join(["@SECLEVEL=2", *dict.fromkeys(_BY_IANA[name].openssl for name in iana_names)])


def suites_for_key(iana_names: Sequence[str], public_key: object) -> list[str]:
    """Those suites of TLS 1.2 that a server with this key can speak, in the given order."""
    kind = "_RSA_" if isinstance(public_key, rsa.RSAPublicKey) else "_ECDSA_"
    return [name for name in iana_names if kind in name]


def cipher_suite_number(openssl_name: str) -> int | None:
    """The IANA number of a negotiated suite, None for one that kipuka does not configure."""
    return _NUMBERS.get(openssl_name)
