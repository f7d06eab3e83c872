"""Finding a token among the slots of a module; runs in signer processes."""

from __future__ import annotations

import unicodedata
from typing import Any

from pkcs11 import SlotFlag, TokenFlag, exceptions

from kipuka_hsm.objects import Refused
from kipuka_hsm.text import shown

_LOST = (exceptions.TokenNotPresent, exceptions.TokenNotRecognised, exceptions.DeviceRemoved)


class NotThere(Exception):
    """No token matches now. It may come back: that is no mistake of the configuration while a server runs."""


def list_tokens(library: Any) -> list[dict[str, Any]]:
    """The facts of every initialised token that is present."""
    return [token_facts(token) for token in _tokens(library)]


def find_token(library: Any, texts: dict[str, str], slot_id: int | None) -> Any:
    """The one token that matches the attributes of a URI. Raises NotThere, and Refused for several."""
    _check_library(library, texts)
    tokens = list(_tokens(library))
    matching = [token for token in tokens if _matches(token, texts, slot_id)]
    if len(matching) == 1:
        return matching[0]
    parts = [f"{name}={shown(value)}" for name, value in texts.items()]
    wanted = ";".join(parts if slot_id is None else [*parts, f"slot-id={slot_id}"]) or "any token"
    listed = ", ".join(_shown(token) for token in matching or tokens) or "none"
    if matching:
        raise Refused(f"{len(matching)} tokens match {wanted}: {listed}; add serial=… of the right one")
    raise NotThere(f"no token matches {wanted}; present: {listed}")


def token_facts(token: Any) -> dict[str, Any]:
    """What a token says of itself, for people and for health pages."""
    slot = token.slot
    return {
        "label": _label(token),
        "serial": token.serial.decode("ascii", "replace").strip(),
        "manufacturer": token.manufacturer_id.strip(),
        "model": token.model.strip(),
        "slot_id": slot.slot_id,
        "slot_description": slot.slot_description.strip(),
        "login_required": bool(token.flags & TokenFlag.LOGIN_REQUIRED),
        "pin_count_low": bool(token.flags & TokenFlag.USER_PIN_COUNT_LOW),
        "pin_final_try": bool(token.flags & TokenFlag.USER_PIN_FINAL_TRY),
        "pin_locked": bool(token.flags & TokenFlag.USER_PIN_LOCKED),
    }


def _tokens(library: Any) -> list[Any]:
    found = []
    for slot in library.get_slots(token_present=True):
        try:
            token = slot.get_token()
        except _LOST:
            continue
        if slot.flags & SlotFlag.TOKEN_PRESENT and token.flags & TokenFlag.TOKEN_INITIALIZED:
            found.append(token)
    return found


def _check_library(library: Any, texts: dict[str, str]) -> None:
    of_library = {
        "library-manufacturer": library.manufacturer_id,
        "library-description": library.library_description,
    }
    for name, value in of_library.items():
        if name in texts and not _same(texts[name], value):
            raise Refused(f'the module has {name} "{value.strip()}", not "{texts[name]}"')


def _matches(token: Any, texts: dict[str, str], slot_id: int | None) -> bool:
    slot = token.slot
    has = {
        "token": token.label,
        "serial": token.serial.decode("ascii", "replace"),
        "manufacturer": token.manufacturer_id,
        "model": token.model,
        "slot-manufacturer": slot.manufacturer_id,
        "slot-description": slot.slot_description,
    }
    if slot_id is not None and slot.slot_id != slot_id:
        return False
    return all(_same(texts[name], value) for name, value in has.items() if name in texts)


def _same(wanted: str, value: str) -> bool:
    """Compared in one normal form, without the padding of fixed fields (RFC 7512 2.5)."""
    return unicodedata.normalize("NFC", wanted).rstrip() == unicodedata.normalize("NFC", value).rstrip()


def _label(token: Any) -> str:
    return str(token.label).strip()


def _shown(token: Any) -> str:
    serial = token.serial.decode("ascii", "replace").strip()
    return f"token={_label(token)};serial={serial};slot-id={token.slot.slot_id}"
