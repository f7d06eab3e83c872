"""Key store ``file``: CA keys in PEM files. Also serves every key URI that has no scheme."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, cast, get_args
from urllib.parse import unquote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from pydantic import Field, model_validator

from kipuka_builtin.private_files import PasswordSource, PrivateKeyFile, load_private_key
from kipuka_core import ConfigurationError, KeyStore, KeyType, Provider, Services, Settings, Signer
from kipuka_core.hooks.secret_files import check_permissions, shown
from kipuka_core.model.key_type import describe_key, parse_key_type

_SIGNING_KEYS = tuple(kind for kind in get_args(CertificateIssuerPrivateKeyTypes) if kind is not dsa.DSAPrivateKey)
_ML_DSA_KEYS = (mldsa.MLDSA44PrivateKey, mldsa.MLDSA65PrivateKey, mldsa.MLDSA87PrivateKey)
_BLOCKING_RSA_BITS = 3072
_NAMED_BY = "password_file or password_env in [key_store.file], or ?password-file=FILE after its path"
_PASSWORD_PARAMETERS = ("password-env", "password-file")

GENERATORS: dict[KeyType, Callable[[], CertificateIssuerPrivateKeyTypes]] = {
    KeyType.RSA2048: lambda: rsa.generate_private_key(65537, 2048),
    KeyType.RSA3072: lambda: rsa.generate_private_key(65537, 3072),
    KeyType.RSA4096: lambda: rsa.generate_private_key(65537, 4096),
    KeyType.ECDSA256: lambda: ec.generate_private_key(ec.SECP256R1()),
    KeyType.ECDSA384: lambda: ec.generate_private_key(ec.SECP384R1()),
    KeyType.ECDSA521: lambda: ec.generate_private_key(ec.SECP521R1()),
    KeyType.ED25519: ed25519.Ed25519PrivateKey.generate,
    KeyType.ED448: ed448.Ed448PrivateKey.generate,
    KeyType.ML_DSA_44: mldsa.MLDSA44PrivateKey.generate,
    KeyType.ML_DSA_65: mldsa.MLDSA65PrivateKey.generate,
    KeyType.ML_DSA_87: mldsa.MLDSA87PrivateKey.generate,
}


class FileKeySettings(Settings):
    """``[key_store.file]``: the password of encrypted keys whose URI does not name one."""

    password_env: str | None = Field(
        default=None, description="Environment variable with the password of encrypted keys."
    )
    password_file: Path | None = Field(
        default=None, description="File whose content is the password of encrypted keys."
    )

    @model_validator(mode="after")
    def _name_one_password(self) -> Self:
        if self.password_env is not None and self.password_file is not None:
            raise ValueError("password_env and password_file exclude each other: keep one")
        return self


@dataclass(frozen=True, slots=True)
class KeyLocation:
    """A key URI, read. ``password`` is empty where the URI names none."""

    path: Path
    password: PasswordSource


def parse_key_uri(key_uri: str, base_dir: Path) -> KeyLocation:
    """Read a path or a ``file:`` URI (RFC 8089), with ``?password-env=NAME`` or ``?password-file=PATH``.

    Raises ConfigurationError for another host, an unknown parameter, or no path; the message repeats no value of a
    parameter, since somebody may have written a password there.
    """
    location, _, query = key_uri.partition("?")
    path = location
    if location[:5].lower() == "file:":
        path = location[5:]
        if path.startswith("//"):
            host, slash, rest = path[2:].partition("/")
            if host.lower() not in {"", "localhost"} or not slash:
                raise ConfigurationError(shown(location), "write file:relative/path or file:///absolute/path")
            path = slash + rest
        path = unquote(path)
    if not path:
        raise ConfigurationError(shown(location) or "key", "names no file")
    return KeyLocation(base_dir / path, _password_source(location, query))


def _password_source(location: str, query: str) -> PasswordSource:
    parameters: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in _PASSWORD_PARAMETERS or parameters or not value:
            known = " or ".join(f"{parameter}=…" for parameter in _PASSWORD_PARAMETERS)
            raise ConfigurationError(shown(location), f"after the question mark of a key URI stands {known}, once")
        parameters[name] = unquote(value)
    file = parameters.get("password-file")
    return PasswordSource(parameters.get("password-env"), None if file is None else Path(file))


class FileKeyStore(KeyStore):
    """Opens and makes PEM key files. Holds no key itself."""

    schemes: ClassVar[tuple[str, ...]] = ("file",)

    def __init__(self, settings: FileKeySettings, services: Services) -> None:
        self._default_password = PasswordSource(settings.password_env, settings.password_file)
        self._services = services

    async def signer(self, key_uri: str) -> Signer:
        """Open a key file. Raises ConfigurationError, naming the file, when that cannot be done."""
        location = parse_key_uri(key_uri, self._services.base_dir)
        check_permissions(location.path, self._services)
        password = (location.password or self._default_password).read(self._services)
        loaded: PrivateKeyFile = await self._services.run_blocking(load_private_key, location.path, password, _NAMED_BY)
        if location.password and not loaded.encrypted:
            self._services.warn(f"{shown(location.path)}: the key is not encrypted, so its password protects nothing")
        if not isinstance(loaded.key, _SIGNING_KEYS):
            kind = describe_key(loaded.key.public_key())
            raise ConfigurationError(shown(location.path), f"a key of the kind {kind} cannot sign certificates")
        return _signer(cast("CertificateIssuerPrivateKeyTypes", loaded.key))

    async def generate(self, key_uri: str, key_type: str) -> Signer:
        """Make a key in a new file that only its owner can read, encrypted when a password is named.

        Raises ConfigurationError when the file is there already: a key is never overwritten.
        """
        location = parse_key_uri(key_uri, self._services.base_dir)
        try:
            generator = GENERATORS[parse_key_type(key_type)]
        except ValueError as error:
            raise ConfigurationError(shown(location.path), str(error)) from None
        password = (location.password or self._default_password).read(self._services)
        return cast("Signer", await self._services.run_blocking(_generate, generator, location.path, password))


def _generate(generator: Callable[[], CertificateIssuerPrivateKeyTypes], path: Path, password: bytes | None) -> Signer:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigurationError(shown(path), "is there already; a key is never overwritten") from None
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from None
    try:
        key = generator()
        protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        with suppress(OSError):  # half a key is worse than none
            path.unlink()
        if isinstance(error, OSError):
            raise _unwritable(path, error) from None
        raise
    return _signer(key)


def _unwritable(path: Path, error: OSError | ValueError) -> ConfigurationError:
    why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "not a possible file name"
    return ConfigurationError(shown(path), f"cannot be written: {why}")


def _signer(key: CertificateIssuerPrivateKeyTypes) -> Signer:
    # Measured on one core: RSA-2048 and every curve sign in under 0.4 ms, which costs less than changing threads
    # gains; RSA-3072, RSA-4096 and ML-DSA take 0.8 to 2 ms, during which the event loop would serve nobody.
    slow_rsa = isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _BLOCKING_RSA_BITS
    return Signer(key, blocking=slow_rsa or isinstance(key, _ML_DSA_KEYS))


@asynccontextmanager
async def _open(settings: FileKeySettings, services: Services) -> AsyncIterator[KeyStore]:
    yield FileKeyStore(settings, services)


PROVIDER: Provider[KeyStore] = Provider("file", FileKeySettings, _open)
