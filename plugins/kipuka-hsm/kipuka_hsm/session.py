"""One signer process with its token open: what can be asked of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kipuka_core import ConfigurationError
from kipuka_hsm.keys import TokenSignature, public_key_of
from kipuka_hsm.login import LoginGuard
from kipuka_hsm.messages import Failure, SignRequest
from kipuka_hsm.pins import Pin, PinSource
from kipuka_hsm.process import Process, TokenFailed


@dataclass(frozen=True, slots=True)
class KeyRef:
    """A key as it was found first. After the token was away it has to be this very key that is found again."""

    label: str | None
    key_id: bytes | None
    public_key: Any


class Session:
    """A process that is logged in. Used by one thread at a time."""

    def __init__(self, process: Process, opened: dict[str, Any], timeout_seconds: float) -> None:
        self.token: dict[str, Any] = opened["token"]
        self.mechanisms = frozenset(opened["mechanisms"])
        self._process = process
        self._timeout_seconds = timeout_seconds
        self._numbers: dict[int, int] = {}

    @property
    def token_name(self) -> str:
        """For logs and health pages."""
        return f"token {self.token['label']!r} (serial {self.token['serial']})"

    def find(self, label: str | None, key_id: bytes | None) -> dict[str, Any]:
        """The facts of the one key that matches. Raises TokenFailed, ProcessGone."""
        facts: dict[str, Any] = self._ask({"do": "find", "label": label, "id": key_id})["key"]
        return facts

    def keys(self) -> list[dict[str, Any]]:
        """The facts of all keys. Raises TokenFailed, ProcessGone."""
        return list(self._ask({"do": "keys"})["keys"])

    def generate(self, key_type: str, label: str, key_id: bytes, timeout_seconds: float) -> None:
        """Make a key pair. Raises TokenFailed, ProcessGone."""
        request = {"do": "generate", "key_type": key_type, "label": label, "id": key_id}
        self._process.ask(request, timeout_seconds)

    def sign(self, key: KeyRef, wanted: TokenSignature) -> bytes:
        """A signature. Raises TokenFailed, ProcessGone."""
        number = self._numbers.get(id(key))
        if number is None:
            number = self._numbers[id(key)] = self._find_again(key)
        request = SignRequest(number, wanted.mechanism, wanted.data, wanted.pss_hash, wanted.salt_bytes)
        return self._process.sign(request, self._timeout_seconds)

    def close(self) -> None:
        """End the process."""
        self._process.kill()

    def _find_again(self, key: KeyRef) -> int:
        found = self._ask({"do": "find", "label": key.label, "id": key.key_id})
        try:
            is_same = public_key_of(found["key"], "key") == key.public_key
        except ConfigurationError:
            is_same = False
        if not is_same:
            raise TokenFailed(Failure.LOST, f"{self.token_name} holds another key under the name of this one")
        return int(found["number"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._process.ask(request, self._timeout_seconds)


OpenSession = Callable[[], Session]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpener:
    """Opens sessions with one token; called in threads, several at once.

    Raises TokenFailed, ProcessGone, and ConfigurationError for a PIN that cannot be read or was refused.
    """

    library: str
    texts: tuple[tuple[str, str], ...]
    slot_id: int | None
    pin: PinSource | None
    """None: a token that wants no login."""
    guard: LoginGuard
    timeout_seconds: float
    hidden_variables: frozenset[str] = frozenset()
    rw: bool = False

    def __call__(self) -> Session:
        """Start a process and log in."""
        process = Process(self.hidden_variables)
        request = {"do": "open", "library": self.library, "texts": self.texts, "slot_id": self.slot_id}
        try:
            with self.guard.one_at_a_time(self.library):
                opened = process.ask(request, self.timeout_seconds)
                self._login(process, opened["token"])
        except BaseException:
            process.kill()
            raise
        return Session(process, opened, self.timeout_seconds)

    def _login(self, process: Process, token: dict[str, Any]) -> None:
        pin = self._pin(token) if token["login_required"] else None
        text = None if pin is None else pin.text
        try:
            process.ask({"do": "login", "pin": text, "rw": self.rw}, self.timeout_seconds)
        except TokenFailed as error:
            if error.kind is not Failure.PIN or pin is None:
                raise
            self.guard.refused(token["serial"], pin)
            where = self.pin.where if self.pin else ""
            raise ConfigurationError(where, f"the token refuses the PIN ({error}); it was tried once") from None
        if pin is not None:
            self.guard.accepted(token["serial"])

    def _pin(self, token: dict[str, Any]) -> Pin:
        """The PIN, if it may be tried. Raises ConfigurationError."""
        name = f"token {token['label']!r}"
        if self.pin is None:
            raise ConfigurationError(name, "wants a PIN: set hsm.pin_file, or pin-source in the key's URI")
        if token["pin_locked"]:
            raise ConfigurationError(name, "has locked its user PIN; unlock it with its security officer's PIN")
        pin = self.pin.read()
        if self.guard.was_refused(token["serial"], pin):
            raise ConfigurationError(
                self.pin.where, f"holds the PIN that {name} has refused before; it is not tried again: correct it"
            )
        if token["pin_final_try"]:
            raise ConfigurationError(
                name, "locks itself at the next wrong PIN; log in once with its own tools, then start again"
            )
        return pin
