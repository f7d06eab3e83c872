"""What a token costs through kipuka: enrolments beside the bare token, and the signing step beside the bare call.

``make bench-hsm``. Each figure is a ratio of two measurements of one run on one machine; the server and what loads it
share its cores, as they do not in a deployment.
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
from tests.hsm.softhsm import LIBRARY, PIN, SoftHsm, make_softhsm

WORKERS, SESSIONS, CLIENTS = 2, 4, 64
_AUTH = '[auth]\norder = ["basic"]\n[auth.basic]\nusers_file = "users"\n[enrollment]\nsubject_binding = "any"\n'
_ROUNDS = 5
_SIGNATURES = 400
RATE_AT_LEAST, STEP_AT_MOST = 0.8, 1.5
"""The aims."""


def rates(directory: Path, seconds: float) -> tuple[float, float]:
    """Signatures a second of the bare token, and enrolments a second, at the same number of sessions."""
    hsm = make_softhsm(directory / "hsm")
    site = make_site(directory / "site", hsm, "rsa4096")
    users = site.deployment.directory / "users"
    users.write_text(f"{USER}:{argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)}\n")
    users.chmod(0o600)
    site.configure(workers=WORKERS, sessions=SESSIONS, more=_AUTH)
    bare = _bare_rate(site, hsm, seconds)
    with site.serving() as system:
        own = [sys.executable, "-m", "tests.bench.generator"]
        named = os.environ.get("KIPUKA_LOAD_GENERATOR")
        flags = [
            "-url", f"https://localhost:{system.server.est_port}", "-op", "simpleenroll", "-c", str(CLIENTS), "-json",
            "-warmup", "1s", "-d", f"{seconds:g}s", "-keepalive", "-tls", "1.3", "-user", USER, "-pass", PASSWORD,
        ]  # fmt: skip
        command = [*([named] if named else own), *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return bare, float(result["rps"])


def _bare_rate(site: HsmSite, hsm: SoftHsm, seconds: float) -> float:
    """What ``kipuka hsm test`` prints for as many sessions as the workers have together."""
    printed = site.deployment.kipuka(
        "hsm", "test", URI, "--seconds", str(seconds), check=True, **hsm.environment
    ).stdout
    line = next(line for line in printed.splitlines() if line.startswith(f"{WORKERS * SESSIONS} sessions"))
    return float(line.split()[2])


async def signing_step(directory: Path) -> tuple[float, float]:
    """Microseconds of a P-256 signature by a key object, and of the same call of the bare module; medians."""
    hsm = make_softhsm(directory / "hsm")
    hsm.make_key("issuing", "EC:secp256r1")
    os.environ |= hsm.environment
    settings = PROVIDER.settings(library=LIBRARY, pin_file=hsm.pin_file, sessions=SESSIONS)
    async with PROVIDER.open(settings, make_services(directory)) as store:
        signer = await store.signer(URI)
        session = pkcs11.lib(str(LIBRARY)).get_token(token_label="kipuka").open(user_pin=PIN)
        bare = session.get_key(ObjectClass.PRIVATE_KEY, label="issuing")
        pairs = [(_step(signer), _bare_call(bare)) for _ in range(_ROUNDS)]
    return statistics.median(step for step, _ in pairs), statistics.median(call for _, call in pairs)


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
        step, call = asyncio.run(signing_step(Path(name) / "p256"))
        bare, enrolments = rates(Path(name) / "rsa4096", seconds)
    sys.stdout.write(
        f"P-256 signing step {step:.0f} us, bare call {call:.0f} us: {step / call:.2f} (aim: at most {STEP_AT_MOST})\n"
        f"RSA-4096, {WORKERS * SESSIONS} sessions, {CLIENTS} clients: {enrolments:.0f} enrolments a second, bare token "
        f"{bare:.0f} signatures: {enrolments / bare:.2f} (aim: at least {RATE_AT_LEAST})\n"
    )


if __name__ == "__main__":
    main()
