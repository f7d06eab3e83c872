"""A whole server whose CA key is in a token: enrolments, records, health, faults, secrets."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_core.testing.pki import make_csr, make_key
from kipuka_core.testing.server import wait_until
from tests.hsm.hsm_site import HsmSite, enrolled, make_site
from tests.hsm.softhsm import PIN, FaultyModule, SoftHsm
from tests.interop.programs import run

pytestmark = pytest.mark.long


@pytest.fixture
def site(hsm: SoftHsm, tmp_path: Path) -> HsmSite:
    return make_site(tmp_path / "site", hsm)


@pytest.mark.parametrize("key_type", ["rsa2048", "rsa4096", "ecdsa256", "ecdsa384"])
def test_a_device_enrols_and_renews_and_others_verify_its_certificate(
    hsm: SoftHsm, tmp_path: Path, key_type: str
) -> None:
    site = make_site(tmp_path / "site", hsm, key_type)
    with site.serving() as system:
        first = enrolled(system, "device-1.example")
        csr = make_csr(make_key(), "device-1.example", ["dns:device-1.example"])
        again = system.client(first).reenrol(csr).certificate()
        status, (ca,) = site.admin(system.server, "cas")
        assert status == 200
        assert (ca["id"], ca["hsm_backed"], ca["key_type"], ca["health"]) == ("devices", True, key_type, "healthy")
    for number, certificate in enumerate((first.certificate, again)):
        certificate.verify_directly_issued_by(site.ca)
        file = site.deployment.directory / f"issued-{number}.pem"
        file.write_bytes(certificate.public_bytes(Encoding.PEM))
        ca_file = site.deployment.directory / "device-ca.pem"
        run("openssl", "verify", "-x509_strict", "-CAfile", ca_file, file)
        run(Path(sys.executable).with_name("lint_pkix_cert"), "lint", "-s", "WARNING", file)


def test_sixty_four_at_once_over_two_workers_all_succeed(site: HsmSite) -> None:
    site.configure(workers=2, sessions=4)
    with site.serving() as system:
        tokens = {f"device-{number}": system.otp(f"device-{number}") for number in range(64)}

        def enrol(name: str) -> int:
            csr = make_csr(make_key(), name, [f"dns:{name}"])
            return system.client().enrol(csr, user=name, password=tokens[name]).status

        with ThreadPoolExecutor(64) as clients:
            assert set(clients.map(enrol, tokens)) == {200}
        assert system.rows("SELECT count(*) FROM certificates") == [(64,)]


def test_health_follows_the_token_and_service_comes_back_by_itself(site: HsmSite, hsm: SoftHsm) -> None:
    with site.serving() as system:
        enrolled(system, "before")
        status, page = site.admin(system.server, "health/hsm")
        (token,) = page["tokens"]
        assert (status, page["status"], token["sessions_open"]) == (200, "healthy", 2)
        hsm.wipe()
        password, csr = system.otp("meanwhile"), make_csr(common_name="meanwhile")
        wait_until(lambda: system.client().enrol(csr, user="meanwhile", password=password).status == 503)
        answer = system.client().enrol(csr, user="meanwhile", password=password)
        assert system.refused(answer, 503, "the CA's key cannot be used now")["code"] == "hsm_unavailable"
        assert int(answer.headers["retry-after"]) > 0
        assert system.uses(password)[0] == 0
        wait_until(lambda: site.admin(system.server, "health")[1]["status"] != "healthy")
        hsm.restore()
        wait_until(lambda: system.client().enrol(csr, user="meanwhile", password=password).status == 200)
        wait_until(lambda: site.admin(system.server, "health")[1]["status"] == "healthy")
        assert {"hsm_logged_in", "hsm_lost", "hsm_recovered"} <= {fact["event"] for fact in system.audit()}


@pytest.mark.parametrize("fault", ["crash-once", "hang-once"])
def test_a_call_that_goes_wrong_is_no_client_s_trouble(
    site: HsmSite, hsm: SoftHsm, faulty: FaultyModule, fault: str
) -> None:
    site.configure(library=faulty.library)
    with site.serving() as system:
        faulty.order(f"C_Sign {fault}")
        enrolled(system, "device")
        assert system.issued_to("device") == 1


@pytest.mark.parametrize("fault", ["crash", "hang", "return 0x30"])
def test_a_token_that_never_signs_issues_nothing_and_loses_nothing(
    site: HsmSite, hsm: SoftHsm, faulty: FaultyModule, fault: str
) -> None:
    site.configure(library=faulty.library)
    with site.serving() as system:
        faulty.order(f"C_Sign {fault}")
        password, csr = system.otp("device"), make_csr(common_name="device")
        answer = system.client().enrol(csr, user="device", password=password)
        system.refused(answer, 503, "cannot be used now")
        assert system.uses(password) == (0, 0)
        faulty.behave()
        wait_until(lambda: system.client().enrol(csr, user="device", password=password).status == 200)
        assert system.issued_to("device") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("object=missing", "no private key matches object=missing"),
        ("object=issuing;id=%77", "no private key matches"),
        ("token=elsewhere", "no token matches"),
    ],
)
def test_a_start_without_the_key_ends_with_one_line(site: HsmSite, change: str, words: str) -> None:
    uri = f"pkcs11:token=kipuka;{change}" if change.startswith("object") else f"pkcs11:{change};object=issuing"
    site.configure(uri=uri)
    for command in ("check", "serve"):
        done = site.deployment.kipuka(command, check=False, **site.hsm.environment)
        assert done.returncode == 1
        (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
        assert line.startswith("kipuka: error: ca.devices.key: ")
        assert words in line


def test_a_key_that_is_not_the_certificate_s_is_an_error(site: HsmSite, hsm: SoftHsm) -> None:
    hsm.import_key("another", make_key(), "09")
    site.configure(uri="pkcs11:token=kipuka;object=another")
    done = site.deployment.kipuka("check", check=False, **hsm.environment)
    assert (done.returncode, "is not the key of the certificate" in done.stderr) == (1, True)


def test_a_wrong_pin_is_tried_once_by_all_processes_and_starts(
    site: HsmSite, hsm: SoftHsm, faulty: FaultyModule
) -> None:
    site.configure(library=faulty.library, workers=2, sessions=4)
    hsm.pin_file.write_text("0000-wrong\n")
    for _ in range(2):
        done = site.deployment.kipuka("serve", check=False, **hsm.environment, **faulty.environment)
        assert done.returncode == 1
        assert "0000-wrong" not in done.stderr
        assert str(hsm.pin_file) in done.stderr
    assert faulty.count("C_Login") == 1
    hsm.pin_file.write_text(f"{PIN}\n")
    with site.serving() as system:
        enrolled(system, "device")


def test_the_pin_is_nowhere(site: HsmSite, hsm: SoftHsm) -> None:
    site.configure(uri=f"pkcs11:token=kipuka;object=issuing?pin-value={PIN}")
    with site.serving() as system:
        enrolled(system, "device")
        processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        seen = [processes, system.server.log_file.read_text(), system.deployment.audit_log.read_text()]
        seen += [str(site.admin(system.server, path)) for path in ("health", "health/hsm", "cas", "plugins")]
        seen.append(str(system.rows("SELECT body FROM events")))
    checked = site.deployment.kipuka("check", check=True, **hsm.environment)
    seen += [checked.stdout, checked.stderr]
    assert "the PIN stands in the configuration" in checked.stdout
    assert not [text for text in seen if PIN in text]
