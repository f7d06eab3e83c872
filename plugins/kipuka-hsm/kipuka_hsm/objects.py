"""Finding and making key pairs on a token; runs in signer processes."""

from __future__ import annotations

from typing import Any

from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, exceptions
from pkcs11.util.ec import encode_named_curve_parameters

from kipuka_hsm.text import shown

RSA_BITS = {"rsa2048": 2048, "rsa3072": 3072, "rsa4096": 4096}
EC_CURVES = {"ecdsa256": "secp256r1", "ecdsa384": "secp384r1", "ecdsa521": "secp521r1"}
_ED25519_PARAMETERS = b"\x13\x0cedwards25519"  # PrintableString (PKCS#11 3.0, 2.3.10)
_PUBLIC = {
    "modulus": Attribute.MODULUS,
    "exponent": Attribute.PUBLIC_EXPONENT,
    "ec_parameters": Attribute.EC_PARAMS,
    "ec_point": Attribute.EC_POINT,
}
_FLAGS = {
    "private": Attribute.PRIVATE,
    "sensitive": Attribute.SENSITIVE,
    "extractable": Attribute.EXTRACTABLE,
    "sign": Attribute.SIGN,
    "always_authenticate": Attribute.ALWAYS_AUTHENTICATE,
}
_UNREADABLE = (
    exceptions.AttributeTypeInvalid,
    exceptions.AttributeSensitive,
    exceptions.FunctionFailed,
    LookupError,
    NotImplementedError,
    ValueError,  # such as a label that is not UTF-8: it is not shown, and the key is named by its id
)
_MOST_LISTED = 20


class Refused(Exception):
    """Something does not fit, and asking again changes nothing; the text is one line for the operator."""


class KeyNotThere(Exception):
    """No key matches now."""


def private_keys(session: Any) -> list[Any]:
    """Every private key that the session sees."""
    return list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY}))


def find_private_key(session: Any, label: str | None, key_id: bytes | None) -> Any:
    """The one private key with this label and id; None matches everything. Raises KeyNotThere, and Refused."""
    wanted = "any private key" if label is None and key_id is None else _name(label, key_id)
    template: dict[Attribute, Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    if label is not None:
        template[Attribute.LABEL] = label
    if key_id is not None:
        template[Attribute.ID] = key_id
    found = list(session.get_objects(template))
    if len(found) == 1:
        return found[0]
    listed = _listed(found or private_keys(session))
    if found:
        raise Refused(f"{len(found)} private keys match {wanted}: {listed}; name one by object and id")
    raise KeyNotThere(f"no private key matches {wanted}; on the token: {listed}")


def facts_of(key: Any, *, with_public: bool = False) -> dict[str, Any]:
    """What is known about a private key; of its public half only what the token shows. No label: none to be read."""
    facts: dict[str, Any] = {
        "label": _read(key, Attribute.LABEL),
        "id": _read(key, Attribute.ID) or b"",
        "type": _type_name(key),
    }
    facts |= {name: _read(key, attribute) for name, attribute in _FLAGS.items()}
    if with_public:
        facts |= _public_facts(key)
    return facts


def generate(session: Any, key_type: str, label: str, key_id: bytes) -> None:
    """Make a key pair that never leaves the token.

    Raises Refused for a type that nobody makes, and for a label or an id that a key has: a certificate beside it would
    seem to belong to both.
    """
    for attribute, value, name in (
        (Attribute.LABEL, label, _name(label, None)),
        (Attribute.ID, key_id, _name(None, key_id)),
    ):
        if list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, attribute: value})):
            raise Refused(f"there is a private key {name} already; a key is never overwritten")
    template: dict[str, Any] = {
        "label": label,
        "id": key_id,
        "store": True,
        "private_template": {
            Attribute.PRIVATE: True,
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
            Attribute.SIGN: True,
            Attribute.DECRYPT: False,
        },
        "public_template": {Attribute.PRIVATE: False, Attribute.VERIFY: True, Attribute.ENCRYPT: False},
    }
    if key_type in RSA_BITS:
        _without_wrapping(template)
        session.generate_keypair(KeyType.RSA, RSA_BITS[key_type], **template)
        return
    if key_type in EC_CURVES:
        kind, parameters = KeyType.EC, encode_named_curve_parameters(EC_CURVES[key_type])
        mechanism = None
    elif key_type == "ed25519":
        kind, parameters = KeyType.EC_EDWARDS, _ED25519_PARAMETERS
        mechanism = Mechanism.EC_EDWARDS_KEY_PAIR_GEN
    else:
        raise Refused(f"a token makes no {key_type} keys for kipuka; possible are {', '.join(possible_key_types())}")
    domain = session.create_domain_parameters(kind, {Attribute.EC_PARAMS: parameters}, local=True)
    domain.generate_keypair(mechanism=mechanism, **template)


def possible_key_types() -> list[str]:
    """What :func:`generate` makes, where the token does."""
    return [*RSA_BITS, *EC_CURVES, "ed25519"]


def _without_wrapping(template: dict[str, Any]) -> None:
    """RSA keys could also wrap other keys, and this one is for signatures only."""
    template["private_template"][Attribute.UNWRAP] = False
    template["public_template"][Attribute.WRAP] = False


def _public_facts(key: Any) -> dict[str, Any]:
    """From the private key, from its public key object, or from a certificate beside it."""
    facts = {name: _read(key, attribute) for name, attribute in _PUBLIC.items()}
    if facts["modulus"] and facts["exponent"]:
        return facts
    public = _beside(key, ObjectClass.PUBLIC_KEY)
    if public is not None:
        return {name: facts[name] or _read(public, attribute) for name, attribute in _PUBLIC.items()}
    certificate = _beside(key, ObjectClass.CERTIFICATE)
    return facts | {"certificate": None if certificate is None else _read(certificate, Attribute.VALUE)}


def _beside(key: Any, kind: ObjectClass) -> Any:
    """The only object of this class with the key's id, or with its label where it has no id."""
    key_id, label = _read(key, Attribute.ID), _read(key, Attribute.LABEL)
    same = {Attribute.ID: key_id} if key_id else {Attribute.LABEL: label}
    found = list(key.session.get_objects({Attribute.CLASS: kind, **same}))
    if len(found) > 1 and label:
        found = [each for each in found if _read(each, Attribute.LABEL) == label]
    return found[0] if len(found) == 1 else None


def _read(key: Any, attribute: Attribute) -> Any:
    try:
        return key[attribute]
    except _UNREADABLE:
        return None


def _listed(keys: list[Any]) -> str:
    more = f", and {len(keys) - _MOST_LISTED} more" if len(keys) > _MOST_LISTED else ""
    return (", ".join(_shown(key) for key in keys[:_MOST_LISTED]) or "none") + more


def _type_name(key: Any) -> str:
    kind = _read(key, Attribute.KEY_TYPE)
    return kind.name if isinstance(kind, KeyType) else str(kind)


def _shown(key: Any) -> str:
    return f"{_name(_read(key, Attribute.LABEL), _read(key, Attribute.ID))} ({_type_name(key)})"


def _name(label: str | None, key_id: bytes | None) -> str:
    parts = [] if label is None else [f"object={shown(label)}"]
    if key_id:
        parts.append(shown("id=" + "".join(f"%{byte:02X}" for byte in key_id)))
    return ";".join(parts) or "a key without a name that can be read"
