"""Key usages by name (RFC 5280 4.2.1.3), to and from the extension."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

_BITS: dict[str, str] = {
    "digitalSignature": "digital_signature",
    "contentCommitment": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
    "encipherOnly": "encipher_only",
    "decipherOnly": "decipher_only",
}
_ONLY_WITH_KEY_AGREEMENT = frozenset({"encipherOnly", "decipherOnly"})
KEY_USAGES: tuple[str, ...] = tuple(_BITS)
"""Every name, in the order of the bits. contentCommitment is what X.509 now calls nonRepudiation."""


def key_usage_names(extension: x509.KeyUsage) -> frozenset[str]:
    """The names of the bits that are set."""
    return frozenset(
        name
        for name, attribute in _BITS.items()
        if (name not in _ONLY_WITH_KEY_AGREEMENT or extension.key_agreement) and getattr(extension, attribute)
    )


def key_usage_extension(names: Iterable[str]) -> x509.KeyUsage:
    """The extension with these bits set.

    Raises ValueError for an unknown name, and for encipherOnly or decipherOnly without keyAgreement.
    """
    wanted = frozenset(names)
    if unknown := wanted - _BITS.keys():
        raise ValueError(f"unknown key usage {', '.join(sorted(unknown))}; known are {', '.join(KEY_USAGES)}")
    return x509.KeyUsage(**{attribute: name in wanted for name, attribute in _BITS.items()})
