"""What goes wrong below a key: hangs, crashes, lost sessions, tokens that come back, PINs that are wrong."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from kipuka_core import ConfigurationError, Event, KeyStore, Signer, TokenHealth, Unavailable
from kipuka_core.testing.pki import make_key
from kipuka_core.testing.server import wait_until
from kipuka_core.testing.services import make_services
from kipuka_hsm.store import PROVIDER
from tests.hsm.softhsm import PIN, FaultyModule, SoftHsm

URI = "pkcs11:token=kipuka;object=issuing"
LOST = {
    "CKR_GENERAL_ERROR": 0x5,
    "CKR_FUNCTION_FAILED": 0x6,
    "CKR_DEVICE_ERROR": 0x30,
    "CKR_DEVICE_REMOVED": 0x32,
    "CKR_KEY_HANDLE_INVALID": 0x60,
    "CKR_OBJECT_HANDLE_INVALID": 0x82,
    "CKR_SESSION_CLOSED": 0xB0,
    "CKR_SESSION_HANDLE_INVALID": 0xB3,
    "CKR_TOKEN_NOT_PRESENT": 0xE0,
    "CKR_USER_NOT_LOGGED_IN": 0x101,
    "CKR_CRYPTOKI_NOT_INITIALIZED": 0x190,
    "a vendor's own": 0x80000042,
}


@dataclass
class Opened:
    """A key store, what it warned of, and the events that it told."""

    store: KeyStore
    events: list[Event] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    async def tokens(self) -> Sequence[TokenHealth]:
        return await self.store.tokens()

    def names(self) -> list[str]:
        return [event.name for event in self.events]


@asynccontextmanager
async def opened(hsm: SoftHsm, **settings: Any) -> AsyncIterator[Opened]:
    events: list[Event] = []
    warnings: list[str] = []

    async def emit(event: Event) -> None:
        events.append(event)

    services = make_services(hsm.directory, emit=emit, warn=warnings.append)
    defaults: dict[str, Any] = {"pin_file": hsm.pin_file, "sessions": 2, "retry": 1, "timeout": 5}
    async with PROVIDER.open(PROVIDER.settings(**(defaults | settings)), services) as store:
        yield Opened(store, events, warnings)


async def sign(signer: Signer) -> None:
    """A signature that verifies."""
    assert signer.run_blocking is not None
    algorithm = ec.ECDSA(hashes.SHA256())
    key: Any = signer.private_key
    signature = await signer.run_blocking(key.sign, b"data", algorithm)
    key.public_key().verify(signature, b"data", algorithm)


async def sign_until_refused(signer: Signer) -> None:
    """SoftHSM notices that its files have gone when it looks at them again."""
    while True:
        await sign(signer)


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, condition)


async def all_sessions_are_open(each: Opened) -> None:
    """Wait for it."""
    loop = asyncio.get_running_loop()

    def healthy() -> bool:
        (token,) = asyncio.run_coroutine_threadsafe(each.tokens(), loop).result()
        return not token.problem and token.sessions_open == token.sessions

    await until(healthy)


async def works_again(signer: Signer, each: Opened) -> None:
    """It signs, all sessions are open, and the events say so."""
    await all_sessions_are_open(each)
    await sign(signer)
    await each.store.ping()
    await until(lambda: each.names()[-2:] == ["hsm_lost", "hsm_recovered"])


@pytest.fixture
def key(hsm: SoftHsm) -> None:
    hsm.import_key("issuing", make_key())


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("fault", ["hang-once", "crash-once"])
async def test_a_call_that_hangs_or_crashes_costs_a_process_and_no_signature(
    hsm: SoftHsm, faulty: FaultyModule, fault: str
) -> None:
    async with opened(hsm, library=faulty.library, timeout=2) as each:
        signer = await each.store.signer(URI)
        faulty.order(f"C_Sign {fault}")
        await sign(signer)
        await works_again(signer, each)
        (lost,) = [event for event in each.events if event.name == "hsm_lost"]
        assert lost.reason in {"the token gave no answer within 2 s", "the signer process was ended by SIGSEGV"}


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("fault", ["hang", "crash", "return 0x30"])
async def test_a_token_that_never_signs_is_503_until_it_does(hsm: SoftHsm, faulty: FaultyModule, fault: str) -> None:
    async with opened(hsm, library=faulty.library, timeout=2) as each:
        signer = await each.store.signer(URI)
        faulty.order(f"C_Sign {fault}")
        for _ in range(3):
            with pytest.raises(Unavailable, match="cannot be used now") as caught:
                await sign(signer)
            assert caught.value.code == "hsm_unavailable"
            assert caught.value.retry_after_seconds > 0
        faulty.behave()
        await works_again(signer, each)


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("name", LOST)
async def test_what_says_that_a_session_is_gone_opens_another_one(
    hsm: SoftHsm, faulty: FaultyModule, name: str
) -> None:
    async with opened(hsm, library=faulty.library) as each:
        signer = await each.store.signer(URI)
        logins = faulty.count("C_Login")
        faulty.order(f"C_Sign return-once {LOST[name]:#x}")
        await sign(signer)
        await works_again(signer, each)
        # The idle one too: what ended this session has ended that one, perhaps.
        assert faulty.count("C_Login") == logins + 2


@pytest.mark.usefixtures("key")
async def test_what_the_token_does_not_do_is_refused_and_loses_no_session(hsm: SoftHsm, faulty: FaultyModule) -> None:
    async with opened(hsm, library=faulty.library) as each:
        signer = await each.store.signer(URI)
        faulty.order("C_SignInit return 0x70")  # CKR_MECHANISM_INVALID
        with pytest.raises(Exception, match="MechanismInvalid"):
            await sign(signer)
        faulty.behave()
        await sign(signer)
        assert each.names() == ["hsm_logged_in"]


@pytest.mark.usefixtures("key")
async def test_a_token_that_is_taken_away_and_brought_back_serves_without_a_restart(hsm: SoftHsm) -> None:
    async with opened(hsm) as each:
        signer = await each.store.signer(URI)
        hsm.wipe()
        with pytest.raises(Unavailable):
            await sign_until_refused(signer)
        with pytest.raises(Unavailable):
            await each.store.ping()
        (token,) = await each.store.tokens()
        assert re.match("no (token|private key) matches", token.problem)
        hsm.restore()
        await works_again(signer, each)


@pytest.mark.usefixtures("key")
async def test_another_key_under_the_same_name_is_not_used(hsm: SoftHsm, faulty: FaultyModule) -> None:
    async with opened(hsm, library=faulty.library) as each:
        signer = await each.store.signer(URI)
        hsm.delete_key("issuing")
        hsm.import_key("issuing", make_key())
        faulty.order("C_Sign crash")
        with pytest.raises(Unavailable):
            await sign(signer)
        faulty.behave()
        with pytest.raises(Unavailable):
            await sign(signer)
        await until(lambda: each.names()[-1] == "hsm_recovered")
        with pytest.raises(Unavailable):
            await sign(signer)


@pytest.mark.usefixtures("key")
async def test_a_wrong_pin_is_tried_once_whatever_is_started_how_often(hsm: SoftHsm, faulty: FaultyModule) -> None:
    hsm.pin_file.write_text("0000-wrong\n")
    for attempt in range(3):
        async with opened(hsm, library=faulty.library, sessions=4) as each:
            with pytest.raises(ConfigurationError) as caught:
                await each.store.signer(URI)
            assert "0000-wrong" not in str(caught.value)
            assert ("tried once" if attempt == 0 else "not tried again") in str(caught.value)
            assert str(hsm.pin_file) in str(caught.value)
    assert faulty.count("C_Login") == 1
    hsm.pin_file.write_text(f"{PIN}\n")
    async with opened(hsm, library=faulty.library, sessions=4) as each:
        await sign(await each.store.signer(URI))
    (memory,) = (hsm.directory / "hsm").glob("*.pins")
    assert PIN not in memory.read_text()
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    hsm.pin_file.write_text("0000-wrong\n")
    async with opened(hsm, library=faulty.library) as each:
        with pytest.raises(ConfigurationError, match="not tried again"):
            await each.store.signer(URI)


_OPEN = """
    import asyncio, sys
    from pathlib import Path
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from kipuka_core.testing.services import make_services
    from kipuka_hsm.store import PROVIDER

    def sign(signer):
        signer.private_key.sign(b"data", ec.ECDSA(hashes.SHA256()))

    async def main():
        settings = PROVIDER.settings(library={library!r}, pin_file={pin_file!r}, sessions=3)
        async with PROVIDER.open(settings, make_services(Path({directory!r}))) as store:
            signer = await store.signer({uri!r})
            print("open", flush=True)
            {then}

    asyncio.run(main())
    """


def program(hsm: SoftHsm, library: Path, then: str = "pass") -> subprocess.Popen[str]:
    """A process that opens the key as a server's worker does."""
    source = _OPEN.format(
        library=str(library), pin_file=str(hsm.pin_file), directory=str(hsm.directory), uri=URI, then=then
    )
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("key")
def test_processes_that_start_at_once_try_a_wrong_pin_once(hsm: SoftHsm, faulty: FaultyModule) -> None:
    hsm.pin_file.write_text("0000-wrong\n")
    workers = [program(hsm, faulty.library) for _ in range(3)]
    errors = [worker.communicate(timeout=60)[1] for worker in workers]
    assert all(worker.returncode for worker in workers)
    assert sum("tried once" in error for error in errors) == 1
    assert sum("not tried again" in error for error in errors) == 2
    assert faulty.count("C_Login") == 1


def signer_processes(parent: int) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(file.parent.name))
    return found


def what_is_seen_of(pid: int) -> bytes:
    """Command line and environment of a process."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("is_hanging", [False, True], ids=["idle", "in a call that hangs"])
def test_signer_processes_end_with_a_server_that_is_killed(
    hsm: SoftHsm, faulty: FaultyModule, is_hanging: bool
) -> None:
    worker = program(hsm, faulty.library, "sys.stdin.readline()\n            sign(signer)")
    assert worker.stdin is not None
    assert worker.stdout is not None
    assert worker.stderr is not None
    assert worker.stdout.readline() == "open\n"
    children = signer_processes(worker.pid)
    assert len(children) == 3
    if is_hanging:
        faulty.order("C_Sign hang")
        before = faulty.count("C_Sign")
        worker.stdin.write("\n")
        worker.stdin.flush()
        wait_until(lambda: faulty.count("C_Sign") > before)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    for end in (worker.stdin, worker.stdout, worker.stderr):
        end.close()
    wait_until(lambda: all(is_gone(pid) for pid in children))


@pytest.mark.usefixtures("key")
async def test_a_token_with_too_few_sessions_serves_with_those(hsm: SoftHsm, faulty: FaultyModule) -> None:
    faulty.order("C_OpenSession most 2")
    async with opened(hsm, library=faulty.library, sessions=4) as each:
        signer = await each.store.signer(URI)
        await asyncio.gather(*(sign(signer) for _ in range(20)))
        (token,) = await each.store.tokens()
        assert (token.sessions_open, token.sessions) == (2, 4)
        assert "SessionCount" in token.problem
        faulty.behave()
        await all_sessions_are_open(each)
        await sign(signer)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("pkcs11:token=kipuka;object=missing", ("no private key matches object=missing", "object=issuing")),
        ("pkcs11:token=other;object=issuing", ("no token matches token=other", "token=kipuka;serial=")),
        ("pkcs11:token=kipuka", ("2 private keys match", "object=issuing", "object=second")),
        ("pkcs11:token=kipuka;object=issuing;id=%09", ("no private key matches object=issuing;id=%09",)),
        ("pkcs11:object=issuing?module-path=/nonexistent.so", ("/nonexistent.so does not exist",)),
        ("pkcs11:object=issuing?module-path=/bin/sh", ("no PKCS#11 module that can be used",)),
        ("pkcs11:object=issuing?pin-source=/nonexistent-pin", ("/nonexistent-pin", "cannot be read")),
        ("pkcs11:object=issuing?pin-source=|/bin/echo", ("commands are not run",)),
        ("pkcs11:object=issuing?pin-source=https://pins.example", ("https: is not read",)),
        ("pkcs11:slot-id=7;object=issuing", ("no token matches",)),
    ],
)
async def test_what_does_not_fit_is_one_line_that_says_so(hsm: SoftHsm, uri: str, words: tuple[str, ...]) -> None:
    hsm.import_key("issuing", make_key())
    hsm.import_key("second", make_key(), "02")
    async with opened(hsm) as each:
        with pytest.raises(ConfigurationError) as caught:
            await each.store.signer(uri)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert caught.value.where == uri
    for word in words:
        assert word in text


async def test_two_keys_of_one_name_are_an_error_that_lists_them(hsm: SoftHsm) -> None:
    hsm.import_key("issuing", make_key(), "01")
    hsm.import_key("issuing", make_key(), "02")
    async with opened(hsm) as each:
        with pytest.raises(ConfigurationError, match=r"id=%01 \(EC\), object=issuing;id=%02|id=%02 \(EC\), object"):
            await each.store.signer(URI)
        await sign(await each.store.signer(f"{URI};id=%02"))


async def test_two_tokens_of_one_name_are_an_error_that_lists_their_serials(hsm: SoftHsm) -> None:
    hsm.make_token()
    async with opened(hsm) as each:
        with pytest.raises(ConfigurationError, match=r"2 tokens match .*serial=.*serial=.*add serial="):
            await each.store.signer(URI)


@pytest.mark.usefixtures("key")
async def test_the_pin_is_nowhere_to_be_seen(hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSM_PIN", PIN)
    monkeypatch.setenv("OTHER_PASSWORD", "other-secret")
    async with opened(hsm, pin_file=None, pin_env="HSM_PIN") as each:
        await sign(await each.store.signer(URI))
        seen = [what_is_seen_of(pid) for pid in signer_processes(os.getpid())]
        assert sum(b"signer_process" in each for each in seen) == 2
        assert not [
            each for each in seen if b"signer_process" in each and (PIN.encode() in each or b"other-secret" in each)
        ]
    async with opened(hsm, pin_file=None) as each:
        await sign(await each.store.signer(f"{URI}?pin-value={PIN}"))
        shown = [repr(each.store), *each.warnings, *map(repr, each.events)]
        assert "the PIN stands in the configuration" in each.warnings[0]
        assert not [text for text in shown if PIN in text]


@pytest.mark.usefixtures("key")
async def test_a_variable_that_looks_like_a_secret_is_passed_on_where_it_is_named(
    hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_SECRET", "wanted-by-the-module")
    monkeypatch.setenv("OTHER_SECRET", "not-for-the-module")
    async with opened(hsm, environment=("VENDOR_SECRET",)) as each:
        await sign(await each.store.signer(URI))
        seen = [what_is_seen_of(pid) for pid in signer_processes(os.getpid())]
        seen = [each for each in seen if b"signer_process" in each]
    assert len(seen) == 2
    assert all(b"wanted-by-the-module" in each for each in seen)
    assert not [each for each in seen if b"not-for-the-module" in each]
