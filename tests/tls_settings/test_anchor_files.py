"""What is wrong with a file of trust anchors stops the start: one line with the key and the file, exit code 1."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.testing.pki import make_root
from kipuka_core.testing.server import Deployment
from tests.startup.starting import Outcome, check, pem, serve
from tests.tls_settings.settings_kit import DEVICE_ROOT, make_site

pytestmark = pytest.mark.long

LONG_AGO = datetime.now(UTC) - timedelta(days=400)
TABLES = ("tls.client_auth", "admin.client_auth")
each_table = pytest.mark.parametrize("table", TABLES)


def _write(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


def _old_root() -> bytes:
    old = make_root().leaf("an old CA", ca=True, days=1, not_before=LONG_AGO)
    return pem(old.certificate)


def _future_root() -> bytes:
    coming = make_root().leaf("a coming CA", ca=True, not_before=datetime.now(UTC) + timedelta(days=2))
    return pem(coming.certificate)


GOOD = DEVICE_ROOT.pem
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda _: None, "does not exist"),
    "empty": (_write(b""), "is empty"),
    "blank": (_write(b" \n\n"), "is empty"),
    "garbage": (_write(os.urandom(200)), "holds no PEM certificate"),
    "a directory": (Path.mkdir, "cannot be read: Is a directory"),
    "DER": (_write(DEVICE_ROOT.certificate.public_bytes(Encoding.DER)), "holds no PEM certificate"),
    "cut off after a good one": (_write(GOOD + GOOD[:-40]), "holds 2 certificates, of which only 1 can be read"),
    "a damaged one after a good one": (_write(GOOD + GOOD.replace(b"MII", b"MIA", 1)), "holds no PEM certificate"),
    "a device's": (_write(make_root().leaf("device").certificate_pem), "CN=device is not a CA certificate"),
    "a device's after a good one": (
        _write(GOOD + make_root().leaf("device").certificate_pem),
        "CN=device is not a CA certificate",
    ),
    "expired": (_write(_old_root()), "CN=an old CA is valid only from"),
    "expired after a good one": (_write(GOOD + _old_root()), "CN=an old CA is valid only from"),
    "not valid yet": (_write(_future_root()), "CN=a coming CA is valid only from"),
    "a key": (_write(make_root().leaf("device").key_pem), "holds no PEM certificate"),
}


def _site(directory: Path, table: str) -> tuple[Deployment, Path]:
    """A site that lists a good file and then one that is still to be written."""
    deployment = make_site(directory, {f"{table}.trust_anchors": '["devices.pem", "anchors.pem"]'})
    return deployment, directory / "anchors.pem"


@each_table
@pytest.mark.parametrize("fault", FAULTS)
def test_the_key_and_the_file_are_named_when_it_is(fault: str, table: str, tmp_path: Path) -> None:
    deployment, file = _site(tmp_path, table)
    make, says = FAULTS[fault]
    make(file)

    line = check(deployment).only_line()

    assert line.startswith(f"{table}.trust_anchors: {file}")
    assert says in line


@pytest.mark.parametrize(("table", "fault"), [(TABLES[0], "a directory"), (TABLES[1], "garbage")])
def test_serve_says_the_same(table: str, fault: str, tmp_path: Path) -> None:
    deployment, file = _site(tmp_path, table)
    FAULTS[fault][0](file)

    served = serve(deployment)

    # The other listener's process may have started, and says in the log that it did and that it is stopped.
    lines = [line for line in served.stderr.splitlines() if not line.startswith("{")]
    assert served.code == 1
    assert lines == [f"kipuka: error: {check(deployment).only_line()}"]


@each_table
def test_a_file_that_the_servers_user_cannot_read_is_named(table: str, tmp_path: Path) -> None:
    deployment, file = _site(tmp_path, table)
    file.write_bytes(GOOD)
    file.chmod(0)

    line = as_an_ordinary_user(deployment, "check").only_line()

    assert line == f"{table}.trust_anchors: {file} cannot be read: Permission denied"
    file.chmod(0o400)
    assert as_an_ordinary_user(deployment, "check").code == 0


def as_an_ordinary_user(deployment: Deployment, command: str) -> Outcome:
    """Run kipuka as somebody whom file modes stop: root too, without the capabilities that lift them."""
    words = [sys.executable, "-m", "kipuka_core.cli", command, "-c", str(deployment.toml)]
    if os.geteuid() == 0:
        words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *words]
    done = subprocess.run(words, cwd=deployment.directory, capture_output=True, text=True, check=False, timeout=60)
    return Outcome(done.returncode, done.stdout, done.stderr)
