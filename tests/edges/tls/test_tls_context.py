from __future__ import annotations

import re
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kipuka_core.edges.tls.context import build_context
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.cipher_suites import DEFAULT_CIPHER_SUITES

ONE_LINE = re.compile(r"[^\n]+")


def openssl_says(port: int, *arguments: str, text: str = "") -> str:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


def test_the_six_suites_of_the_guide_are_offered_in_its_order(site: Any) -> None:
    names = [suite["name"] for suite in build_context(site.server_tls()).get_ciphers()]
    assert [name for name in names if not name.startswith("TLS_")] == [
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    ]


@pytest.mark.parametrize(
    "suite",
    [
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
        "TLS_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_RSA_WITH_NULL_SHA256",
        "TLS_ECDH_anon_WITH_AES_128_CBC_SHA",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_AES_128_GCM_SHA256",
    ],
)
def test_any_other_suite_is_an_error_that_lists_what_is_possible(site: Any, suite: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_context(site.server_tls(cipher_suites=(DEFAULT_CIPHER_SUITES[0], suite)))
    assert suite in str(caught.value)
    assert all(name in str(caught.value) for name in DEFAULT_CIPHER_SUITES)


def test_an_empty_suite_list_is_an_error(site: Any) -> None:
    with pytest.raises(ConfigurationError, match="the list is empty"):
        build_context(site.server_tls(cipher_suites=()))


@pytest.mark.parametrize("mode", ["required", "optional"])
def test_trusting_nobody_is_an_error_where_clients_have_certificates(site: Any, mode: str) -> None:
    with pytest.raises(ConfigurationError, match="trust_anchors"):
        build_context(site.server_tls(anchors=(), client_auth=mode))


def test_mode_none_needs_no_anchors_and_asks_for_nothing(site: Any) -> None:
    assert build_context(site.server_tls(anchors=(), client_auth="none")).verify_mode is ssl.CERT_NONE


def test_identity_problems_are_one_line_that_names_the_file(site: Any, kit: Any, tmp_path: Path) -> None:
    certificate_file, key_file = site.server_files
    password = b"correct horse"
    locked_certificate, locked_key = kit.write_identity(tmp_path, site.root.server(), password=password)
    other_key = kit.write_identity(tmp_path, site.root.server())[1]
    noise = tmp_path / "noise.pem"
    noise.write_text("not a certificate")
    missing = str(tmp_path / "missing.pem")
    cases = [
        ({"certificate_file": missing}, missing, "does not exist"),
        ({"key_file": missing}, missing, "does not exist"),
        ({"certificate_file": str(tmp_path)}, str(tmp_path), "cannot be read"),
        ({"certificate_file": str(noise)}, str(noise), "no PEM certificate"),
        ({"key_file": str(noise)}, str(noise), "no readable PEM private key"),
        ({"key_file": other_key}, other_key, f"is not the key of the first certificate in {certificate_file}"),
        ({"key_file": locked_key}, locked_key, "is encrypted: set key_password_env"),
        ({"key_file": locked_key, "key_password": b"wrong"}, locked_key, "the password is wrong"),
    ]
    for changes, where, problem in cases:
        with pytest.raises(ConfigurationError) as caught:
            build_context(site.server_tls(**changes))
        assert caught.value.where == where
        assert problem in caught.value.problem
        assert ONE_LINE.fullmatch(str(caught.value))
    unlocked = site.server_tls(certificate_file=locked_certificate, key_file=locked_key, key_password=password)
    build_context(unlocked)
    assert "correct horse" not in repr(unlocked)
    build_context(site.server_tls(key_file=key_file, key_password=b"not needed"))


def test_an_unreadable_key_says_to_check_owner_and_mode(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)  # the tests may run as root, whom no mode stops
    with pytest.raises(ConfigurationError, match="cannot be read by this user"):
        build_context(site.server_tls())


def test_the_certificate_request_names_no_ca_and_compression_is_off(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            return await kit.asyncio.to_thread(openssl_says, served.port, "-tls1_2")

    output = run(scenario())
    assert "No client certificate CA names sent" in output
    assert "Client Certificate Types" in output
    assert "Compression: NONE" in output


def test_a_client_cannot_renegotiate(run: Any, site: Any, kit: Any) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            return await kit.asyncio.to_thread(openssl_says, served.port, "-tls1_2", text="R\n")

    assert "no renegotiation" in run(scenario())
    assert build_context(site.server_tls()).options & ssl.OP_NO_RENEGOTIATION  # not only OpenSSL 3's default


@pytest.mark.parametrize(("version", "suite"), [("-tls1_2", "ECDHE-ECDSA-AES256-GCM-SHA384"), ("-tls1_3", "TLS_")])
def test_the_servers_order_of_suites_wins(run: Any, site: Any, kit: Any, version: str, suite: str) -> None:
    async def scenario() -> Any:
        async with kit.serving(site.server_tls()) as served:
            offer = ["-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"]
            return await kit.asyncio.to_thread(openssl_says, served.port, version, *offer)

    assert f"Cipher is {suite}" in run(scenario())
