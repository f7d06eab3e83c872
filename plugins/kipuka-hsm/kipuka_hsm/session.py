"""One signer process with its token open: what can be asked of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kipuka_core import ConfigurationError
from kipuka_hsm.keys import public_key_of
from kipuka_hsm.login import LoginGuard, PinStanding
from kipuka_hsm.messages import Failure, TokenSignature, sign_head
from kipuka_hsm.pins import Pin, PinSource
from kipuka_hsm.process import Process, ProcessGone, TokenFailed


@dataclass(frozen=True, slots=True, eq=False)
class KeyRef:
    """A key as it was found first. After the token was away it has to be this very key that is found again.

    Two are the same when they are one object.
    """

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
        self._numbers: dict[KeyRef, int] = {}
        self._heads: dict[tuple[KeyRef, str, str, int], bytes] = {}

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

    def sign(self, key: KeyRef, wanted: TokenSignature, timeout_seconds: float | None = None) -> bytes:
        """A signature; ``timeout_seconds`` shortens the usual limit. Raises TokenFailed, ProcessGone."""
        mechanism, data, pss_hash, salt_bytes = wanted
        kind = (key, mechanism, pss_hash, salt_bytes)
        head = self._heads.get(kind)
        if head is None:
            head = self._heads[kind] = self._head(key, wanted)
        limit = self._timeout_seconds if timeout_seconds is None else min(timeout_seconds, self._timeout_seconds)
        return self._process.sign(head, data, limit)

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended. To be asked while it has nothing to answer."""
        return self._process.is_gone

    def close(self) -> None:
        """End the process."""
        self._process.kill()

    def _head(self, key: KeyRef, wanted: TokenSignature) -> bytes:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self._find_again(key)
        try:
            return sign_head(number, wanted)
        except ValueError as error:
            raise TokenFailed(Failure.REFUSED, str(error)) from None

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


OpenSession = Callable[[Callable[[], bool]], Session]
"""Opens one. What it is given says whether nobody wants it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpener:
    """Opens sessions with one token; called in threads, several at once.

    Raises TokenFailed, ProcessGone, LoginGivenUp, and ConfigurationError for a PIN that cannot be read or was refused.
    """

    library: str
    texts: tuple[tuple[str, str], ...]
    slot_id: int | None
    pin: PinSource | None
    """None: a token that wants no login."""
    guard: LoginGuard
    timeout_seconds: float
    hidden_variables: frozenset[str] = frozenset()
    passed_variables: frozenset[str] = frozenset()
    rw: bool = False

    def __call__(self, is_over: Callable[[], bool] = lambda: False) -> Session:
        """Start a process and log in. Modules are loaded side by side, and logged in to one after the other."""
        process = self._loaded()
        try:
            with self.guard.one_at_a_time(self.library, is_over):
                try:
                    opened = self._open(process)
                except TokenFailed as error:
                    if error.kind is not Failure.ABSENT:
                        raise
                    # Loaded while another process wrote to the module's files, perhaps.
                    process.kill()
                    process = self._loaded()
                    opened = self._open(process)
                self._login(process, opened["token"])
        except BaseException:
            process.kill()
            raise
        return Session(process, opened, self.timeout_seconds)

    def _loaded(self) -> Process:
        process = Process(self.hidden_variables, self.passed_variables)
        try:
            process.ask({"do": "load", "library": self.library}, self.timeout_seconds)
        except BaseException:
            process.kill()
            raise
        return process

    def _open(self, process: Process) -> dict[str, Any]:
        request = {"do": "open", "library": self.library, "texts": self.texts, "slot_id": self.slot_id}
        return process.ask(request, self.timeout_seconds)

    def _login(self, process: Process, token: dict[str, Any]) -> None:
        if not token["login_required"]:
            process.ask({"do": "login", "pin": None, "rw": self.rw}, self.timeout_seconds)
            return
        pin, source, standing = self._pin(token)
        serial, is_new = token["serial"], standing is PinStanding.NEW
        if is_new:
            self.guard.about_to_try(serial, pin)
        try:
            process.ask({"do": "login", "pin": pin.text, "rw": self.rw}, self.timeout_seconds)
        except (ProcessGone, TokenFailed) as error:
            word = str(error).partition(" ")[0].rstrip(":") if isinstance(error, TokenFailed) else ""
            if word in _WRONG_PIN:
                self.guard.refused(serial, pin)
                where, problem = source.where, f"the token refuses the PIN ({error}); it was tried once"
                raise ConfigurationError(where, problem) from None
            if is_new and word not in _PIN_NOT_JUDGED:
                raise self._unclear(token, error) from None
            if is_new:
                self.guard.not_judged(serial, pin)
            if word in _NOBODY_LOGS_IN:
                raise ConfigurationError(f"token {token['label']!r}", f"lets nobody log in ({error})") from None
            raise
        if is_new:
            self.guard.accepted(serial, pin)

    def _unclear(self, token: dict[str, Any], error: Exception) -> ConfigurationError:
        return ConfigurationError(
            f"token {token['label']!r}",
            f"gave no clear answer to the login ({error}), and a PIN that has never worked is not tried twice: when it"
            f" is right, remove {self.guard.file(token['serial'])}",
        )

    def _pin(self, token: dict[str, Any]) -> tuple[Pin, PinSource, PinStanding]:
        """The PIN, if it may be tried, where it is from, and what is known of it. Raises ConfigurationError."""
        name = f"token {token['label']!r}"
        if self.pin is None:
            raise ConfigurationError(name, "wants a PIN: set hsm.pin_file, or pin-source in the key's URI")
        if token["pin_locked"]:
            raise ConfigurationError(name, "has locked its user PIN; unlock it with its security officer's PIN")
        pin = self.pin.read()
        standing = self.guard.standing(token["serial"], pin)
        if standing is PinStanding.REFUSED:
            raise ConfigurationError(
                self.pin.where,
                f"holds a PIN that {name} has refused before, or answered in no clear way; it is not tried again:"
                f" correct it, or remove {self.guard.file(token['serial'])} when it is right",
            )
        if token["pin_final_try"]:
            raise ConfigurationError(
                name, "locks itself at the next wrong PIN; log in once with its own tools, then start again"
            )
        return pin, self.pin, standing


_WRONG_PIN = frozenset({"PinIncorrect", "PinInvalid", "PinLenRange"})
"""What a token says of a wrong PIN, by python-pkcs11's names of the return codes."""
_NOBODY_LOGS_IN = frozenset({"PinExpired", "PinLocked", "UserPinNotInitialized"})
_PIN_NOT_JUDGED = frozenset({
    *_NOBODY_LOGS_IN, "CryptokiNotInitialized", "DeviceRemoved", "SessionClosed", "SessionCount",
    "SessionHandleInvalid", "SlotIDInvalid", "TokenNotPresent", "TokenNotRecognised",
    "TokenResourceExceeded", "UserAlreadyLoggedIn", "UserTooManyTypes",
})  # fmt: skip
"""What it says without having looked at the PIN. Whatever else it says, the PIN may have been wrong."""
