"""The authenticator ``basic``."""
# ruff: noqa: ASYNC240 - a test may block its own event loop

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import argon2
import bcrypt
import pytest

from kipuka_builtin import basic
from kipuka_builtin.htpasswd import read_users
from kipuka_core import Authenticator, ConfigurationError, Offer, WrongSecret
from kipuka_core.testing.contracts.authenticator import AuthenticatorContract
from kipuka_core.testing.samples import NOW, sample_offer, write_private
from kipuka_core.testing.services import make_services

ARGON2 = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def bcrypt_line(name: str, password: str, prefix: str = "$2b$") -> str:
    return f"{name}:{prefix}{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()[4:]}\n"


def argon2_line(name: str, password: str) -> str:
    return f"{name}:{ARGON2.hash(password)}\n"


DEVICE_LINE = argon2_line("device", "correct horse")
LINES = "# fleet\n\n" + DEVICE_LINE + bcrypt_line("meter", "battery staple", "$2y$")


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    return write_private(tmp_path / "users", LINES.encode())


@pytest.fixture
def bench(tmp_path: Path, users_file: Path) -> "Bench":
    return Bench(tmp_path)


class Bench:
    """An open port whose clock, warnings and work can be seen."""

    def __init__(self, base_dir: Path, **fields: Any) -> None:
        self.now = NOW
        self.warnings: list[str] = []
        self.work: list[str] = []
        plain = make_services(base_dir)

        async def run_blocking(function: Callable[..., Any], *arguments: Any) -> Any:
            self.work.append(function.__name__)
            return await plain.run_blocking(function, *arguments)

        self.services = replace(
            plain, clock=lambda: self.now, warn=self.warnings.append, run_blocking=run_blocking, **fields
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Authenticator]:
        async with basic.PROVIDER.open(basic.BasicSettings(users_file="users"), self.services) as port:
            self.work.clear()
            yield port


def offer(username: str, password: str) -> Offer:
    return sample_offer(username=username, password=password)


async def accepted(port: Authenticator, username: str, password: str) -> bool:
    try:
        identity = await port.authenticate(offer(username, password))
    except WrongSecret:
        return False
    return identity is not None and identity.entity_id == username


def rewrite(path: Path, text: str) -> None:
    """Write a file so that the change shows, however coarse the file system's clock is."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    write_private(path, text.encode())
    os.utime(path, ns=(before + 1_000_000_000, before + 1_000_000_000))


class TestContract(AuthenticatorContract):
    provider = basic.PROVIDER

    @pytest.fixture
    def settings(self, users_file: Path) -> Mapping[str, object]:
        return {"users_file": users_file}

    @pytest.fixture
    def good_offer(self) -> Offer:
        return offer("device", "correct horse")

    @pytest.fixture
    def foreign_offers(self) -> Sequence[Offer]:
        return [offer("somebody", "correct horse"), offer("", "correct horse"), offer("DEVICE", "correct horse")]

    @pytest.fixture
    def wrong_secret_offers(self) -> Sequence[Offer]:
        return [offer("device", "battery staple"), offer("meter", "correct horse"), offer("meter", "Battery staple")]


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
async def test_every_bcrypt_spelling_is_read(bench: Bench, users_file: Path, prefix: str) -> None:
    write_private(users_file, bcrypt_line("device", "päss", prefix).encode())
    async with bench.open() as port:
        assert await accepted(port, "device", "päss")
        assert not await accepted(port, "device", "pass")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("meter:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00", "MD5"),
        ("meter:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1"),
        ("meter:rl5/PBd0TFBIY", "crypt"),
        ("meter:$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2", "crypt"),
        ("meter:tomato", "not a password hash"),
        ("meter:", "not a password hash"),
        ("meter:$2b$04$short", "damaged"),
        ("meter", "name:hash"),
        (":" + DEVICE_LINE.partition(":")[2], "user name cannot be used"),
        (DEVICE_LINE, "twice"),
    ],
    ids=["apr1", "sha1", "des", "sha512", "plain", "empty", "short", "no-hash", "no-name", "twice"],
)
async def test_another_line_is_an_error_that_names_its_number_and_not_its_content(
    bench: Bench, users_file: Path, line: str, word: str
) -> None:
    write_private(users_file, f"# users\n{DEVICE_LINE}{line}\n".encode())
    with pytest.raises(ConfigurationError, match=f"line 3: .*{word}") as caught:
        async with bench.open():
            pass
    assert line.partition(":")[2].strip() not in str(caught.value) or not line.partition(":")[2]


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
async def test_a_file_that_cannot_be_read_stops_the_start(
    bench: Bench, users_file: Path, content: bytes | None
) -> None:
    users_file.unlink()
    if content is not None:
        write_private(users_file, content)
    with pytest.raises(ConfigurationError, match="users"):
        async with bench.open():
            pass


async def test_a_file_without_users_starts_with_a_warning_and_knows_nobody(bench: Bench, users_file: Path) -> None:
    write_private(users_file, b"# none yet\n")
    async with bench.open() as port:
        assert "no users" in bench.warnings[0]
        assert await port.authenticate(offer("device", "x")) is None


async def test_a_file_that_everybody_can_read_is_warned_of_or_refused(
    bench: Bench, users_file: Path, tmp_path: Path
) -> None:
    users_file.chmod(0o644)
    async with bench.open():
        assert "chmod 0640" in bench.warnings[0]
    with pytest.raises(ConfigurationError, match="0644"):
        async with Bench(tmp_path, strict_permissions=True).open():
            pass


async def test_a_changed_file_is_read_again(bench: Bench, users_file: Path) -> None:
    async with bench.open() as port:
        assert await accepted(port, "device", "correct horse")
        rewrite(users_file, argon2_line("device", "new one") + argon2_line("added", "x"))
        assert not await accepted(port, "device", "correct horse")
        assert await accepted(port, "device", "new one")
        assert await accepted(port, "added", "x")
        assert await port.authenticate(offer("meter", "battery staple")) is None
        assert bench.work.count("read_users") == 1


async def test_a_broken_file_leaves_the_users_and_warns_once(bench: Bench, users_file: Path) -> None:
    async with bench.open() as port:
        rewrite(users_file, "device:password\n")
        for _ in range(3):
            assert await accepted(port, "device", "correct horse")
        users_file.unlink()
        for _ in range(3):
            assert await accepted(port, "meter", "battery staple")
        assert [("line 1" in text, "No such file" in text) for text in bench.warnings] == [(True, False), (False, True)]
        rewrite(users_file, argon2_line("device", "repaired"))
        assert await accepted(port, "device", "repaired")


async def test_a_verified_password_is_remembered_for_five_minutes(bench: Bench) -> None:
    async with bench.open() as port:
        for _ in range(10):
            assert await accepted(port, "device", "correct horse")
        assert bench.work == ["verify_password"]
        assert not await accepted(port, "device", "wrong")
        assert bench.work == ["verify_password"] * 2
        bench.now += timedelta(seconds=299)
        assert await accepted(port, "device", "correct horse")
        assert bench.work == ["verify_password"] * 2
        bench.now += timedelta(seconds=1)
        assert await accepted(port, "device", "correct horse")
        assert bench.work == ["verify_password"] * 3


async def test_reading_the_file_again_forgets_what_was_verified(bench: Bench, users_file: Path) -> None:
    async with bench.open() as port:
        assert await accepted(port, "device", "correct horse")
        rewrite(users_file, LINES)
        assert await accepted(port, "device", "correct horse")
        assert bench.work == ["verify_password", "read_users", "verify_password"]


async def test_strict_permissions_hold_when_the_file_is_read_again(tmp_path: Path, users_file: Path) -> None:
    bench = Bench(tmp_path, strict_permissions=True)
    async with bench.open() as port:
        rewrite(users_file, argon2_line("device", "new one"))
        users_file.chmod(0o644)
        assert await accepted(port, "device", "correct horse")
        assert not await accepted(port, "device", "new one")
        assert ["0644" in text for text in bench.warnings] == [True]


async def test_a_clock_that_is_set_back_does_not_prolong_the_memory(bench: Bench) -> None:
    async with bench.open() as port:
        assert await accepted(port, "device", "correct horse")
        bench.now -= timedelta(days=1)
        assert await accepted(port, "device", "correct horse")
        assert bench.work == ["verify_password"] * 2


async def test_wrong_passwords_are_never_remembered(bench: Bench) -> None:
    async with bench.open() as port:
        for _ in range(3):
            assert not await accepted(port, "device", "wrong")
        assert bench.work == ["verify_password"] * 3


def test_the_memory_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basic, "_REMEMBERED_AT_MOST", 3)
    memory = basic.RecentSuccesses(lambda: NOW)
    proofs = [memory.proof("hash", bytes([number])) for number in range(5)]
    for proof in proofs:
        memory.add(proof)
    assert [memory.holds(proof) for proof in proofs] == [False, False, True, True, True]


async def test_an_unknown_user_costs_as_much_as_a_wrong_password(bench: Bench) -> None:
    async with bench.open() as port:
        assert await port.authenticate(offer("somebody", "x")) is None
        assert bench.work == ["verify_password"]
        assert await port.authenticate(offer("", "x")) is None
        assert await port.authenticate(sample_offer()) is None
        assert bench.work == ["verify_password"]


async def test_a_bcrypt_password_is_not_cut_at_72_bytes(bench: Bench, users_file: Path) -> None:
    write_private(users_file, bcrypt_line("device", "x" * 72).encode())
    async with bench.open() as port:
        assert await accepted(port, "device", "x" * 72)
        assert not await accepted(port, "device", "x" * 73)


async def test_a_password_beyond_1024_bytes_is_not_hashed(bench: Bench, users_file: Path) -> None:
    write_private(users_file, argon2_line("device", "x" * 1025).encode())
    async with bench.open() as port:
        assert not await accepted(port, "device", "x" * 1025)


def test_the_users_of_a_file_are_its_lines(users_file: Path) -> None:
    write_private(users_file, LINES.replace("\n", "\r\n").encode())
    assert list(read_users(users_file)) == ["device", "meter"]
