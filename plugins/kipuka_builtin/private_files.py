"""Files that hold secrets: read with one-line errors, and looked at for who else may read them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kipuka_core import ConfigurationError, Services, read_secret_file
from kipuka_core.hooks.secret_files import read_file, shown

_PEM_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,60})-----")
_PRIVATE_KEY = re.compile(rb"-----BEGIN ((?:[A-Z0-9]{1,20} ){0,2}PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PasswordSource:
    """Where the password of an encrypted key comes from: an environment variable, a file, or nowhere."""

    env: str | None = None
    file: Path | None = None

    def __bool__(self) -> bool:
        return self.env is not None or self.file is not None

    def read(self, services: Services) -> bytes | None:
        """The password, None when no source is named. Raises ConfigurationError when the named one has none."""
        if self.env is not None:
            password = os.environb.get(os.fsencode(self.env), b"")
            if not password:
                raise ConfigurationError(shown(self.env), "this environment variable, for a key's password, is not set")
            return password
        if self.file is None:
            return None
        path = services.base_dir / self.file
        password = read_secret_file(path, services).removesuffix(b"\n").removesuffix(b"\r")
        if not password:
            raise ConfigurationError(shown(path), "this file, for a key's password, is empty")
        return password


@dataclass(frozen=True, slots=True)
class PrivateKeyFile:
    """A private key and whether its file was encrypted."""

    key: PrivateKeyTypes
    encrypted: bool


def load_private_key(
    path: Path, password: bytes | None, named_by: str = "an environment variable or a file"
) -> PrivateKeyFile:
    """Read the one private key of a PEM file (PKCS#8, or traditional RSA and EC; other blocks are passed over).

    ``named_by`` are the keys of kipuka.toml by which its password is named. Takes up to a third of a second for
    RSA-4096, so call it in a worker thread. Raises ConfigurationError, in one line without anything of the content, for
    every way in which the file is not that.
    """
    block = _private_key_block(path, read_file(path))
    try:
        return PrivateKeyFile(load_pem_private_key(block, None), encrypted=False)
    except TypeError:  # cryptography's way to say that it is encrypted
        if not password:
            raise ConfigurationError(shown(path), f"the key is encrypted; name its password, by {named_by}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(shown(path), "the private key in it is damaged or of an unknown kind") from None
    try:
        return PrivateKeyFile(load_pem_private_key(block, password), encrypted=True)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(
            shown(path), "the key cannot be decrypted: the password is wrong or the encryption is of an unknown kind"
        ) from None


def _private_key_block(path: Path, content: bytes) -> bytes:
    blocks = list(_PRIVATE_KEY.finditer(content))
    if len(blocks) == 1:
        return blocks[0].group() + b"\n"
    if blocks:
        raise ConfigurationError(shown(path), f"holds {len(blocks)} private keys; it must hold exactly one")
    labels = sorted({label.decode() for label in _PEM_LABEL.findall(content)})
    if labels:
        raise ConfigurationError(shown(path), f"holds no whole private key, only: {', '.join(labels)}")
    raise ConfigurationError(shown(path), "is not a PEM file; convert a DER key with: openssl pkey -inform DER")
