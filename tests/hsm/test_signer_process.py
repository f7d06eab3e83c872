"""What a signer process makes of requests, errors and libraries that nobody expects."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pkcs11 import exceptions

from kipuka_core.testing.pki import make_key
from kipuka_core.testing.server import wait_until
from kipuka_hsm.messages import (
    MAX_BYTES,
    MAX_DATA_BYTES,
    Failure,
    TokenSignature,
    decode,
    encode,
    read_sign_head,
    sign_head,
)
from kipuka_hsm.process import Process, TokenFailed
from kipuka_hsm.signer_process import SignerProcess, judged
from tests.hsm.softhsm import LIBRARY, PIN, FaultyModule, SoftHsm

REFUSED = {
    "ActionProhibited": 0x1B,
    "KeyNeeded": 0x66,
    "KeyFunctionNotPermitted": 0x68,
    "MechanismInvalid": 0x70,
    "CurveNotSupported": 0x140,
    "FunctionRejected": 0x200,
    "KeyExhausted": 0x203,
}
PIN_CODES = {"PinIncorrect": 0xA0, "PinExpired": 0xA3, "PinLocked": 0xA4, "UserPinNotInitialized": 0x102}


class Asked:
    """A signer process by its socket, as its owner has it."""

    def __init__(
        self, requests: socket.socket, popen: subprocess.Popen[bytes], close_lifeline: Callable[[], None]
    ) -> None:
        self._requests = requests
        self.popen = popen
        self.close_lifeline = close_lifeline

    def send(self, datagram: bytes) -> None:
        self._requests.send(datagram)

    def raw(self, datagram: bytes) -> dict[str, Any]:
        self.send(datagram)
        return decode(self._requests.recv(MAX_BYTES))

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        return self.raw(encode({"do": do, **fields}))

    def log_in(self, library: Path = LIBRARY, pin: str = PIN) -> dict[str, Any]:
        opened = self.ask("open", library=str(library), texts=[["token", "kipuka"]], slot_id=None)
        assert opened["token"]["label"] == "kipuka"
        return self.ask("login", pin=pin, rw=False)


@contextmanager
def signer_process() -> Iterator[Asked]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MAX_BYTES)
    lifeline_read, lifeline_write = os.pipe()
    popen = subprocess.Popen(
        [sys.executable, "-m", "kipuka_hsm.signer_process", str(theirs.fileno()), str(lifeline_read)],
        pass_fds=(theirs.fileno(), lifeline_read),
    )
    theirs.close()
    os.close(lifeline_read)
    ends = [lifeline_write]
    try:
        yield Asked(ours, popen, lambda: os.close(ends.pop()))
    finally:
        popen.kill()
        popen.wait()
        ours.close()
        for end in ends:
            os.close(end)


@pytest.fixture(scope="module")
def stuck_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("stuck") / "stuck.so"
    source = Path(__file__).with_name("stuck.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source], check=True)
    return library


@pytest.mark.skipif(sys.platform != "linux", reason="signals from a pipe and prctl are Linux's")
def test_a_library_that_hangs_while_it_is_loaded_ends_with_its_owner_and_leaves_no_core(
    stuck_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    monkeypatch.setenv("STUCK_FILE", str(told))
    with signer_process() as process:
        process.send(encode({"do": "tokens", "library": str(stuck_library)}))
        wait_until(lambda: told.exists() and told.read_text().endswith("\n"))
        assert process.popen.poll() is None
        process.close_lifeline()
        wait_until(lambda: process.popen.poll() is not None)
    assert told.read_text() == "dumpable=0 core=0\n"


@pytest.mark.usefixtures("hsm")
def test_a_request_that_is_too_long_is_never_cut() -> None:
    with signer_process() as process:
        process.log_in()
        for first in (b"\x01", b"{"):
            answer = process.raw(first + bytes(MAX_BYTES))
            assert answer["failure"] == "unusable"
            assert "is not taken" in answer["text"]
        assert process.ask("keys") == {"keys": []}


def test_what_does_not_fit_into_a_request_is_an_error() -> None:
    wanted = TokenSignature("SHA256_RSA_PKCS_PSS", b"", "SHA256", 65535)
    head = sign_head(65535, wanted)
    assert len(head) + MAX_DATA_BYTES <= MAX_BYTES
    assert read_sign_head(head) == (65535, wanted)
    for number, wrong in (
        (65536, wanted),
        (0, wanted._replace(salt_bytes=65536)),
        (0, wanted._replace(salt_bytes=-1)),
        (0, wanted._replace(mechanism="X" * 256)),
        (0, wanted._replace(pss_hash="X" * 250)),
    ):
        with pytest.raises(ValueError, match="out of range"):
            sign_head(number, wrong)


def test_more_data_than_fits_is_refused_and_costs_no_session(hsm: SoftHsm) -> None:
    hsm.import_key("issuing", make_key())
    process = Process()
    try:
        with pytest.raises(TokenFailed, match="too many to be signed at once") as refused:
            process.sign(sign_head(0, TokenSignature("ECDSA", b"")), bytes(MAX_DATA_BYTES + 1), 5)
        assert refused.value.kind is Failure.REFUSED
        assert not process.is_gone
    finally:
        process.kill()


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_any_request_has_an_answer(datagram: bytes) -> None:
    assert decode(SignerProcess().answer(datagram))["failure"] in {"unusable", "lost"}


@pytest.mark.parametrize(
    "request_text", [b"{}", b'{"do":"no"}', b'{"do":"keys"}', b'{"do":"login","pin":"hunter2","rw":false}', b"[1]"]
)
def test_what_the_process_does_not_understand_is_unusable_and_quotes_nothing(request_text: bytes) -> None:
    answer = decode(SignerProcess().answer(request_text))
    assert answer["failure"] == "unusable"
    assert "hunter2" not in answer["text"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_asking_again_does_not_change_is_refused(hsm: SoftHsm, faulty: FaultyModule, name: str) -> None:
    hsm.import_key("issuing", make_key())
    with signer_process() as process:
        process.log_in(faulty.library)
        number = process.ask("find", label="issuing", id=None)["number"]
        faulty.order(f"C_SignInit return {REFUSED[name]:#x}")
        answer = process.raw(sign_head(number, TokenSignature("ECDSA", b"")) + bytes(32))
        assert (answer["failure"], answer["text"]) == ("refused", name)


@pytest.mark.parametrize("name", PIN_CODES)
def test_a_pin_is_refused_at_a_login_only(hsm: SoftHsm, faulty: FaultyModule, name: str) -> None:
    hsm.import_key("issuing", make_key())
    with signer_process() as process:
        faulty.order(f"C_Login return {PIN_CODES[name]:#x}")
        assert process.log_in(faulty.library) == {"failure": "pin", "text": name}
        faulty.order(f"C_SignInit return {PIN_CODES[name]:#x}")
        process.log_in(faulty.library)
        number = process.ask("find", label="issuing", id=None)["number"]
        answer = process.raw(sign_head(number, TokenSignature("ECDSA", b"")) + bytes(32))
        assert answer == {"failure": "unusable", "text": name}


@pytest.mark.parametrize(("code", "name"), [(0xB1, "SessionCount"), (0x201, "TokenResourceExceeded")])
@pytest.mark.usefixtures("hsm")
def test_a_token_without_a_further_session_says_what_to_lower(faulty: FaultyModule, code: int, name: str) -> None:
    faulty.order(f"C_OpenSession return {code:#x}")
    with signer_process() as process:
        answer = process.log_in(faulty.library)
        assert answer["failure"] == "busy"
        assert answer["text"].split()[0] == name
        assert "lower `sessions` or `workers`" in answer["text"]


def test_every_code_that_has_a_class_is_judged_on_purpose() -> None:
    """A class that a new python-pkcs11 brings has to be looked at once."""
    recoverable = {
        "AnotherUserAlreadyLoggedIn", "DeviceError", "DeviceMemory", "DeviceRemoved", "FunctionCancelled",
        "FunctionFailed", "GeneralError", "HostMemory", "KeyHandleInvalid", "ObjectHandleInvalid", "OperationActive",
        "OperationNotInitialized", "PKCS11Error", "SessionClosed", "SessionExists", "SessionHandleInvalid",
        "SessionReadOnlyExists", "SessionReadWriteSOExists", "SlotIDInvalid", "TokenNotPresent", "TokenNotRecognised",
        "UserAlreadyLoggedIn", "UserNotLoggedIn", "UserTooManyTypes",
    }  # fmt: skip
    of_other_functions = {
        "EncryptedDataInvalid", "EncryptedDataLenRange", "MultipleObjectsReturned", "MultipleTokensReturned", "NoEvent",
        "NoSuchKey", "NoSuchToken", "PinTooWeak", "SignatureInvalid", "SignatureLenRange", "UnwrappingKeyHandleInvalid",
        "UnwrappingKeySizeRange", "UnwrappingKeyTypeInconsistent", "WrappedKeyInvalid", "WrappedKeyLenRange",
        "WrappingKeyHandleInvalid", "WrappingKeySizeRange", "WrappingKeyTypeInconsistent",
    }  # fmt: skip
    classes = {name: kind for name, kind in vars(exceptions).items() if isinstance(kind, type)}
    kinds = {name: judged(kind(), is_login=True)[0] for name, kind in classes.items()}
    assert {name for name, kind in kinds.items() if kind == "lost"} == recoverable | of_other_functions
