"""A signer process: one PKCS#11 module, one session, one request at a time.

python-pkcs11 is not thread-safe, and a vendor's library may hang or crash: here that costs a process and no server. It
is started with two file descriptors, that of its socket and that of a pipe whose end is its end. It imports nothing of
kipuka's server, and knows nothing that it is not told over the socket.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pkcs11
from pkcs11 import MGF, Mechanism, exceptions

from kipuka_hsm.messages import (
    MAX_BYTES,
    Failure,
    decode,
    encode,
    encode_signature,
    read_sign_head,
    split_sign,
    to_bytes,
)
from kipuka_hsm.objects import KeyNotThere, Refused, facts_of, find_private_key, generate, private_keys
from kipuka_hsm.text import shown
from kipuka_hsm.tokens import NotThere, find_token, list_tokens, token_facts

_PIN_EXCEPTIONS = (
    exceptions.PinExpired,
    exceptions.PinIncorrect,
    exceptions.PinInvalid,
    exceptions.PinLenRange,
    exceptions.PinLocked,
    exceptions.UserPinNotInitialized,
)
_REFUSED_EXCEPTIONS = (
    exceptions.ArgumentsBad,
    exceptions.AttributeReadOnly,
    exceptions.AttributeSensitive,
    exceptions.AttributeTypeInvalid,
    exceptions.AttributeValueInvalid,
    exceptions.DataInvalid,
    exceptions.DataLenRange,
    exceptions.DomainParamsInvalid,
    exceptions.ExceededMaxIterations,
    exceptions.FunctionNotSupported,
    exceptions.FunctionRejected,
    exceptions.KeyIndigestible,
    exceptions.KeyNeeded,
    exceptions.KeyNotNeeded,
    exceptions.KeyNotWrappable,
    exceptions.KeySizeRange,
    exceptions.KeyTypeInconsistent,
    exceptions.KeyUnextractable,
    exceptions.MechanismInvalid,
    exceptions.MechanismParamInvalid,
    exceptions.PublicKeyInvalid,
    exceptions.RandomNoRNG,
    exceptions.RandomSeedNotSupported,
    exceptions.SessionReadOnly,
    exceptions.TemplateIncomplete,
    exceptions.TemplateInconsistent,
    exceptions.TokenWriteProtected,
)
_REFUSED_CODES = {
    0x1B: "ActionProhibited",
    0x65: "KeyChanged",
    0x68: "KeyFunctionNotPermitted",
    0x140: "CurveNotSupported",
    0x203: "KeyExhausted",
}
_BUSY_CODES = {0x201: "TokenResourceExceeded"}
"""What python-pkcs11 has no classes for: CKR_… of PKCS#11 3.1."""
_LASTING_EXCEPTIONS = (AttributeError, LookupError, NotImplementedError, TypeError, ValueError)
"""Of Python: the same question gets the same answer."""
_UNMAPPED = re.compile(r"Unmapped error code (0x[0-9a-f]+)", re.ASCII)
_NO_SESSION = (
    "the token has no further session: lower `sessions` or `workers`; the admin listener's process has its own"
)
_PR_SET_DUMPABLE = 4
_MOST_TEXT = 2000


class SignerProcess:
    """What the process holds, and what it does with it."""

    def __init__(self) -> None:
        self._library: Any = None
        self._token: Any = None
        self._session: Any = None
        self._keys: list[Any] = []
        self._signing: dict[bytes, Callable[[bytes], bytes]] = {}
        """By the heads of requests."""
        self._requests: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "ready": lambda _: {},
            "load": self._load_only,
            "tokens": self._tokens,
            "open": self._open,
            "login": self._login,
            "keys": lambda _: {"keys": [facts_of(key) for key in private_keys(self._session)]},
            "find": self._find,
            "generate": self._generate,
        }

    def answer(self, datagram: bytes) -> bytes:
        """The answer to one request; what goes wrong is an answer too."""
        is_login = False
        try:
            parts = split_sign(datagram)
            if parts is not None:
                head, data = parts
                sign = self._signing.get(head) or self._prepare(head)
                return encode_signature(sign(data))
            request = decode(datagram)
            is_login = request["do"] == "login"
            return encode(self._requests[request["do"]](request))
        except Exception as error:  # noqa: BLE001  # an answer is better than the end of the process
            return _failure(*judged(error, is_login=is_login))

    def _load(self, path: str) -> Any:
        try:
            self._library = pkcs11.lib(path)
        except exceptions.PKCS11Error as error:
            why = str(error) or type(error).__name__
            raise Refused(f"the library {path} is no PKCS#11 module that can be used: {why}") from error
        except (RuntimeError, OSError) as error:  # dlopen or dlsym: its text names the file or the symbol
            raise Refused(f"the library {path} is no PKCS#11 module that can be loaded: {error}") from error
        return self._library

    def _load_only(self, request: dict[str, Any]) -> dict[str, Any]:
        self._load(request["library"])
        return {}

    def _tokens(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"tokens": list_tokens(self._load(request["library"]))}

    def _open(self, request: dict[str, Any]) -> dict[str, Any]:
        self._token = find_token(self._load(request["library"]), dict(request["texts"]), request["slot_id"])
        mechanisms = [each.name for each in self._token.slot.get_mechanisms() if isinstance(each, Mechanism)]
        return {"token": token_facts(self._token), "mechanisms": mechanisms}

    def _login(self, request: dict[str, Any]) -> dict[str, Any]:
        self._session = self._token.open(rw=request["rw"], user_pin=request["pin"])
        return {}

    def _find(self, request: dict[str, Any]) -> dict[str, Any]:
        wanted_id = None if request["id"] is None else to_bytes(request["id"])
        key = find_private_key(self._session, request["label"], wanted_id)
        self._keys.append(key)
        return {"number": len(self._keys) - 1, "key": facts_of(key, with_public=True)}

    def _prepare(self, head: bytes) -> Callable[[bytes], bytes]:
        key_number, wanted = read_sign_head(head)
        parameter = None
        if wanted.pss_hash:
            parameter = (Mechanism[wanted.pss_hash], MGF[wanted.pss_hash.replace("_", "")], wanted.salt_bytes)
        sign = partial(self._keys[key_number].sign, mechanism=Mechanism[wanted.mechanism], mechanism_param=parameter)
        self._signing[head] = sign
        return sign

    def _generate(self, request: dict[str, Any]) -> dict[str, Any]:
        generate(self._session, request["key_type"], request["label"], to_bytes(request["id"]))
        return {}


def judged(error: Exception, *, is_login: bool) -> tuple[Failure, str]:
    """What follows from an error, and its line.

    What a foreign exception says may hold anything, a PIN too: only its name is told.
    """
    if isinstance(error, Refused):
        return Failure.UNUSABLE, str(error)
    if isinstance(error, (KeyNotThere, NotThere)):
        return Failure.ABSENT, str(error)
    if isinstance(error, exceptions.PKCS11Error):
        return _judged_by_token(error, is_login=is_login)
    if isinstance(error, _LASTING_EXCEPTIONS):
        return Failure.UNUSABLE, f"what the token answers cannot be read: {type(error).__name__}"
    return Failure.LOST, f"the signer process failed: {type(error).__name__}"


def _judged_by_token(error: exceptions.PKCS11Error, *, is_login: bool) -> tuple[Failure, str]:
    """A PIN is a matter of logging in: elsewhere no other one, and no other session, helps.

    The first word of the line is the name of the token's answer: whoever logs in looks at that.
    """
    name, text = type(error).__name__, str(error)
    unmapped = _UNMAPPED.fullmatch(text)
    code = int(unmapped.group(1), 16) if unmapped else 0
    if isinstance(error, _PIN_EXCEPTIONS):
        return Failure.PIN if is_login else Failure.UNUSABLE, f"{name} {text}".strip()
    if isinstance(error, exceptions.SessionCount) or code in _BUSY_CODES:
        return Failure.BUSY, f"{_BUSY_CODES.get(code, name)} ({_NO_SESSION})"
    if code in _REFUSED_CODES:
        return Failure.REFUSED, _REFUSED_CODES[code]
    is_refused = isinstance(error, _REFUSED_EXCEPTIONS)
    return Failure.REFUSED if is_refused else Failure.LOST, f"{name} {text}".strip()


def _failure(kind: Failure, text: str) -> bytes:
    return encode({"failure": kind, "text": shown(text, _MOST_TEXT)})


def serve(requests: socket.socket) -> None:
    """Answer until the other end is closed."""
    process = SignerProcess()
    room = memoryview(bytearray(MAX_BYTES + 1))
    while True:
        size = requests.recv_into(room)
        if not size:
            return
        if size > MAX_BYTES:
            # The rest is gone, and a signature of the beginning would be one of something else.
            answer = _failure(Failure.UNUSABLE, f"a request of more than {MAX_BYTES} bytes is not taken")
        else:
            answer = process.answer(bytes(room[:size]))
        if len(answer) > MAX_BYTES:
            answer = _failure(Failure.UNUSABLE, "the token holds too many objects to list")
        requests.send(answer)


def main() -> None:
    """Run as ``python -m kipuka_hsm.signer_process SOCKET_FD LIFELINE_FD``."""
    socket_fd, lifeline_fd = (int(argument) for argument in sys.argv[1:3])
    # The server's signals reach the whole process group; its processes end when those that use them do.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _leave_no_memory()
    _die_with_owner(lifeline_fd)
    with socket.socket(fileno=socket_fd) as requests:
        serve(requests)
    # Without C_Finalize: a library that hangs in it would outlive its owner.
    os._exit(0)


def _leave_no_memory() -> None:
    """Neither a core file nor a debugger of the same user gets to see the PIN."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # a C library without prctl
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _die_with_owner(lifeline_fd: int) -> None:
    """End when the other end of this pipe is closed, which is the owner's end.

    A thread waits for that. A library that hangs may hold the interpreter's lock, without which no thread runs; where
    it can, the system kills the process.
    """
    threading.Thread(target=_end_with_owner, args=(lifeline_fd,), daemon=True).start()
    if sys.platform == "linux":
        fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline_fd, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, fcntl.fcntl(lifeline_fd, fcntl.F_GETFL) | os.O_ASYNC)
        poll = select.poll()  # not select(), which takes no descriptor beyond 1023
        poll.register(lifeline_fd, select.POLLIN)
        if poll.poll(0):  # closed before the system was told
            os._exit(0)


def _end_with_owner(lifeline_fd: int) -> None:
    os.read(lifeline_fd, 1)
    os._exit(0)


if __name__ == "__main__":
    main()
