"""A listener's certificate from a directory where another program (an ACME client) puts NAME.pem and NAME.key."""

from contextlib import nullcontext
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import Field

from kipuka_core import ConfigurationError, Provider, ServerIdentity, Services, Settings, TlsMaterial, hookimpl


class DirectorySettings(Settings):
    """``[tls.directory]``."""

    path: Path = Field(description="Holds NAME.pem, the certificate and then its intermediates, and NAME.key.")


class TlsDirectory(TlsMaterial):
    """Serves the pair whose certificate was issued last, of those that belong together and are valid."""

    def __init__(self, settings: DirectorySettings, services: Services) -> None:
        self._path, self._services = settings.path, services
        self._announced: x509.Certificate | None = None

    async def server_identity(self) -> ServerIdentity:
        """The newest pair. Raises ConfigurationError where there is none; what was served before goes on then."""
        leaf, file = await self._services.run_blocking(self._newest)
        self._announced = self._announced or leaf
        return ServerIdentity(str(file), str(file.with_suffix(".key")))

    async def upkeep(self) -> bool:
        """Look into the directory, every few seconds; True once when the newest pair is another one."""
        newest, _ = await self._services.run_blocking(self._newest)
        before, self._announced = self._announced, newest
        return before not in {None, newest}

    def _newest(self) -> tuple[x509.Certificate, Path]:
        pairs = [(leaf, file) for file in sorted(self._path.glob("*.pem")) if (leaf := self._usable(file))]
        if not pairs:
            raise ConfigurationError(str(self._path), "holds no NAME.pem with its NAME.key that is valid now")
        return max(pairs, key=lambda pair: pair[0].not_valid_before_utc)

    def _usable(self, file: Path) -> x509.Certificate | None:
        try:
            leaf = x509.load_pem_x509_certificates(file.read_bytes())[0]
            key = load_pem_private_key(
                file.with_suffix(".key").read_bytes(),
                None,
                unsafe_skip_rsa_key_validation=True,  # slow, and no news
            )
        except (OSError, ValueError, TypeError):  # half written, or encrypted: not yet, or not for us
            return None
        is_valid = leaf.not_valid_before_utc <= self._services.clock() < leaf.not_valid_after_utc
        return leaf if is_valid and key.public_key() == leaf.public_key() else None


@hookimpl
def kipuka_tls_material() -> list[Provider[TlsMaterial]]:
    """The word for ``[tls] material``."""
    return [Provider("directory", DirectorySettings, lambda *opened: nullcontext(TlsDirectory(*opened)))]
