"""From what a token says of a key to a key that can sign."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from kipuka_core import ConfigurationError, Services
from kipuka_hsm.keys import TokenKey, public_key_of, token_key
from kipuka_hsm.messages import TokenSignature, to_bytes
from kipuka_hsm.session import KeyRef


def key_from(
    facts: dict[str, Any],
    sign: Callable[[KeyRef, TokenSignature], bytes],
    mechanisms: Collection[str],
    where: str,
    services: Services,
) -> tuple[KeyRef, TokenKey]:
    """The key, and how it is found again. Raises ConfigurationError for one that a CA must not use."""
    _check(facts, where, services)
    public_key = public_key_of(facts, where)
    ref = KeyRef(facts["label"], to_bytes(facts["id"]) or None, public_key)
    return ref, token_key(public_key, lambda wanted: sign(ref, wanted), mechanisms, where)


def _check(facts: dict[str, Any], where: str, services: Services) -> None:
    """What the token says of the key's protection; null is what it does not tell."""
    if facts["sign"] is False:
        raise ConfigurationError(where, "may not sign (CKA_SIGN is false)")
    if facts["private"] is False or facts["sensitive"] is False:
        raise ConfigurationError(
            where, "is not protected by its token: CKA_PRIVATE and CKA_SENSITIVE have to be true; make a new key"
        )
    if facts["always_authenticate"]:
        raise ConfigurationError(where, "wants the PIN at every signature (CKA_ALWAYS_AUTHENTICATE): no server has it")
    if facts["extractable"]:
        services.warn(f"{where}: the key can be taken out of its token (CKA_EXTRACTABLE is true)")
