"""curl and openssl, as ``kipuka serve --dev`` tells a newcomer to use them: the printed lines run as they stand."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from tests.interop.development import THIS_KIPUKA, development_server
from tests.interop.programs import run


def test_the_printed_lines_fetch_enrol_and_renew_and_a_second_start_goes_on(tmp_path: Path) -> None:
    with development_server(tmp_path) as first:
        first.paste()
        enrolled = x509.load_pem_x509_certificate(first.file("device-1.pem"))
        renewed = x509.load_pem_x509_certificate(first.file("device-1-renewed.pem"))
        kept = {name: first.file(name) for name in ("state/ca/root.pem", "state/ca/issuing.key", "tls/server.pem")}
    assert enrolled.subject.rfc4514_string() == renewed.subject.rfc4514_string() == "CN=device-1"
    assert enrolled.serial_number != renewed.serial_number

    with development_server(tmp_path) as second:
        assert {name: second.file(name) for name in kept} == kept
        assert second.token != first.token, "a one-time password that is used up was printed again"
        second.paste()
        listed = run(*THIS_KIPUKA, "certs", "list", "-c", "kipuka-dev/kipuka.toml", cwd=tmp_path)
    assert listed.stdout.count(b"CN=device-1") == 4


def test_a_one_time_password_that_was_not_used_is_printed_again(tmp_path: Path) -> None:
    with development_server(tmp_path) as first:
        pass
    with development_server(tmp_path) as second:
        assert second.token == first.token
