"""What a token costs through kipuka: enrolments beside the bare token, and the signing step beside the bare call.

``make bench-hsm``. Each figure is a ratio of two measurements of one run on one machine; the server and what loads it
share its cores, as they do not in a deployment; so does SoftHSM, which is why a token that waits is measured beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import argon2
import pkcs11
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pkcs11 import Mechanism, ObjectClass

from kipuka_core import Signer
from kipuka_core.testing.services import make_services
from kipuka_hsm.store import PROVIDER
from tests.bench.scenarios import PASSWORD, USER
from tests.hsm.hsm_site import URI, HsmSite, make_site
from tests.hsm.softhsm import LIBRARY, PIN, FaultyModule, build_faulty_module, make_softhsm
from tests.system.system_kit import serving

WORKERS, SESSIONS, CLIENTS = 2, 4, 64
TOKEN_MILLISECONDS = 30
"""RSA-4096 takes network and PCIe devices so long, or longer."""
_AUTH = '[auth]\norder = ["basic"]\n[auth.basic]\nusers_file = "users"\n[enrollment]\nsubject_binding = "any"\n'
_ROUNDS, _SIGNATURES = 31, 100
"""Short and many, by turns: what else the machine does meets both, and the ratio is one of neighbours."""
RATE_AT_LEAST, STEP_AT_MOST = 0.8, 1.5
"""The aims."""


@dataclass(frozen=True, slots=True)
class Rates:
    """A second, at the same number of sessions: signatures of the bare token, and enrolments."""

    signatures: float
    enrolments: float

    def __str__(self) -> str:
        ratio = self.enrolments / self.signatures
        return f"{self.enrolments:.0f} enrolments a second, {self.signatures:.0f} bare signatures: {ratio:.2f}"


def rates(directory: Path, seconds: float, *, token_milliseconds: int = 0) -> Rates:
    """Of a token that computes on the server's cores: SoftHSM with an RSA-4096 key.

    Or of one that takes ``token_milliseconds`` for a signature beside the server, as a device does: SoftHSM with a
    P-256 key behind a module that waits.
    """
    hsm = make_softhsm(directory / "hsm")
    library, environment = LIBRARY, hsm.environment
    if token_milliseconds:
        slow = FaultyModule(build_faulty_module(directory / "slow.so"), hsm.directory / "orders")
        slow.order(f"C_SignInit wait {token_milliseconds}")
        library, environment = slow.library, environment | slow.environment
    site = make_site(directory / "site", hsm, "ecdsa256" if token_milliseconds else "rsa4096")
    users = site.deployment.directory / "users"
    users.write_text(f"{USER}:{argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)}\n")
    users.chmod(0o600)
    site.configure(library=library, workers=WORKERS, sessions=SESSIONS, more=_AUTH)
    signatures = _bare_rate(site, environment, seconds)
    with serving(site.deployment, environment=environment) as system:
        return Rates(signatures, _enrolment_rate(system.server.est_port, seconds))


def _enrolment_rate(port: int, seconds: float) -> float:
    own = [sys.executable, "-m", "tests.bench.generator"]
    named = os.environ.get("KIPUKA_LOAD_GENERATOR")
    flags = [
        "-url", f"https://localhost:{port}", "-op", "simpleenroll", "-c", str(CLIENTS), "-json",
        "-warmup", "1s", "-d", f"{seconds:g}s", "-keepalive", "-tls", "1.3", "-user", USER, "-pass", PASSWORD,
    ]  # fmt: skip
    done = subprocess.run([*([named] if named else own), *flags], capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return float(result["rps"])


def _bare_rate(site: HsmSite, environment: dict[str, str], seconds: float) -> float:
    """What ``kipuka hsm test`` prints for as many sessions as the workers have together."""
    printed = site.deployment.kipuka("hsm", "test", URI, "--seconds", str(seconds), check=True, **environment).stdout
    line = next(line for line in printed.splitlines() if line.startswith(f"{WORKERS * SESSIONS} sessions"))
    return float(line.split()[2])


async def signing_step(directory: Path) -> tuple[float, float, float]:
    """Microseconds of a P-256 signature by a key object, of the bare module's call, and their ratio; medians."""
    hsm = make_softhsm(directory / "hsm")
    hsm.make_key("issuing", "EC:secp256r1")
    os.environ |= hsm.environment
    settings = PROVIDER.settings(library=LIBRARY, pin_file=hsm.pin_file, sessions=SESSIONS)
    async with PROVIDER.open(settings, make_services(directory)) as store:
        signer = await store.signer(URI)
        session = pkcs11.lib(str(LIBRARY)).get_token(token_label="kipuka").open(user_pin=PIN)
        bare = session.get_key(ObjectClass.PRIVATE_KEY, label="issuing")
        pairs = [(_step(signer), _bare_call(bare)) for _ in range(_ROUNDS)]
    steps, calls = zip(*pairs, strict=True)
    ratios = [step / call for step, call in pairs]
    return statistics.median(steps), statistics.median(calls), statistics.median(ratios)


def _step(signer: Signer) -> float:
    key: Any = signer.private_key
    algorithm = ec.ECDSA(hashes.SHA256())
    return _microseconds(lambda: key.sign(b"x" * 600, algorithm))


def _bare_call(key: Any) -> float:
    return _microseconds(lambda: key.sign(b"x" * 32, mechanism=Mechanism.ECDSA))


def _microseconds(call: Any) -> float:
    call()
    began = time.perf_counter()
    for _ in range(_SIGNATURES):
        call()
    return (time.perf_counter() - began) / _SIGNATURES * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each rate")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name:
        step, call, ratio = asyncio.run(signing_step(Path(name) / "p256"))
        computing = rates(Path(name) / "rsa4096", seconds)
        waiting = rates(Path(name) / "slow", seconds, token_milliseconds=TOKEN_MILLISECONDS)
    sys.stdout.write(
        f"P-256 signing step {step:.0f} us, bare call {call:.0f} us: {ratio:.2f} (aim: at most {STEP_AT_MOST})\n"
        f"{WORKERS * SESSIONS} sessions, {CLIENTS} clients; aim: at least {RATE_AT_LEAST}\n"
        f"RSA-4096 computed on the same cores: {computing}\n"
        f"a token that takes {TOKEN_MILLISECONDS} ms of its own: {waiting}\n"
    )


if __name__ == "__main__":
    main()
