"""A signer process: one PKCS#11 module, one session, one request at a time.

python-pkcs11 is not thread-safe, and a vendor's library may hang or crash: here that costs a process and no server. It
is started with two file descriptors, that of its socket and that of a pipe whose end is its end. It imports nothing of
kipuka's server, and knows nothing that it is not told over the socket.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import pkcs11
from pkcs11 import MGF, Mechanism, exceptions

from kipuka_hsm.messages import MAX_BYTES, Failure, SignRequest, decode, decode_sign, encode, encode_signature, to_bytes
from kipuka_hsm.objects import KeyNotThere, Refused, facts_of, find_private_key, generate, private_keys
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
    exceptions.AttributeTypeInvalid,
    exceptions.AttributeValueInvalid,
    exceptions.DataInvalid,
    exceptions.DataLenRange,
    exceptions.DomainParamsInvalid,
    exceptions.FunctionNotSupported,
    exceptions.KeySizeRange,
    exceptions.KeyTypeInconsistent,
    exceptions.MechanismInvalid,
    exceptions.MechanismParamInvalid,
    exceptions.SessionReadOnly,
    exceptions.TemplateIncomplete,
    exceptions.TemplateInconsistent,
    exceptions.TokenWriteProtected,
)


class SignerProcess:
    """What the process holds, and what it does with it."""

    def __init__(self) -> None:
        self._library: Any = None
        self._token: Any = None
        self._session: Any = None
        self._keys: list[Any] = []
        self._requests: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "tokens": self._tokens,
            "open": self._open,
            "login": self._login,
            "keys": lambda _: {"keys": [facts_of(key) for key in private_keys(self._session)]},
            "find": self._find,
            "generate": self._generate,
        }

    def answer(self, datagram: bytes) -> bytes:
        """The answer to one request; what goes wrong is an answer too."""
        try:
            wanted = decode_sign(datagram)
            if wanted is not None:
                return encode_signature(self._sign(wanted))
            request = decode(datagram)
            return encode(self._requests[request["do"]](request))
        except Refused as error:
            return _failure(Failure.UNUSABLE, str(error))
        except (KeyNotThere, NotThere) as error:
            return _failure(Failure.ABSENT, str(error))
        except exceptions.PKCS11Error as error:
            return _failure(_kind_of(error), f"{type(error).__name__} {error}".strip())

    def _load(self, path: str) -> Any:
        try:
            self._library = pkcs11.lib(path)
        except exceptions.PKCS11Error as error:
            why = str(error) or type(error).__name__
            raise Refused(f"the library {path} is no PKCS#11 module that can be used: {why}") from error
        except (RuntimeError, OSError) as error:  # dlopen or dlsym: its text names the file or the symbol
            raise Refused(f"the library {path} is no PKCS#11 module that can be loaded: {error}") from error
        return self._library

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

    def _sign(self, wanted: SignRequest) -> bytes:
        parameter = None
        if wanted.pss_hash:
            parameter = (Mechanism[wanted.pss_hash], MGF[wanted.pss_hash.replace("_", "")], wanted.salt_bytes)
        key = self._keys[wanted.key]
        signature: bytes = key.sign(wanted.data, mechanism=Mechanism[wanted.mechanism], mechanism_param=parameter)
        return signature

    def _generate(self, request: dict[str, Any]) -> dict[str, Any]:
        generate(self._session, request["key_type"], request["label"], to_bytes(request["id"]))
        return {}


def _kind_of(error: exceptions.PKCS11Error) -> Failure:
    if isinstance(error, _PIN_EXCEPTIONS):
        return Failure.PIN
    if isinstance(error, exceptions.SessionCount):
        return Failure.BUSY
    return Failure.REFUSED if isinstance(error, _REFUSED_EXCEPTIONS) else Failure.LOST


def _failure(kind: Failure, text: str) -> bytes:
    return encode({"failure": kind, "text": text})


def serve(requests: socket.socket) -> None:
    """Answer until the other end is closed."""
    process = SignerProcess()
    while datagram := requests.recv(MAX_BYTES):
        answer = process.answer(datagram)
        if len(answer) > MAX_BYTES:
            answer = _failure(Failure.UNUSABLE, "the token holds too many objects to list")
        requests.send(answer)


def main() -> None:
    """Run as ``python -m kipuka_hsm.signer_process SOCKET_FD LIFELINE_FD``."""
    socket_fd, lifeline_fd = (int(argument) for argument in sys.argv[1:3])
    # The server's signals reach the whole process group; its processes end when those that use them do.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the PIN
    threading.Thread(target=_end_with_owner, args=(lifeline_fd,), daemon=True).start()
    with socket.socket(fileno=socket_fd) as requests:
        serve(requests)
    # Without C_Finalize: a library that hangs in it would outlive its owner.
    os._exit(0)


def _end_with_owner(lifeline_fd: int) -> None:
    os.read(lifeline_fd, 1)
    os._exit(0)


if __name__ == "__main__":
    main()
