"""``kipuka hsm``: what it lists, measures, makes and refuses; each refusal is one line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from kipuka_core import ConfigurationError
from kipuka_core.testing.pki import make_key, make_root, name
from kipuka_core.testing.server import Deployment, make_deployment
from kipuka_hsm.ca_certificates import CaProfile, make_csr, make_self_signed, make_subordinate, parse_subject
from tests.hsm.softhsm import LIBRARY, PIN, FaultyModule, SoftHsm, make_softhsm

NOW = datetime(2026, 1, 1, tzinfo=UTC)
URI = "pkcs11:token=kipuka;object=issuing"


@dataclass
class Commands:
    """A deployment and a token with the keys issuing (id 01), second (02), and one without a readable label (77)."""

    deployment: Deployment
    hsm: SoftHsm

    def run(self, *arguments: str, library: Path = LIBRARY, **environment: str) -> tuple[int, list[str]]:
        """Exit code and the lines of the answer, which no traceback is among."""
        self.deployment.configure(
            f'[plugins]\nenable = ["hsm"]\n[hsm]\nlibrary = "{library}"\npin_file = "{self.hsm.pin_file}"\n'
        )
        done = self.deployment.kipuka("hsm", *arguments, check=False, **self.hsm.environment, **environment)
        text = done.stdout + done.stderr
        assert "Traceback" not in text, text
        return done.returncode, text.splitlines()

    def refused(self, *arguments: str) -> str:
        """The one line of an error, with nothing in it that a terminal does not show."""
        code, lines = self.run(*arguments)
        assert (code, len(lines)) == (1, 1), lines
        assert lines[0].isprintable()
        assert len(lines[0]) < 1000
        return lines[0].removeprefix("kipuka: error: ")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    directory = tmp_path_factory.mktemp("commands")
    hsm = make_softhsm(directory / "hsm")
    hsm.import_key("issuing", make_key())
    hsm.import_key("second", make_key(), "02")
    hsm.run("softhsm2-util", "--import", str(hsm.directory / "second.pem"), "--token", "kipuka", "--pin", PIN,
            "--label", os.fsdecode(b"caf\xe9"), "--id", "77")  # fmt: skip
    return Commands(make_deployment(directory / "site"), hsm)


def test_keys_lists_those_that_the_uri_names(commands: Commands) -> None:
    def listed(uri: str) -> list[str]:
        code, (_, *rows) = commands.run("keys", uri)
        assert code == 0
        return sorted(row.split()[0] for row in rows)

    first, second = f"{URI};id=%01", "pkcs11:token=kipuka;object=second;id=%02"
    assert listed("pkcs11:token=kipuka") == sorted([first, second, "pkcs11:token=kipuka;id=%77"])
    assert listed("pkcs11:object=second") == [second]
    assert listed("pkcs11:id=%01") == [first]
    code, (line,) = commands.run("keys", "pkcs11:object=second;id=%01")
    assert (code, line.endswith(" has no such private key")) == (0, True)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("pkcs11:token=kipuka?pin-source=//[x", "pin-source: is neither a file: URI"),
        ("pkcs11:token=kipuka?pin-source=file:%2500", "pin-source: has a character in it"),
        ("pkcs11:token=kipuka?module-path=/x%0ay.so", "cannot be shown"),
        ("pkcs11:token=a%0Ab", r"no token matches token=a\nb"),
        ("pkcs11:slot-id=7", "no token matches slot-id=7; present: token=kipuka;serial="),
        ("pkcs11:id=", "id is empty"),
    ],
)
def test_a_uri_that_cannot_be_used_is_one_line(commands: Commands, uri: str, words: str) -> None:
    assert words in commands.refused("keys", uri)


def test_a_label_with_a_line_feed_is_shown_without(commands: Commands) -> None:
    line = commands.refused("test", "pkcs11:token=kipuka;object=a%0Ab")
    assert r"no private key matches object=a\nb" in line


def test_no_key_is_made_under_a_name_or_an_id_that_is_taken(commands: Commands) -> None:
    assert "there is a private key object=issuing already" in commands.refused("generate", URI)
    taken = commands.refused("generate", "pkcs11:token=kipuka;object=third;id=%02", "--key-type", "ecdsa256")
    assert "there is a private key id=%02 already" in taken


def test_a_token_with_few_sessions_is_measured_as_far_as_it_goes(commands: Commands, faulty_library: Path) -> None:
    module = FaultyModule(faulty_library, commands.hsm.directory / "orders", commands.hsm.directory / "calls")
    module.order("C_OpenSession most 2")
    code, lines = commands.run("test", URI, "--seconds", "0.1", library=faulty_library, **module.environment)
    assert code == 0
    assert [line.partition(":")[0] for line in lines[-3:-1]] == ["1 session", "2 sessions"]
    assert lines[-1].startswith("4 sessions are more than the token has free now (SessionCount (")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("self-signed", URI, "--subject", "CN=x", "--days", "9999999"), "--days: 9999999 days are beyond"),
        (("self-signed", URI, "--subject", ""), "--subject: a CA needs a name"),
        (("csr", URI, "--subject", "nonsense\n"), "--subject: "),
    ],
)
def test_what_no_certificate_can_say_is_one_line(commands: Commands, arguments: tuple[str, ...], words: str) -> None:
    assert words in commands.refused(*arguments)


def test_an_absurd_path_length_is_a_wrong_command_line(commands: Commands) -> None:
    code, lines = commands.run("self-signed", URI, "--subject", "CN=x", "--path-length", "99999999999")
    assert (code, "is not in the range 0<=x<=100" in lines[-1]) == (2, True)


def subordinate(
    key: Any, issuer: x509.Certificate, path_length: int | None = 0, now: datetime = NOW
) -> x509.Certificate:
    profile = CaProfile(name("Issuing CA"), 3650, path_length)
    return make_subordinate(key, issuer, make_csr(make_key(), profile), profile, now)


def issuer(key: Any, *extensions: x509.ExtensionType, days: int = 30) -> x509.Certificate:
    builder = x509.CertificateBuilder().subject_name(name("Root")).issuer_name(name("Root")).serial_number(7)
    builder = builder.public_key(key.public_key()).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=days))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256())


def usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=key_cert_sign, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("extensions", "path_length", "after_days", "words"),
    [
        ((), 0, 1, "is no CA"),
        ((x509.BasicConstraints(ca=False, path_length=None),), 0, 1, "is no CA"),
        ((x509.BasicConstraints(ca=True, path_length=0),), 0, 1, "may not certify CAs"),
        ((x509.BasicConstraints(ca=True, path_length=2),), 2, 1, "--path-length: has to be below 2"),
        ((x509.BasicConstraints(ca=True, path_length=2),), None, 1, "--path-length: has to be below 2"),
        ((x509.BasicConstraints(ca=True, path_length=None), usage(key_cert_sign=False)), 0, 1, "lacks keyCertSign"),
        ((x509.BasicConstraints(ca=True, path_length=None),), 0, 31, "is not valid now, but from 2026-01-01"),
        ((x509.BasicConstraints(ca=True, path_length=None),), 0, -1, "is not valid now"),
    ],
)
def test_an_issuer_that_nobody_would_believe_certifies_no_ca(
    extensions: tuple[x509.ExtensionType, ...], path_length: int | None, after_days: int, words: str
) -> None:
    key = make_key()
    with pytest.raises(ConfigurationError, match=words):
        subordinate(key, issuer(key, *extensions), path_length, NOW + timedelta(days=after_days))


def test_a_ca_below_an_issuer_without_a_key_identifier_names_its_key() -> None:
    key: Any = make_key()
    root = issuer(key, x509.BasicConstraints(ca=True, path_length=2), usage(key_cert_sign=True))
    made = subordinate(key, root, 1)
    made.verify_directly_issued_by(root)
    authority = made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    assert made.not_valid_after_utc == root.not_valid_after_utc


def test_a_ca_below_an_issuer_with_one_names_that() -> None:
    root = make_root()
    made = subordinate(root.key, root.certificate, now=datetime.now(UTC))
    above = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == above.digest


def test_a_csr_without_a_name_gets_no_certificate() -> None:
    root = make_root()
    profile = CaProfile(x509.Name([]), 10, 0)
    with pytest.raises(ConfigurationError, match="empty subject"):
        make_subordinate(root.key, root.certificate, make_csr(make_key(), profile), profile, datetime.now(UTC))


def test_the_last_day_that_a_certificate_can_name_is_one() -> None:
    key = make_key()
    last = (datetime(9999, 12, 31, tzinfo=UTC) - NOW).days
    made = make_self_signed(key, CaProfile(parse_subject("CN=x"), last, None), NOW)
    assert made.not_valid_after_utc.year == 9999
    with pytest.raises(ConfigurationError, match="beyond the year 9999"):
        make_self_signed(key, CaProfile(parse_subject("CN=x"), last + 1, None), NOW)
