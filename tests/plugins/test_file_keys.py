"""The key store ``file``."""

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from pydantic import ValidationError

from kipuka_builtin import file_keys
from kipuka_builtin.file_keys import parse_key_uri
from kipuka_builtin.private_files import PasswordSource
from kipuka_core import ConfigurationError, KeyType
from kipuka_core.model.key_type import key_type_of
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.key_store import KeyStoreContract
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.services import make_services

KEY = pki.make_key()
PASSWORD = "tru ub&4dor"
ENCRYPTED = pki.key_pem(KEY, PASSWORD.encode())
PLAIN = pki.key_pem(KEY)


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> file_keys.FileKeyStore:
    return file_keys.FileKeyStore(file_keys.FileKeySettings(), make_services(tmp_path, warn=warnings.append))


@pytest.fixture(autouse=True)
def keys_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_private(tmp_path / "plain.pem", PLAIN)
    write_private(tmp_path / "encrypted.pem", ENCRYPTED)
    write_private(tmp_path / "password", f"{PASSWORD}\n".encode())
    write_private(tmp_path / "wrong-password", b"wrong")
    write_private(tmp_path / "empty", b"")
    write_private(tmp_path / "text.pem", b"not a key")
    write_private(tmp_path / "certificate.pem", pki.make_root().pem)
    write_private(tmp_path / "damaged.pem", PLAIN.replace(b"\n", b"\n0000", 1))
    write_private(tmp_path / "half.pem", PLAIN[:90])
    write_private(tmp_path / "two.pem", PLAIN + pki.key_pem(pki.make_key()))
    monkeypatch.setenv("CA_KEY_PASSWORD", PASSWORD)
    monkeypatch.setenv("EMPTY", "")
    return tmp_path


def pem(
    key: Any, format_: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8, password: bytes | None = None
) -> bytes:
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    content: bytes = key.private_bytes(serialization.Encoding.PEM, format_, protection)
    return content


class TestContract(KeyStoreContract):
    provider = file_keys.PROVIDER

    @pytest.fixture
    def settings(self) -> Mapping[str, object]:
        return {"password_file": "password"}

    @pytest.fixture
    def key_uri(self) -> str:
        return "file:encrypted.pem"

    @pytest.fixture
    def public_key(self) -> CertificatePublicKeyTypes:
        return KEY.public_key()

    @pytest.fixture
    def refused_uris(self) -> Sequence[str]:
        names = ("missing.pem", "text.pem", "certificate.pem", "damaged.pem", "half.pem", "two.pem", "empty", ".", "")
        odd = ("a\nb", "nul\0", "file:", "file://elsewhere/key.pem", "file://relative.pem", "file:%00", "x" * 5000)
        return (
            *names,
            *odd,
            "encrypted.pem?password-file=wrong-password",
            "encrypted.pem?password-file=missing",
            "encrypted.pem?password-file=empty",
            "encrypted.pem?password-env=NOT_SET",
            "encrypted.pem?password-env=EMPTY",
            "encrypted.pem?password-env=",
            f"encrypted.pem?password={PASSWORD}",
            "encrypted.pem?password-env=CA_KEY_PASSWORD&password-file=password",
        )

    @pytest.fixture
    def new_key_uri(self) -> str:
        return "new.pem"

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        return (PASSWORD, "wrong-pass\n")


@pytest.mark.parametrize(
    "uri",
    [
        "plain.pem",
        "file:plain.pem",
        "FILE:plain%2Epem",
        "file:{dir}/plain.pem",
        "file://{dir}/plain.pem",
        "file://localhost{dir}/plain.pem",
        "{dir}/plain.pem",
        "encrypted.pem?password-env=CA_KEY_PASSWORD",
        "file:encrypted.pem?password-file=password",
        "file:encrypted.pem?password-file={dir}/password",
    ],
)
async def test_every_way_of_naming_a_file_opens_it(store: file_keys.FileKeyStore, keys_dir: Path, uri: str) -> None:
    signer = await store.signer(uri.format(dir=keys_dir))
    assert signer.private_key.public_key() == KEY.public_key()
    assert not signer.hsm_backed


@pytest.mark.parametrize("key_type", ["rsa2048", "ecdsa384"])
@pytest.mark.parametrize("password", [None, b"secret"])
async def test_traditional_files_open_too(
    store: file_keys.FileKeyStore, keys_dir: Path, key_type: str, password: bytes | None
) -> None:
    key = pki.make_key(key_type)
    content = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    content += pem(key, serialization.PrivateFormat.TraditionalOpenSSL, password)
    write_private(keys_dir / "old.pem", content)
    write_private(keys_dir / "secret", b"secret\r\n")
    signer = await store.signer("old.pem" + ("?password-file=secret" if password else ""))
    assert signer.private_key.public_key() == key.public_key()


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("missing.pem", r"missing\.pem: cannot be read: No such file"),
        (".", "Is a directory"),
        ("text.pem", "not a PEM file"),
        ("certificate.pem", "only: CERTIFICATE"),
        ("half.pem", "no whole private key"),
        ("two.pem", "2 private keys"),
        ("damaged.pem", "damaged"),
        ("encrypted.pem", r"encrypted; name its password, by password_file or password_env in \[key_store.file\]"),
        ("encrypted.pem?password-file=wrong-password", "password is wrong"),
        ("encrypted.pem?password-env=NOT_SET", "NOT_SET: this environment variable.* is not set"),
        ("encrypted.pem?password-file=empty", "empty"),
        ("file://host/key.pem", "file:relative/path"),
    ],
)
async def test_an_error_says_which_file_and_what_is_wrong(store: file_keys.FileKeyStore, uri: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        await store.signer(uri)


@pytest.mark.parametrize("key", [x25519.X25519PrivateKey.generate(), dsa.generate_private_key(1024)])
async def test_a_key_that_signs_no_certificates_is_refused(
    store: file_keys.FileKeyStore, keys_dir: Path, key: Any
) -> None:
    write_private(keys_dir / "other.pem", pem(key))
    with pytest.raises(ConfigurationError, match="cannot sign certificates"):
        await store.signer("other.pem")


async def test_a_file_that_others_can_use_is_warned_of_or_refused(
    store: file_keys.FileKeyStore, keys_dir: Path, warnings: list[str]
) -> None:
    (keys_dir / "plain.pem").chmod(0o640)
    await store.signer("plain.pem")
    assert len(warnings) == 1
    assert "chmod 0600" in warnings[0]
    strict = file_keys.FileKeyStore(
        file_keys.FileKeySettings(), make_services(keys_dir, strict_permissions=True, warn=warnings.append)
    )
    with pytest.raises(ConfigurationError, match="0640"):
        await strict.signer("plain.pem")
    (keys_dir / "password").chmod(0o604)
    with pytest.raises(ConfigurationError, match="password: mode 0604"):
        await strict.signer("encrypted.pem?password-file=password")


async def test_a_password_for_a_key_that_is_not_encrypted_is_warned_of(
    store: file_keys.FileKeyStore, warnings: list[str]
) -> None:
    await store.signer("plain.pem?password-file=password")
    assert "not encrypted" in warnings[0]


async def test_the_password_of_the_settings_is_for_encrypted_keys_without_their_own(
    keys_dir: Path, warnings: list[str]
) -> None:
    settings = file_keys.FileKeySettings(password_env="CA_KEY_PASSWORD")
    store = file_keys.FileKeyStore(settings, make_services(keys_dir, warn=warnings.append))
    await store.signer("encrypted.pem")
    await store.signer("plain.pem")
    with pytest.raises(ConfigurationError, match="password is wrong"):
        await store.signer("encrypted.pem?password-file=wrong-password")
    assert warnings == []


def test_two_sources_of_one_password_are_refused() -> None:
    with pytest.raises(ValidationError):
        file_keys.FileKeySettings(password_env="A", password_file="b")


@pytest.mark.parametrize("key_type", list(KeyType))
async def test_generated_keys_are_of_the_type_asked_for_and_private(
    store: file_keys.FileKeyStore, keys_dir: Path, key_type: KeyType
) -> None:
    made = await store.generate("made.pem", key_type)
    assert key_type_of(made.private_key.public_key()) == key_type
    assert stat.S_IMODE((keys_dir / "made.pem").stat().st_mode) == 0o600
    found = await store.signer("made.pem")
    assert found.private_key.public_key() == made.private_key.public_key()
    slow = key_type in {KeyType.RSA3072, KeyType.RSA4096} or key_type.family == "ml-dsa"
    assert made.blocking is found.blocking is slow


async def test_a_generated_key_is_encrypted_when_a_password_is_named(
    store: file_keys.FileKeyStore, keys_dir: Path
) -> None:
    await store.generate("made.pem?password-env=CA_KEY_PASSWORD", "ecdsa256")
    assert b"ENCRYPTED" in (keys_dir / "made.pem").read_bytes()
    await store.signer("made.pem?password-env=CA_KEY_PASSWORD")


async def test_generating_never_touches_a_file_that_is_there(store: file_keys.FileKeyStore, keys_dir: Path) -> None:
    (keys_dir / "link.pem").symlink_to("nowhere.pem")
    for name in ("plain.pem", "link.pem", "."):
        with pytest.raises(ConfigurationError, match="never overwritten"):
            await store.generate(name, "ecdsa256")
    assert (keys_dir / "plain.pem").read_bytes() == PLAIN
    assert not (keys_dir / "nowhere.pem").exists()


async def test_a_key_that_cannot_be_written_is_an_error_and_leaves_nothing(
    store: file_keys.FileKeyStore, keys_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written: No such file"):
        await store.generate("nowhere/made.pem", "ecdsa256")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ConfigurationError, match="cannot be written: No space left"):
        await store.generate("made.pem", "ecdsa256")
    assert not (keys_dir / "made.pem").exists()


def test_a_question_mark_in_a_file_name_is_written_as_in_any_uri(tmp_path: Path) -> None:
    location = parse_key_uri("file:what%3F.pem?password-file=a%26b", tmp_path)
    assert location.path == tmp_path / "what?.pem"
    assert location.password.file is not None
    assert location.password.file.name == "a&b"
    assert not parse_key_uri("plain.pem", tmp_path).password
    assert parse_key_uri("plain.pem", tmp_path).password == PasswordSource()
