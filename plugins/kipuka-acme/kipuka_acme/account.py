"""The account at the CA: its key, its URL, and how it comes to be (RFC 8555 7.3)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from kipuka_acme.http import Answer, no_sense
from kipuka_acme.jws import AccountKey, load_account_key, new_account_key_pem
from kipuka_acme.problems import Problem
from kipuka_acme.session import Session, shaped
from kipuka_acme.settings import AcmeSettings
from kipuka_acme.shapes import HttpsUrl, Located
from kipuka_core import ConfigurationError, Services, read_secret_file, sync_directory

_SHORTEST_HMAC_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class ExternalBinding:
    """RFC 8555 7.3.4. No repr shows the key."""

    kid: str
    hmac_key: bytes

    def __repr__(self) -> str:
        return f"<external account binding {self.kid}>"


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: str
    thumbprint: str
    url: HttpsUrl


class TermsNotAgreed(Exception):
    """The CA has terms of service at ``url``, and nobody has said that they are agreed to."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


class Account:
    """Signs requests in the name of the account, which is registered when first needed."""

    def __init__(
        self, session: Session, settings: AcmeSettings, binding: ExternalBinding | None, file: Path | None
    ) -> None:
        self._session = session
        self._settings = settings
        self._binding = binding
        self._file = file
        self._lock = asyncio.Lock()
        self._url: str | None = None

    async def post(self, url: str, payload: dict[str, Any] | None, **how: Any) -> Answer:
        """As :meth:`Session.post`; registers anew where the CA does not know the account any more."""
        kid = await self.url()
        try:
            return await self._session.post(url, payload, kid=kid, **how)
        except Problem as problem:
            if problem.kind != "accountDoesNotExist":
                raise
        async with self._lock:
            if self._url == kid:
                self._url = None
                await asyncio.to_thread(self._forget)
        return await self._session.post(url, payload, kid=await self.url(), **how)

    async def url(self) -> str:
        """The account's URL. Raises Problem, Unavailable or TermsNotAgreed where there is none yet."""
        async with self._lock:
            if self._url is None:
                self._url = await asyncio.to_thread(self._read)
            if self._url is None:
                self._url = await self._register()
                await asyncio.to_thread(self._write, self._url)
            return self._url

    async def _register(self) -> str:
        """newAccount: the account that this key has, or a new one; so it does no harm to ask twice."""
        directory = await self._session.directory()
        terms = directory.meta.terms_of_service
        if terms is not None and not self._settings.agree_to_terms:
            raise TermsNotAgreed(terms)
        payload: dict[str, Any] = {}
        if self._settings.contact:
            payload["contact"] = list(self._settings.contact)
        if self._settings.agree_to_terms:
            payload["termsOfServiceAgreed"] = True
        if self._binding is not None:
            binding = self._session.key.bound(directory.new_account, self._binding.kid, self._binding.hmac_key)
            payload["externalAccountBinding"] = binding
        answer = await self._session.post(directory.new_account, payload, kid=None)
        if "location" not in answer.headers:
            raise no_sense()
        return shaped(Located, {"url": answer.headers["location"]}).url

    def _read(self) -> str | None:
        if self._file is None:
            return None
        try:
            kept = _Kept.model_validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            return None  # it is found again by the key
        mine = (str(self._settings.directory), self._session.key.thumbprint)
        return kept.url if (kept.directory, kept.thumbprint) == mine else None

    def _write(self, url: str) -> None:
        if self._file is None:
            return
        kept = {"directory": self._settings.directory, "thumbprint": self._session.key.thumbprint, "url": url}
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._file.with_name(f".{self._file.name}.{secrets.token_hex(8)}")
        try:
            new.write_text(json.dumps(kept), encoding="utf-8")
            new.replace(self._file)
        finally:
            new.unlink(missing_ok=True)

    def _forget(self) -> None:
        if self._file is not None:
            self._file.unlink(missing_ok=True)


def kept_key(path: Path) -> AccountKey:
    """The key in a file of the state directory, made where there is none. Several processes may start at once.

    Raises OSError, and ValueError for a file that holds something else.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(new_account_key_pem())
                file.flush()
                os.fsync(file.fileno())
            path.hardlink_to(new)  # whole or not at all, and never over another one's
        except FileExistsError:
            pass
        finally:
            new.unlink(missing_ok=True)
        sync_directory(path.parent)
    return load_account_key(path.read_bytes())


def read_binding(settings: AcmeSettings, services: Services) -> ExternalBinding | None:
    """The external account binding of the settings. Raises ConfigurationError, with nothing of the key in it."""
    if settings.eab_kid is None:
        return None
    if settings.eab_key_env is not None:
        where, text = settings.eab_key_env, os.environ.get(settings.eab_key_env, "")
        if not text:
            raise ConfigurationError(where, "this environment variable, for the HMAC key, is not set")
    else:
        path = services.base_dir / str(settings.eab_key_file)
        where, text = str(path), read_secret_file(path, services).decode("ascii", "replace")
    try:
        hmac_key = _base64url(text.strip())
    except ValueError:
        raise ConfigurationError(where, "does not hold an HMAC key in base64url, as CAs hand it out") from None
    if len(hmac_key) < _SHORTEST_HMAC_KEY_BYTES:
        raise ConfigurationError(where, f"holds an HMAC key of fewer than {_SHORTEST_HMAC_KEY_BYTES} bytes")
    return ExternalBinding(settings.eab_kid, hmac_key)


def _base64url(text: str) -> bytes:
    """Raises ValueError. The standard alphabet is taken too, for some CAs write that."""
    try:
        bare = text.rstrip("=").translate(str.maketrans("-_", "+/"))
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError from error
