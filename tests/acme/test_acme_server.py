"""The whole server before pebble: a device that waits, a server that is killed, a CA that stands still."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kipuka_core.testing.client import Answer
from kipuka_core.testing.pki import make_csr, make_key
from kipuka_core.testing.server import running_server, wait_until
from tests.acme.acme_kit import ALWAYS_VALID
from tests.acme.acme_site import make_site
from tests.acme.pebble import Dns, Pebble, free_port, running_pebble
from tests.system.system_kit import System, serving

NAME = "pump.example"


@pytest.fixture
def dns_pebble(tmp_path: Path) -> Iterator[tuple[Pebble, Dns]]:
    with running_pebble(tmp_path / "pebble", with_dns=True) as pebble:
        assert pebble.dns is not None
        yield pebble, pebble.dns


def csr_for(name: str = NAME) -> bytes:
    return make_csr(make_key(), name, [f"dns:{name}"])


def enrol(system: System, csr: bytes, token: str, name: str = NAME) -> Answer:
    """As a device does: it comes back while it is told to wait."""
    answers: list[Answer] = []

    def settled() -> bool:
        answers.append(system.client().enrol(csr, user=name, password=token))
        return answers[-1].status != 202

    wait_until(settled)
    return answers[-1]


def test_a_device_waits_for_its_zone_and_a_killed_server_goes_on(
    tmp_path: Path, dns_pebble: tuple[Pebble, Dns]
) -> None:
    pebble, dns = dns_pebble
    site = make_site(tmp_path / "site", pebble, dns_hook=str(dns.hook()), dns_wait="6s")
    csr = csr_for()
    with running_server(site) as running:
        system = System(site, running)
        token = system.otp(NAME)
        answer = system.client().enrol(csr, user=NAME, password=token)
        assert answer.status == 202, answer.text
        assert int(answer.headers["retry-after"]) >= 1
        for pid in (*running.worker_pids().values(), running.process.pid):
            os.kill(pid, signal.SIGKILL)
        running.process.wait()

    with serving(site) as system:

        def enrolled() -> bool:
            return system.client().enrol(csr, user=NAME, password=token).status == 200

        wait_until(enrolled, what=lambda: str(system.rows("SELECT state, ca_reference, reason FROM requests")))
        certificate = system.client().enrol(csr, user=NAME, password=token).certificate()
        assert system.issued_to(NAME) == 1

    assert pebble.certificate_status(certificate) == "Valid"
    assert pebble.log.count("POST /order-plz") == 1
    assert pebble.log.count("POST /finalize-order/") == 1
    assert [call[0] for call in dns.hook_calls] == ["present", "cleanup"]


def test_what_the_ca_refuses_is_refused_in_its_words(tmp_path: Path, dns_pebble: tuple[Pebble, Dns]) -> None:
    pebble, _ = dns_pebble
    with serving(make_site(tmp_path / "site", pebble, http_listen=f"127.0.0.1:{free_port()}")) as system:
        answer = enrol(system, csr_for(), system.otp(NAME))
        assert answer.status == 403, answer.text
        assert "the certification authority refuses: " in answer.text
        assert system.issued_to(NAME) == 0


def test_names_that_acme_has_not_are_400(tmp_path: Path, dns_pebble: tuple[Pebble, Dns]) -> None:
    pebble, _ = dns_pebble
    with serving(make_site(tmp_path / "site", pebble)) as system:
        csr = make_csr(make_key(), "pump 7", [])
        answer = system.client().enrol(csr, user="pump 7", password=system.otp("pump 7"))
    assert answer.status == 400, answer.text
    assert "ask for one in the SubjectAltName" in answer.text
    assert "POST /order-plz" not in pebble.log


def test_a_ca_that_stands_still_is_503_and_then_all_is_well(tmp_path: Path) -> None:
    with running_pebble(tmp_path / "pebble", environment=ALWAYS_VALID) as pebble:
        site = make_site(tmp_path / "site", pebble, http_listen=f"127.0.0.1:{free_port()}", timeout="1s")
        assert pebble.process is not None
        with serving(site) as system:
            csr, token = csr_for(), system.otp(NAME)
            pebble.process.send_signal(signal.SIGSTOP)
            answer = system.client().enrol(csr, user=NAME, password=token)
            assert answer.status == 503, answer.text
            assert "retry-after" in answer.headers
            assert system.uses(token) == (0, 0)
            pebble.process.send_signal(signal.SIGCONT)

            def enrolled() -> bool:
                return system.client().enrol(csr, user=NAME, password=token).status == 200

            wait_until(enrolled)
            assert system.issued_to(NAME) == 1


def test_what_is_revoked_here_is_revoked_at_the_ca(tmp_path: Path) -> None:
    with running_pebble(tmp_path / "pebble", environment=ALWAYS_VALID) as pebble:
        site = make_site(tmp_path / "site", pebble, http_listen=f"127.0.0.1:{free_port()}")
        with serving(site) as system:
            answer = enrol(system, csr_for(), system.otp(NAME))
            certificate = answer.certificate()
            site.kipuka("certs", "revoke", f"{certificate.serial_number:x}", "--reason", "keyCompromise")
            wait_until(
                lambda: pebble.certificate_status(certificate) == "Revoked", what=system.server.log_file.read_text
            )


def test_the_account_key_is_in_no_log(tmp_path: Path, dns_pebble: tuple[Pebble, Dns]) -> None:
    pebble, _ = dns_pebble
    site = make_site(tmp_path / "site", pebble, http_listen=f"127.0.0.1:{pebble.http_port}")
    with serving(site) as system:
        assert enrol(system, csr_for(), system.otp(NAME)).status == 200
        log = system.server.log_file.read_text(encoding="utf-8")
    lines = (site.directory / "state/acme/pebble/account-key.pem").read_text(encoding="ascii").splitlines()
    assert len(lines) > 3
    assert not any(line in log or line in pebble.log for line in lines[1:-1])
