"""TLS material ``files``."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from kipuka_builtin import tls_files
from kipuka_core import ConfigurationError, ServerIdentity
from kipuka_core.testing import pki
from kipuka_core.testing.contracts.tls_material import TlsMaterialContract, serve_with
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.services import make_services

CA = pki.make_root().subordinate()
SERVER = CA.server()
PASSWORD = "hunter22"


def put(directory: Path, leaf: pki.Leaf) -> None:
    write_private(directory / "server.pem", leaf.chain_pem)
    write_private(directory / "server.key", pki.key_pem(leaf.key, PASSWORD.encode()))


@pytest.fixture(autouse=True)
def tls_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    put(tmp_path, SERVER)
    write_private(tmp_path / "plain.key", SERVER.key_pem)
    write_private(tmp_path / "password", PASSWORD.encode())
    monkeypatch.setenv("TLS_KEY_PASSWORD", PASSWORD)
    return tmp_path


async def identity_of(
    directory: Path, warnings: list[str] | None = None, *, strict: bool = False, **settings: str
) -> ServerIdentity:
    collected = [] if warnings is None else warnings
    services = make_services(directory, strict_permissions=strict, warn=collected.append)
    table = {"cert": "server.pem", "key": "server.key"} | settings
    async with tls_files.PROVIDER.open(tls_files.TlsFilesSettings.model_validate(table), services) as port:
        return await port.server_identity()


class TestContract(TlsMaterialContract):
    provider = tls_files.PROVIDER

    @pytest.fixture
    def settings(self) -> Mapping[str, object]:
        return {"cert": "server.pem", "key": "server.key", "key_password_file": "password"}

    @pytest.fixture
    def renew(self, tls_dir: Path) -> Callable[[], None]:
        return lambda: put(tls_dir, CA.server())

    @pytest.fixture
    def break_it(self, tls_dir: Path) -> Callable[[], None]:
        def break_it() -> None:
            (tls_dir / "server.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n")

        return break_it

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        return (PASSWORD,)


async def test_paths_are_relative_to_the_configuration(tls_dir: Path) -> None:
    identity = await identity_of(tls_dir, key="plain.key")
    assert (identity.certificate_file, identity.key_file) == (str(tls_dir / "server.pem"), str(tls_dir / "plain.key"))
    assert identity.key_password is None


@pytest.mark.parametrize("source", [{"key_password_env": "TLS_KEY_PASSWORD"}, {"key_password_file": "password"}])
async def test_an_encrypted_key_serves_with_its_password(tls_dir: Path, source: dict[str, Any]) -> None:
    identity = await identity_of(tls_dir, **source)
    assert identity.key_password == PASSWORD.encode()
    serve_with(identity)


async def test_certificate_and_key_may_share_a_file(tls_dir: Path) -> None:
    write_private(tls_dir / "both.pem", SERVER.key_pem + SERVER.chain_pem)
    serve_with(await identity_of(tls_dir, cert="both.pem", key="both.pem"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cert": "missing.pem"}, r"missing\.pem: cannot be read"),
        ({"cert": "plain.key"}, r"plain\.key: holds no certificate"),
        ({"key": "missing.key"}, r"missing\.key: cannot be read"),
        ({"key": "server.pem"}, r"server\.pem: holds no whole private key"),
        ({"key": "other.key"}, r"other\.key: is not the key of the first certificate in .*server\.pem"),
        ({"key": "server.key"}, "encrypted"),
        ({"key": "server.key", "key_password_env": "NOT_SET"}, "NOT_SET"),
        ({"key": "server.key", "key_password_file": "wrong"}, "password is wrong"),
    ],
)
async def test_an_error_says_which_file_and_what_is_wrong(tls_dir: Path, settings: dict[str, Any], says: str) -> None:
    write_private(tls_dir / "other.key", pki.key_pem(pki.make_key()))
    write_private(tls_dir / "wrong", b"wrong")
    table: dict[str, Any] = {"key": "plain.key"} | settings
    with pytest.raises(ConfigurationError, match=says):
        await identity_of(tls_dir, **table)


async def test_a_key_that_others_can_read_is_warned_of_or_refused(tls_dir: Path) -> None:
    (tls_dir / "plain.key").chmod(0o644)
    (tls_dir / "server.pem").chmod(0o644)
    warnings: list[str] = []
    await identity_of(tls_dir, warnings, key="plain.key")
    assert ["plain.key" in text for text in warnings] == [True]
    with pytest.raises(ConfigurationError, match="0644"):
        await identity_of(tls_dir, key="plain.key", strict=True)
