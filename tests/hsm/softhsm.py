"""A SoftHSM token in a directory of its own, and keys on it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kipuka_core.testing.pki import key_pem

LIBRARY = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "correct-horse-7319"
SO_PIN = "battery-staple-2846"


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """SoftHSM's state; ``environment`` makes a process use it."""

    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"SOFTHSM2_CONF": str(self.directory / "softhsm2.conf")}

    @property
    def pin_file(self) -> Path:
        return self.directory / "pin"

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def make_token(self, label: str = "kipuka", pin: str = PIN) -> None:
        self.run("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", SO_PIN)

    def make_key(self, label: str, kind: str, key_id: str = "01", token: str = "kipuka", *, usage: bool = True) -> None:
        """``kind`` as pkcs11-tool writes it: ``rsa:2048``, ``EC:secp256r1``."""
        self.run(
            "pkcs11-tool", "--module", str(LIBRARY), "--token-label", token, "--login", "--pin", PIN, "--keypairgen",
            "--key-type", kind, "--label", label, "--id", key_id, *(("--usage-sign",) if usage else ()),
        )  # fmt: skip

    def import_key(self, label: str, key: Any, key_id: str = "01", token: str = "kipuka") -> None:
        """A key that the test has too."""
        file = self.directory / f"{label}.pem"
        file.write_bytes(key_pem(key))
        self.run(
            "softhsm2-util", "--import", str(file), "--token", token, "--pin", PIN, "--label", label, "--id", key_id
        )

    def delete_key(self, label: str) -> None:
        for kind in ("privkey", "pubkey"):
            self.run(
                "pkcs11-tool", "--module", str(LIBRARY), "--token-label", "kipuka", "--login", "--pin", PIN,
                "--delete-object", "--type", kind, "--label", label,
            )  # fmt: skip

    def wipe(self) -> Path:
        """Take the tokens away; where they are now."""
        away = self.directory / "away"
        shutil.move(self.directory / "tokens", away)
        (self.directory / "tokens").mkdir()
        return away

    def restore(self) -> None:
        """Bring them back."""
        shutil.rmtree(self.directory / "tokens")
        shutil.move(self.directory / "away", self.directory / "tokens")


@dataclass(frozen=True, slots=True)
class FaultyModule:
    """A module that does what its orders say, and else what SoftHSM does."""

    library: Path
    orders: Path
    calls: Path | None = None
    """Where the names of all calls are written."""

    @property
    def environment(self) -> dict[str, str]:
        always = {"FAULTY_MODULE": str(LIBRARY), "FAULTY_ORDERS": str(self.orders)}
        return always if self.calls is None else always | {"FAULTY_CALLS": str(self.calls)}

    def order(self, text: str) -> None:
        """Such as ``C_Sign hang-once``; in place at once and as a whole."""
        fresh = self.orders.with_suffix(".new")
        fresh.write_text(f"{text}\n")
        fresh.rename(self.orders)

    def behave(self) -> None:
        self.orders.unlink(missing_ok=True)

    def count(self, function: str) -> int:
        """How often a function was called, by all processes."""
        lines = self.calls.read_text().splitlines() if self.calls and self.calls.exists() else []
        return sum(line.split()[0] == function for line in lines)


def build_faulty_module(library: Path) -> Path:
    source = Path(__file__).with_name("faulty.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source, "-ldl"], check=True)
    return library


def make_softhsm(directory: Path) -> SoftHsm:
    """SoftHSM with an empty token ``kipuka``."""
    (directory / "tokens").mkdir(parents=True)
    (directory / "softhsm2.conf").write_text(
        f"directories.tokendir = {directory / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    made = SoftHsm(directory)
    made.pin_file.write_text(f"{PIN}\n")
    made.pin_file.chmod(0o600)
    made.make_token()
    return made
