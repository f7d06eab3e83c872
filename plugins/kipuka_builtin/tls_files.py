"""TLS material ``files``: a listener's certificate chain and key in PEM files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from pydantic import Field, model_validator

from kipuka_builtin.private_files import PasswordSource, load_private_key
from kipuka_core import ConfigurationError, Provider, ServerIdentity, Services, Settings, TlsMaterial
from kipuka_core.hooks.secret_files import check_permissions, read_file, shown


class TlsFilesSettings(Settings):
    """The part of ``[tls]`` that says where certificate and key are."""

    cert: Path = Field(description="PEM: the server certificate first, then its intermediates.")
    key: Path = Field(description="PEM: the private key of that certificate.")
    key_password_env: str | None = Field(default=None, description="Environment variable with the password of the key.")
    key_password_file: Path | None = Field(default=None, description="File whose content is the password of the key.")

    @model_validator(mode="after")
    def _name_one_password(self) -> Self:
        if self.key_password_env is not None and self.key_password_file is not None:
            raise ValueError("key_password_env and key_password_file exclude each other: keep one")
        return self


class TlsFiles(TlsMaterial):
    """Looks the files over each time it is asked, so that a reload with a bad file changes nothing."""

    def __init__(self, settings: TlsFilesSettings, services: Services) -> None:
        self._certificate_file = services.base_dir / settings.cert
        self._key_file = services.base_dir / settings.key
        self._password = PasswordSource(settings.key_password_env, settings.key_password_file)
        self._services = services

    async def server_identity(self) -> ServerIdentity:
        """The two paths and the password.

        Raises ConfigurationError, naming the file, when one cannot be read or they do not belong together.
        """
        check_permissions(self._key_file, self._services)
        password = self._password.read(self._services)
        await self._services.run_blocking(_check_pair, self._certificate_file, self._key_file, password)
        return ServerIdentity(str(self._certificate_file), str(self._key_file), password)


def _check_pair(certificate_file: Path, key_file: Path, password: bytes | None) -> None:
    try:
        leaf = x509.load_pem_x509_certificates(read_file(certificate_file))[0]
        public_key = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(shown(certificate_file), "holds no certificate in PEM, or a damaged one") from None
    if load_private_key(key_file, password, "key_password_file or key_password_env").key.public_key() != public_key:
        raise ConfigurationError(
            shown(key_file), f"is not the key of the first certificate in {shown(certificate_file)}"
        )


@asynccontextmanager
async def _open(settings: TlsFilesSettings, services: Services) -> AsyncIterator[TlsMaterial]:
    yield TlsFiles(settings, services)


PROVIDER: Provider[TlsMaterial] = Provider("files", TlsFilesSettings, _open)
