"""What is looked at and made when kipuka starts. Every problem is a ConfigurationError that names the key."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives.serialization import Encoding

from kipuka_acme.account import Account, TermsNotAgreed, kept_key, read_binding
from kipuka_acme.chains import Chains, load_chains
from kipuka_acme.challenges import Solver
from kipuka_acme.dns01 import DnsHook
from kipuka_acme.http import open_http
from kipuka_acme.http01 import Webroot, open_responder
from kipuka_acme.jws import AccountKey, load_account_key, new_account_key_pem
from kipuka_acme.problems import Problem, refusal
from kipuka_acme.session import Session
from kipuka_acme.settings import AcmeSettings, host_and_port
from kipuka_core import ConfigurationError, RequestRefused, Services, Unavailable, read_certificates, read_secret_file


class Opening:
    """Opens one ``[[ca]]`` table; what has to be closed is put on ``stack``."""

    def __init__(self, settings: AcmeSettings, services: Services, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._services = services
        self._stack = stack
        self._table = f"ca.{settings.id}" if settings.id else "ca"
        self._warned: set[str] = set()
        self._own_directory = services.state_dir / "acme" / (settings.id or "acme")

    async def chains(self) -> Chains:
        """The CA's certificates."""
        return await asyncio.to_thread(load_chains, self._settings.chain, self._services, f"{self._table}.chain")

    async def session(self) -> Session:
        """The way to the CA, and the account's key."""
        files, where = self._settings.trust_anchors, f"{self._table}.trust_anchors"
        anchors = await asyncio.to_thread(read_certificates, files, self._services, where)
        pems = [each.public_bytes(Encoding.PEM) for each in anchors]
        http = await self._stack.enter_async_context(open_http(self._timeout_seconds, pems))
        return Session(http, self._settings.directory, await asyncio.to_thread(self._key))

    async def account(self, session: Session) -> Account:
        """Registered already, where the CA can be reached: what it does not accept stops the start."""
        binding = await asyncio.to_thread(read_binding, self._settings, self._services)
        dry_run = self._services.dry_run
        account = Account(session, self._settings, binding, None if dry_run else self._own_directory / "account.json")
        if dry_run:
            return account
        try:
            await account.url()
            if self._settings.profile is not None:
                await self._check_profile(session, self._settings.profile)
        except TermsNotAgreed as error:
            self._refuse("agree_to_terms", f"the CA has terms of service; read {error.url} and agree to them with true")
        except Problem as problem:
            if not problem.is_refusal and not problem.is_of_the_account:
                self._warn_away(refusal(problem))
                return account
            setting = "eab_kid" if problem.kind == "externalAccountRequired" else "directory"
            self._refuse(setting, f"the CA does not accept the account: {problem.text}")
        except Unavailable as error:
            self._warn_away(error)
        except OSError as error:
            self._refuse("id", f"{self._own_directory} cannot be written: {error.strerror}")
        return account

    async def solvers(self, thumbprint: str) -> Sequence[Solver]:
        """Who answers challenges."""
        settings, found = self._settings, list[Solver]()
        if settings.http_listen is not None and not self._services.dry_run:
            host, port = host_and_port(settings.http_listen)
            try:
                found.append(await self._stack.enter_async_context(open_responder(host, port, thumbprint)))
            except OSError as error:
                self._refuse("http_listen", f"{settings.http_listen} cannot be listened on: {error.strerror}")
        if settings.http_webroot is not None:
            webroot = self._services.base_dir / settings.http_webroot
            if not webroot.is_dir():
                self._refuse("http_webroot", f"{webroot} is not a directory")
            found.append(Webroot(webroot, self._services))
        if settings.dns_hook is not None:
            program = self._services.base_dir / settings.dns_hook
            if not os.access(program, os.X_OK) or not program.is_file():
                self._refuse("dns_hook", f"{program} is not a program that can be run")
            wait_seconds = settings.dns_wait or 0
            found.append(DnsHook(program, wait_seconds=wait_seconds, timeout_seconds=self._timeout_seconds))
        return found

    def warn_once(self, message: str) -> None:
        """Something went wrong while kipuka serves, and may go wrong a thousand times."""
        if message not in self._warned:
            self._warned.add(message)
            self._services.warn(f"{self._table}: {message}")

    def _warn_away(self, error: RequestRefused) -> None:
        self._services.warn(f"{self._table}.directory: {error.reason}; it is asked again when it is needed")

    @property
    def _timeout_seconds(self) -> float:
        """Never longer than a call of the core, or the core would know less than this backend."""
        return min(self._settings.timeout, self._services.call_timeout_seconds * 0.8)

    def _key(self) -> AccountKey:
        configured = self._settings.account_key
        if configured is not None:
            path = self._services.base_dir / configured
            pem = read_secret_file(path, self._services)
        else:
            path = self._own_directory / "account-key.pem"
            if self._services.dry_run and not path.exists():
                return load_account_key(new_account_key_pem())
            return self._kept(path)
        try:
            return load_account_key(pem)
        except ValueError as error:
            self._refuse("account_key", f"{path} {error}")

    def _kept(self, path: Path) -> AccountKey:
        try:
            return kept_key(path)
        except ValueError as error:
            self._refuse("account_key", f"{path} {error}; it is kipuka's own: put it back from a backup, or remove it")
        except OSError as error:
            self._refuse("account_key", f"{path} cannot be made: {error.strerror}")

    async def _check_profile(self, session: Session, profile: str) -> None:
        offered = (await session.directory()).meta.profiles
        if profile not in offered:
            known = ", ".join(sorted(offered)) or "none"
            self._refuse("profile", f"the CA does not offer the profile {profile!r}; it offers: {known}")

    def _refuse(self, setting: str, problem: str) -> NoReturn:
        raise ConfigurationError(f"{self._table}.{setting}", problem) from None
