"""``kipuka tls csr`` and ``kipuka tls self-signed`` as commands; what they make is read by openssl."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from kipuka_core.cli.new_files import NewFile, write_all_new
from kipuka_core.errors import ConfigurationError
from kipuka_core.testing.pki import key_pem, make_key
from kipuka_core.testing.server import Deployment
from tests.interop.programs import run
from tests.startup.starting import Outcome, in_process

HOSTS = ("--host", "est.example.com", "--host", "localhost", "--host", "127.0.0.1", "--host", "2001:DB8::7")


@pytest.fixture
def site(tmp_path: Path) -> Deployment:
    """An empty directory: these commands need no configuration."""
    return Deployment(tmp_path)


def made(site: Deployment, *arguments: str) -> Outcome:
    done = site.kipuka(*arguments, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return Outcome(done.returncode, done.stdout, done.stderr)


def kipuka(site: Deployment, *arguments: str) -> Outcome:
    """The command in this process, which is quicker, when it is to be refused."""
    with chdir(site.directory):
        return in_process(*arguments)


def openssl(site: Deployment, *arguments: str) -> str:
    done = run("openssl", *arguments, cwd=site.directory)
    return done.stdout.decode() + done.stderr.decode()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("usual_umask")
def test_the_guides_csr_has_what_est_clients_look_for(site: Deployment) -> None:
    made(site, "tls", "csr", *HOSTS, "--key", "tls/own.key", "--out", "own.csr")

    text = openssl(site, "req", "-in", "own.csr", "-noout", "-text", "-verify")
    assert "verify OK" in text
    assert "Subject: CN = est.example.com" in text
    assert "TLS Web Server Authentication, CMC Registration Authority" in text
    assert "X509v3 Key Usage: critical\n                    Digital Signature\n" in text
    assert "X509v3 Basic Constraints: critical\n                    CA:FALSE" in text
    names = "DNS:est.example.com, DNS:localhost, IP Address:127.0.0.1, IP Address:2001:DB8:0:0:0:0:0:7"
    assert f"X509v3 Subject Alternative Name: \n                    {names}\n" in text
    assert "ASN1 OID: prime256v1" in text
    assert "ecdsa-with-SHA256" in text
    assert [mode(site.directory / name) for name in ("tls", "tls/own.key", "own.csr")] == [0o700, 0o600, 0o644]
    assert "Private-Key: (256 bit)" in openssl(site, "pkey", "-in", "tls/own.key", "-noout", "-text")
    assert sorted(each.name for each in (site.directory / "tls").iterdir()) == ["own.key"]


@pytest.mark.parametrize(
    ("key_type", "says"),
    [
        ("rsa2048", ("Public-Key: (2048 bit)", "Digital Signature, Key Encipherment", "sha256WithRSAEncryption")),
        ("P-384", ("ASN1 OID: secp384r1", "Digital Signature\n", "ecdsa-with-SHA384")),
    ],
)
def test_the_key_usage_and_the_hash_follow_the_key(site: Deployment, key_type: str, says: tuple[str, ...]) -> None:
    made(site, "tls", "csr", "--host", "est", "--key-type", key_type)

    text = openssl(site, "req", "-in", "server.csr", "-noout", "-text", "-verify")
    for each in ("verify OK", *says):
        assert each in text


def test_the_csr_signed_with_its_extensions_is_a_server_certificate_for_its_hosts(site: Deployment) -> None:
    openssl(
        site, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-subj", "/CN=Example CA", "-days",
        "30", "-out", "ca.pem", "-addext", "keyUsage = critical, keyCertSign, cRLSign",
    )  # fmt: skip
    made(site, "tls", "csr", "--host", "*.example.com", "--host", "192.0.2.7", "--out", "own.csr")
    openssl(
        site, "x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "20",
        "-copy_extensions", "copy", "-out", "own.pem",
    )  # fmt: skip
    for option, host in (("-verify_hostname", "est.example.com"), ("-verify_ip", "192.0.2.7")):
        assert "own.pem: OK" in openssl(
            site, "verify", "-CAfile", "ca.pem", "-purpose", "sslserver", option, host, "own.pem"
        )


def test_the_self_signed_certificate_has_the_same_and_says_that_it_is_for_development(site: Deployment) -> None:
    out = made(
        site, "tls", "self-signed", "--host", "localhost", "--host", "127.0.0.1", "--days", "30",
        "--key", "tls/development.key", "--out", "tls/development.pem",
    )  # fmt: skip

    assert "for development" in out.stdout
    text = openssl(site, "x509", "-in", "tls/development.pem", "-noout", "-text")
    for each in (
        "TLS Web Server Authentication, CMC Registration Authority",
        "Key Usage: critical\n                Digital Signature\n",
        "Basic Constraints: critical\n                CA:FALSE",
        "DNS:localhost, IP Address:127.0.0.1",
        "Issuer: CN = localhost",
    ):
        assert each in text
    assert "OK" in openssl(
        site, "verify", "-CAfile", "tls/development.pem", "-purpose", "sslserver", "-verify_hostname", "localhost",
        "tls/development.pem",
    )  # fmt: skip
    # Thirty days from now, less the minutes that it is backdated.
    openssl(site, "x509", "-in", "tls/development.pem", "-noout", "-checkend", str(29 * 86400))
    assert run(
        "openssl", "x509", "-in", "tls/development.pem", "-noout", "-checkend", str(30 * 86400), cwd=site.directory,
        check=False,
    ).returncode == 1  # fmt: skip
    assert mode(site.directory / "tls" / "development.key") == 0o600


def test_a_subject_is_a_cn_or_a_whole_name(site: Deployment) -> None:
    made(site, "tls", "csr", "--host", "a", "--subject", "Plant 7", "--key", "1.key", "--out", "1.csr")
    made(site, "tls", "csr", "--host", "a", "--subject", "CN=est,O=Example", "--key", "2.key", "--out", "2.csr")

    assert "subject=CN = Plant 7\n" in openssl(site, "req", "-in", "1.csr", "-noout", "-subject")
    assert "subject=O = Example, CN = est\n" in openssl(site, "req", "-in", "2.csr", "-noout", "-subject")


def test_a_host_name_too_long_for_a_cn_leaves_the_subject_empty_and_the_names_critical(site: Deployment) -> None:
    host = f"{'a' * 40}.{'b' * 40}.example"
    made(site, "tls", "csr", "--host", host)

    text = openssl(site, "req", "-in", "server.csr", "-noout", "-text")
    assert "Subject: \n" in text
    assert f"Subject Alternative Name: critical\n                    DNS:{host}" in text


# -- nothing is overwritten, nothing is left half-made ---------------------------------------------------------------
def test_a_key_is_never_overwritten(site: Deployment) -> None:
    key = site.directory / "server.key"
    key.write_text("precious")

    for command in ("csr", "self-signed"):
        line = kipuka(site, "tls", command, "--host", "a").only_line()
        assert line.startswith("server.key: exists already; a key is never overwritten")
    assert key.read_text() == "precious"
    assert [each.name for each in site.directory.iterdir()] == ["server.key"]


def test_an_output_that_is_there_leaves_no_key_behind(site: Deployment) -> None:
    (site.directory / "server.csr").symlink_to("nowhere")

    assert kipuka(site, "tls", "csr", "--host", "a").only_line() == "server.csr: exists already; nothing is overwritten"
    assert [each.name for each in site.directory.iterdir()] == ["server.csr"]


def test_an_output_that_cannot_be_written_leaves_no_key_behind(site: Deployment) -> None:
    (site.directory / "file").write_text("")

    line = kipuka(site, "tls", "csr", "--host", "a", "--out", "file/server.csr").only_line()

    assert "file" in line
    assert [each.name for each in site.directory.iterdir()] == ["file"]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "a.key"
    file.write_text("precious")
    with pytest.raises(ConfigurationError, match="exists already; nothing is overwritten"):
        write_all_new([NewFile(tmp_path / "b.key", b"key", 0o600), NewFile(file, b"key", 0o600)])
    assert file.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [file]


def test_of_several_files_all_are_written_or_none(tmp_path: Path) -> None:
    good, bad = tmp_path / "a.key", tmp_path / "missing" / "b.csr"
    with pytest.raises(ConfigurationError, match=r"b\.csr: cannot be written: No such file"):
        write_all_new([NewFile(good, b"key", 0o600), NewFile(bad, b"csr", 0o644)])
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(ConfigurationError, match="No space left"):
        write_all_new([NewFile(tmp_path / "a.key", b"key", 0o600)])
    assert list(tmp_path.iterdir()) == []


# -- an existing key -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("key_type", ["ecdsa384", "rsa2048"])
def test_an_existing_key_is_used_when_asked_for(site: Deployment, key_type: str) -> None:
    key = make_key(key_type)
    pem = key_pem(key)
    (site.directory / "server.key").write_bytes(pem)

    outcome = made(site, "tls", "csr", "--host", "a", "--existing-key")

    assert outcome.stdout.startswith("made server.csr\n")
    assert (site.directory / "server.key").read_bytes() == pem
    public = openssl(site, "req", "-in", "server.csr", "-noout", "-pubkey")
    assert public.encode() == key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist"),
        (b"noise", "holds no readable PEM private key"),
        (key_pem(make_key(), b"a password"), "is encrypted"),
        (key_pem(make_key("ed25519")), "neither an RSA nor an EC key"),
    ],
)
def test_an_existing_key_that_cannot_be_used_is_one_line(site: Deployment, content: bytes | None, says: str) -> None:
    if content is not None:
        (site.directory / "server.key").write_bytes(content)

    line = kipuka(site, "tls", "csr", "--host", "a", "--existing-key").only_line()

    assert line.startswith("server.key: ")
    assert says in line


# -- wrong command lines ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("bücher.example", "is not ASCII"),
        ("est.*.example.com", "wildcard elsewhere"),
        ("e*.example.com", "wildcard elsewhere"),
        ("*", "wildcard elsewhere"),
        ("*.*.example.com", "wildcard elsewhere"),
        ("https://est.example.com", "neither a host name nor an IP address"),
        ("est.example.com:8443", "neither a host name nor an IP address"),
        ("[2001:db8::7]", "neither a host name nor an IP address"),
        ("est.example.com.", "neither a host name nor an IP address"),
        ("-est.example.com", "neither a host name nor an IP address"),
        ("192.0.2.300", "neither a host name nor an IP address"),
        (f"{'a' * 64}.example", "neither a host name nor an IP address"),
        (".".join(["a" * 60] * 5), "neither a host name nor an IP address"),
        ("", "neither a host name nor an IP address"),
        ("0.0.0.0", "no address that a client connects to"),
        ("fe80::1%eth0", "has a zone"),
    ],
)
def test_a_host_that_no_certificate_can_name_is_refused(site: Deployment, host: str, says: str) -> None:
    outcome = kipuka(site, "tls", "csr", "--host", host)

    assert outcome.code == 2
    assert says in outcome.stderr
    assert list(site.directory.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("csr",), "Missing option '--host'"),
        (("csr", "--host", "a", "--key-type", "ed25519"), "the key can be one of"),
        (("csr", "--host", "a", "--key", "x", "--out", "./x"), "the same file"),
        (("csr", "--host", "a", "--existing-key", "--key-type", "rsa2048"), "leave out --key-type"),
        (("csr", "--host", "a", "--subject", "CN=\\"), "neither a CN nor a name"),
        (("csr", "--host", "a", "--subject", "x" * 65), "neither a CN nor a name"),
        (("self-signed", "--host", "a", "--days", "0"), "--days"),
        (("self-signed", "--host", "a", "--days", "399"), "--days"),
    ],
)
def test_a_wrong_command_line_says_so_and_makes_nothing(
    site: Deployment, arguments: tuple[str, ...], says: str
) -> None:
    outcome = kipuka(site, "tls", *arguments)

    assert outcome.code == 2
    assert says in outcome.stderr
    assert list(site.directory.iterdir()) == []
