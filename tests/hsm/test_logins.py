"""A PIN that may be wrong reaches the token once, however it answers; one that has worked is tried whenever needed."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kipuka_core import ConfigurationError
from kipuka_core.testing.pki import make_key
from kipuka_hsm.login import LoginGuard
from tests.hsm.softhsm import PIN, SO_PIN, FaultyModule, SoftHsm
from tests.hsm.test_faults import URI, Opened, is_gone, opened, sign, signer_processes, until, works_again


@pytest.fixture(autouse=True)
def key(hsm: SoftHsm) -> None:
    hsm.import_key("issuing", make_key())


async def refusal(each: Opened, uri: str = URI) -> str:
    with pytest.raises(ConfigurationError) as caught:
        await each.store.signer(uri)
    assert PIN not in str(caught.value)
    return str(caught.value)


async def kill_signers() -> None:
    """As the kernel does when memory is short; return when they have ended."""
    found = signer_processes(os.getpid())
    for process in found:
        os.kill(process, signal.SIGKILL)
    await until(lambda: all(has_ended(process) for process in found))


def has_ended(process: int) -> bool:
    """Whether its sockets are closed: its first thread may have ended while another one has not."""
    try:
        return is_gone(process) and len(list(Path(f"/proc/{process}/task").iterdir())) <= 1
    except (FileNotFoundError, ProcessLookupError):
        return True


def highest_descriptor() -> int:
    return max(int(file.name) for file in Path("/proc/self/fd").iterdir())


def memory(hsm: SoftHsm) -> Path:
    (file,) = (hsm.directory / "hsm").glob("*.pins")
    return file


@pytest.mark.parametrize("fault", ["hang", "crash", "return 0x6", "return 0x5", "return 0x80000001"])
async def test_a_login_without_a_clear_answer_is_not_repeated(hsm: SoftHsm, faulty: FaultyModule, fault: str) -> None:
    faulty.order(f"C_Login {fault}")
    for attempt in range(3):
        async with opened(hsm, library=faulty.library, timeout=2, retry=1) as each:
            words = await refusal(each)
            assert ("gave no clear answer" if attempt == 0 else "is not tried again") in words
            assert str(memory(hsm)) in words
    assert faulty.count("C_Login") == 1
    faulty.behave()
    memory(hsm).unlink()
    async with opened(hsm, library=faulty.library) as each:
        await sign(await each.store.signer(URI))


@pytest.mark.parametrize("fault", ["return-once 0x30", "return-once 0x5", "hang-once", "crash-once"])
async def test_a_pin_that_has_worked_is_tried_again(hsm: SoftHsm, faulty: FaultyModule, fault: str) -> None:
    async with opened(hsm, library=faulty.library, timeout=2) as each:
        signer = await each.store.signer(URI)
        faulty.order(f"C_Login {fault}")
        await kill_signers()
        await works_again(signer, each)


async def test_a_pin_that_has_worked_and_is_refused_is_not_tried_again(hsm: SoftHsm, faulty: FaultyModule) -> None:
    async with opened(hsm, library=faulty.library) as each:
        signer = await each.store.signer(URI)
        tool = ("pkcs11-tool", "--module", "/usr/lib/softhsm/libsofthsm2.so", "--token-label", "kipuka")
        hsm.run(*tool, "--login", "--pin", PIN, "--change-pin", "--new-pin", "another-4711")
        logins = faulty.count("C_Login")
        await kill_signers()
        await until(lambda: faulty.count("C_Login") > logins)
        await until(lambda: each.names().count("hsm_lost") == 1)
        began = time.monotonic()
        await until(lambda: time.monotonic() > began + 1.5)  # longer than the longest pause between attempts
        assert faulty.count("C_Login") == logins + 1
        hsm.pin_file.write_text("another-4711\n")
        await works_again(signer, each)


async def test_a_right_pin_does_not_make_a_wrong_one_be_tried_again(hsm: SoftHsm, faulty: FaultyModule) -> None:
    wrong = hsm.directory / "wrong"
    wrong.write_text("0000-wrong\n")
    wrong.chmod(0o600)
    for _ in range(3):
        async with opened(hsm, library=faulty.library, sessions=1) as each:
            assert str(wrong) in await refusal(each, f"{URI}?pin-source=file:{wrong}")
            await sign(await each.store.signer(URI))
    assert faulty.count("C_Login") == 4


async def test_what_a_token_says_without_looking_at_the_pin_is_not_held_against_it(
    hsm: SoftHsm, faulty: FaultyModule
) -> None:
    faulty.order("C_Login return-once 0x102")  # CKR_USER_PIN_NOT_INITIALIZED
    async with opened(hsm, library=faulty.library) as each:
        assert "lets nobody log in" in await refusal(each)
    async with opened(hsm, library=faulty.library) as each:
        await sign(await each.store.signer(URI))


async def test_no_pin_is_tried_that_cannot_be_written_down(hsm: SoftHsm, faulty: FaultyModule) -> None:
    (hsm.directory / "hsm").write_text("a file where the directory should be")
    async with opened(hsm, library=faulty.library) as each:
        assert "cannot be written" in await refusal(each)
    assert faulty.count("C_Login") == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"salt": 1}'])
async def test_a_damaged_memory_is_an_error_that_names_it(hsm: SoftHsm, faulty: FaultyModule, content: bytes) -> None:
    async with opened(hsm, library=faulty.library) as each:
        await each.store.signer(URI)
    memory(hsm).write_bytes(content)
    logins = faulty.count("C_Login")
    async with opened(hsm, library=faulty.library) as each:
        words = await refusal(each)
    assert "is damaged" in words
    assert str(memory(hsm)) in words
    assert faulty.count("C_Login") == logins


async def test_another_process_that_logs_in_for_ever_is_named_and_stops_no_shutdown(
    hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(hsm) as each:
        signer = await each.store.signer(URI)
        (lock,) = (hsm.directory / "hsm").glob("*.lock")
        with lock.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            await kill_signers()
            await until(lambda: "hsm_lost" in each.names() or not signer_processes(os.getpid()))
            await each.store.close()  # type: ignore[attr-defined]  # under the lock: it would be waited for a minute
            monkeypatch.setitem(LoginGuard.__init__.__globals__, "_LOCK_PAUSE_SECONDS", 0.01)
            guard = LoginGuard(hsm.directory / "hsm", lock_seconds=0.2)
            with (
                pytest.raises(ConfigurationError, match="another process has held it") as caught,
                guard.one_at_a_time("/usr/lib/softhsm/libsofthsm2.so", lambda: False),
            ):
                raise AssertionError("it is locked")
            assert str(lock) in str(caught.value)
        assert signer is not None


async def test_idle_processes_that_have_ended_cost_no_request(hsm: SoftHsm) -> None:
    async with opened(hsm, sessions=4) as each:
        signer = await each.store.signer(URI)
        await kill_signers()
        await sign(signer)
        await works_again(signer, each)


async def test_without_file_descriptors_coming_back_waits_and_works(hsm: SoftHsm) -> None:
    async with opened(hsm) as each:
        signer = await each.store.signer(URI)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest_descriptor() + 1, hard))
        try:
            await kill_signers()
            (access,) = [task.result() for task in each.store._tokens.values()]  # type: ignore[attr-defined]
            await until(lambda: "no signer process can be started" in access.health.problem)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await works_again(signer, each)


def test_nothing_is_imported_from_where_a_command_is_run(hsm: SoftHsm, tmp_path: Path) -> None:
    toml = hsm.directory / "kipuka.toml"
    toml.write_text(
        '[plugins]\nenable = ["hsm"]\n[tls]\nmaterial = "self"\n[tls.client_auth]\nmode = "none"\n'
        f'[server]\nstate_dir = "state"\n[hsm]\npin_file = "{hsm.pin_file}"\n'
    )
    where = tmp_path / "writable by others"
    where.mkdir()
    for name in ("json.py", "struct.py", "pkcs11.py"):
        (where / name).write_text(f"open({str(tmp_path / 'taken')!r}, 'w'); raise SystemExit(3)")
    kipuka = Path(sys.executable).with_name("kipuka")
    done = subprocess.run([kipuka, "hsm", "tokens", "-c", toml], cwd=where, capture_output=True, text=True, check=False)
    assert (done.returncode, "kipuka" in done.stdout, done.stderr) == (0, True, "")
    assert not (tmp_path / "taken").exists()
    assert SO_PIN not in done.stdout
